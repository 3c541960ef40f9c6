// A Kafka broker of one node, on zerocopy: an example and a benchmark. No replication, no groups, no
// transactions, no retention, no fsync: a message that was acknowledged survives the process, not the
// machine. Whoever needs more runs Kafka itself.
import { createServer } from 'node:net';
import { transfer } from 'zerocopy';
import { decode, encode, ProtocolError } from './codec.mjs';
import { Connection } from './connection.mjs';
import { handlers, unsupportedVersion } from './handlers.mjs';
import { takeBatch } from './produce.mjs';
import { apis, REQUEST_HEADER } from './protocol.mjs';
import { Topics } from './topics.mjs';

const IDLE_MS = 600_000;

/** How a broker may differ. Sizes are in bytes. */
const DEFAULTS = {
  segmentBytes: 1024 ** 3,
  partitions: 1,
  /** Batches of so many bytes go from the socket to the segment by splice, smaller ones through memory. */
  spliceFrom: 512 * 1024,
  maxBatchBytes: 16 * 1024 * 1024,
  log: () => {},
  /** Sends a gather list. */
  send: (segments, socket) => transfer(segments, socket),
};

/**
 * Opens the log in `folder`, which is made if need be.
 * @param {Partial<typeof DEFAULTS> & { folder: string }} options
 */
export async function openBroker({ folder, ...given }) {
  const options = { ...DEFAULTS, ...given };
  return new Broker(await Topics.open(folder, options), options);
}

class Broker {
  topics;
  options;
  /** To be told where to listen. */
  server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => this.#accept(socket));
  #clients = new Map();

  constructor(topics, options) {
    this.topics = topics;
    this.options = options;
  }

  /** Cuts off its clients, and closes its files. */
  async close() {
    this.server.close();
    for (const socket of this.#clients.keys()) socket.destroy();
    await Promise.all(this.#clients.values());
    await this.topics.close();
  }

  #accept(socket) {
    const served = this.#serve(new Connection(socket)).finally(() => this.#clients.delete(socket));
    this.#clients.set(socket, served);
  }

  async #serve(connection) {
    const { socket, peer } = connection;
    socket.setTimeout(IDLE_MS, () => socket.destroy());
    try {
      for (;;) {
        const frame = await connection.nextFrame();
        if (!frame) break;
        await this.#answer(connection, frame);
      }
      socket.end();
    } catch (error) {
      this.options.log(`closed ${peer}: ${error.message}`);
      socket.destroy();
    }
  }

  /** One request at a time: answers go in the order of requests. */
  async #answer(connection, frame) {
    const header = await decode(frame, REQUEST_HEADER, 0);
    const { api_key: key, api_version: version, correlation_id: id } = header;
    const { name, request, response, versions } = apis.get(key) ?? {};
    if (!name) throw new ProtocolError(`API ${key} is not known`);
    if (version < versions[0] || version > versions[1]) {
      if (name !== 'ApiVersions') throw new ProtocolError(`${name} ${version} is not known`);
      // Whoever asks what is known can't know it yet, but understands version 0.
      await frame.skipRest();
      return this.#send(connection, encode(id, response, 0, unsupportedVersion()));
    }
    if (name !== 'Produce') await frame.load();
    const take = (records) => takeBatch(this, connection, frame, records);
    const asked = await decode(frame, request, version, take);
    frame.mustBeOver();
    const answer = await handlers[name](this, asked, connection, version);
    if (answer) await this.#send(connection, encode(id, response, version, answer), name);
  }

  async #send({ socket }, segments, name) {
    const { backend } = await this.options.send(segments, socket);
    if (name !== 'Fetch') return;
    const ranges = segments.filter((segment) => 'file' in segment);
    const bytes = ranges.reduce((sum, { length }) => sum + length, 0);
    const partitions = ranges.length === 1 ? 'partition' : 'partitions';
    this.options.log(`fetch: ${bytes} bytes in ${ranges.length} ${partitions} by ${backend}`);
  }
}
