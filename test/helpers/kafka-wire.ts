// Kafka's protocol by hand, apart from the example's own codec: frames, bodies and record batches
// that may be as wrong as a test wants them, and answers of which every byte must be accounted for.
import * as fs from 'node:fs';
import { createRequire } from 'node:module';
import * as net from 'node:net';
import * as path from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect, onTestFinished } from 'vitest';
import { scratchFolder } from './files';
import { openDescriptors, until } from './process';
import { listenOnPort } from './sockets';

const load = createRequire(import.meta.url);
const crc32c = load('kafkajs/src/protocol/recordBatch/crc32C') as (bytes: Buffer) => number;

export const PRODUCE = 0;
export const FETCH = 1;
export const LIST_OFFSETS = 2;
export const METADATA = 3;
export const FIND_COORDINATOR = 10;
export const API_VERSIONS = 18;

/** What the broker announces: name, key, least and greatest version. */
export const APIS = [
  ['Produce', PRODUCE, 3, 7],
  ['Fetch', FETCH, 4, 11],
  ['ListOffsets', LIST_OFFSETS, 1, 3],
  ['Metadata', METADATA, 0, 5],
  ['FindCoordinator', FIND_COORDINATOR, 0, 1],
  ['ApiVersions', API_VERSIONS, 0, 2],
] as const;

// Encoding.

const written = (length: number, write: (bytes: Buffer) => void): Buffer => {
  const bytes = Buffer.alloc(length);
  write(bytes);
  return bytes;
};
export const int8 = (value: number) => written(1, (b) => b.writeInt8(value));
export const int16 = (value: number) => written(2, (b) => b.writeInt16BE(value));
export const int32 = (value: number) => written(4, (b) => b.writeInt32BE(value));
export const int64 = (value: number | bigint) =>
  written(8, (b) => b.writeBigInt64BE(BigInt(value)));
export const concat = (...parts: Buffer[]) => Buffer.concat(parts);
export const array = (items: Buffer[]) => concat(int32(items.length), ...items);
export function string(text: string | Buffer | null): Buffer {
  return text === null ? int16(-1) : concat(int16(Buffer.byteLength(text)), Buffer.from(text));
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, (BigInt(value) << 1n) ^ (BigInt(value) >> 63n));
  for (; rest > 0x7fn; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  return Buffer.from([...bytes, Number(rest)]);
}

export function frame(body: Buffer, length = body.length): Buffer {
  return concat(int32(length), body);
}

export function request(
  api: number,
  version: number,
  id: number,
  body: Buffer = Buffer.alloc(0),
): Buffer {
  return frame(concat(int16(api), int16(version), int32(id), string('test'), body));
}

export interface BatchOptions {
  values?: (string | Buffer)[];
  /** Instead of values: one, of so many zeros. */
  size?: number;
  timestamp?: number;
  // What it says of itself, where that isn't so:
  magic?: number;
  crc?: number;
  length?: number;
  count?: number;
  lastOffsetDelta?: number;
  baseOffset?: number;
}

/** A record batch v2. */
export function batch(options: BatchOptions = {}): Buffer {
  const { values = [Buffer.alloc(options.size ?? 10, 0x2e)], timestamp = 1_000_000 } = options;
  const { magic = 2, baseOffset = 0 } = options;
  const records = values.map((value, i) => {
    const content = Buffer.from(value);
    // attributes, timestamp delta, offset delta, no key, value, no headers
    const fields = [int8(0), varint(0), varint(i), varint(-1), varint(content.length), content];
    const record = concat(...fields, varint(0));
    return concat(varint(record.length), record);
  });
  const checked = concat(
    int16(0),
    int32(options.lastOffsetDelta ?? values.length - 1),
    int64(timestamp),
    int64(timestamp),
    int64(-1), // producer
    int16(-1),
    int32(-1),
    int32(options.count ?? values.length),
    ...records,
  );
  const crc = written(4, (b) => b.writeUInt32BE((options.crc ?? crc32c(checked)) >>> 0));
  const rest = concat(int32(0), int8(magic), crc, checked);
  return concat(int64(baseOffset), int32(options.length ?? rest.length), rest);
}

export interface Produced {
  topic: string | Buffer;
  partition?: number;
  records: Buffer | null;
}

export function produceBody(
  items: Produced[],
  { acks = -1, timeoutMs = 1000 }: { acks?: number; timeoutMs?: number } = {},
): Buffer {
  const topics = items.map(({ topic, partition = 0, records }) => {
    const bytes = records ? concat(int32(records.length), records) : int32(-1);
    return concat(string(topic), array([concat(int32(partition), bytes)]));
  });
  return concat(string(null), int16(acks), int32(timeoutMs), array(topics));
}

export interface Wanted {
  topic: string | Buffer;
  partition?: number;
  offset?: number | bigint;
  maxBytes?: number;
}

export interface FetchOptions {
  maxWaitMs?: number;
  minBytes?: number;
  maxBytes?: number;
}

export function fetchBody(version: number, items: Wanted[], options: FetchOptions = {}): Buffer {
  const { maxWaitMs = 0, minBytes = 0, maxBytes = 0x7fffffff } = options;
  const topics = items.map(({ topic, partition = 0, offset = 0, maxBytes: most = 0x7fffffff }) => {
    const fields = [int32(partition)];
    if (version >= 9) fields.push(int32(-1)); // leader epoch
    fields.push(int64(offset));
    if (version >= 5) fields.push(int64(-1)); // log start
    return concat(string(topic), array([concat(...fields, int32(most))]));
  });
  const fields = [int32(-1), int32(maxWaitMs), int32(minBytes), int32(maxBytes), int8(1)];
  if (version >= 7) fields.push(int32(0), int32(-1)); // no session
  fields.push(array(topics));
  if (version >= 7) fields.push(array([])); // forgotten topics
  if (version >= 11) fields.push(string('')); // rack
  return concat(...fields);
}

export function listOffsetsBody(
  version: number,
  items: { topic: string; partition?: number; timestamp: number }[],
): Buffer {
  const topics = items.map(({ topic, partition = 0, timestamp }) =>
    concat(string(topic), array([concat(int32(partition), int64(timestamp))])),
  );
  return concat(int32(-1), ...(version >= 2 ? [int8(1)] : []), array(topics));
}

export function metadataBody(
  version: number,
  topics: (string | Buffer)[] | null,
  allowCreation = true,
): Buffer {
  const names = topics ? array(topics.map(string)) : int32(version === 0 ? 0 : -1);
  return version >= 4 ? concat(names, int8(allowCreation ? 1 : 0)) : names;
}

export function findCoordinatorBody(version: number, key: string): Buffer {
  return version >= 1 ? concat(string(key), int8(0)) : string(key);
}

// Decoding.

/** Reads an answer from its beginning to its very end. */
class Reader {
  offset = 0;
  constructor(readonly bytes: Buffer) {}
  take(length: number): Buffer {
    const end = this.offset + length;
    if (length < 0 || end > this.bytes.length) throw new RangeError('The answer is too short');
    const taken = this.bytes.subarray(this.offset, end);
    this.offset = end;
    return taken;
  }
  int8 = () => this.take(1).readInt8();
  int16 = () => this.take(2).readInt16BE();
  int32 = () => this.take(4).readInt32BE();
  int64 = () => Number(this.take(8).readBigInt64BE());
  string(): string | null {
    const length = this.int16();
    return length < 0 ? null : this.take(length).toString();
  }
  array<T>(item: () => T): T[] {
    const length = this.int32();
    return Array.from({ length: Math.max(length, 0) }, item);
  }
  varint(): number {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = this.take(1).readUInt8();
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return Number((value >> 1n) ^ -(value & 1n));
    }
  }
  get done(): boolean {
    return this.offset === this.bytes.length;
  }
}

function whole<T>(bytes: Buffer, read: (reader: Reader) => T): T {
  const reader = new Reader(bytes);
  const value = read(reader);
  if (!reader.done) throw new Error(`${bytes.length - reader.offset} bytes too many in an answer`);
  return value;
}

export function readApiVersions(version: number, bytes: Buffer) {
  return whole(bytes, (r) => ({
    error: r.int16(),
    apis: r.array(() => ({ key: r.int16(), min: r.int16(), max: r.int16() })),
    throttleMs: version >= 1 ? r.int32() : 0,
  }));
}

export function readMetadata(version: number, bytes: Buffer) {
  return whole(bytes, (r) => {
    const throttleMs = version >= 3 ? r.int32() : 0;
    const brokers = r.array(() => ({
      id: r.int32(),
      host: r.string(),
      port: r.int32(),
      rack: version >= 1 ? r.string() : null,
    }));
    const cluster = version >= 2 ? r.string() : null;
    const controller = version >= 1 ? r.int32() : undefined;
    const topics = r.array(() => ({
      error: r.int16(),
      name: r.string(),
      internal: version >= 1 ? r.int8() : 0,
      partitions: r.array(() => ({
        error: r.int16(),
        id: r.int32(),
        leader: r.int32(),
        replicas: r.array(r.int32),
        inSync: r.array(r.int32),
        offline: version >= 5 ? r.array(r.int32) : [],
      })),
    }));
    return { throttleMs, brokers, cluster, controller, topics };
  });
}

export function readProduce(version: number, bytes: Buffer) {
  return whole(bytes, (r) => {
    const topics = r.array(() => ({
      topic: r.string(),
      partitions: r.array(() => ({
        partition: r.int32(),
        error: r.int16(),
        baseOffset: r.int64(),
        appendTime: r.int64(),
        logStart: version >= 5 ? r.int64() : 0,
      })),
    }));
    return { topics, throttleMs: r.int32() };
  });
}

export function readFetch(version: number, bytes: Buffer) {
  return whole(bytes, (r) => ({
    throttleMs: r.int32(),
    error: version >= 7 ? r.int16() : 0,
    session: version >= 7 ? r.int32() : 0,
    topics: r.array(() => ({
      topic: r.string(),
      partitions: r.array(() => ({
        partition: r.int32(),
        error: r.int16(),
        highWatermark: r.int64(),
        lastStable: r.int64(),
        logStart: version >= 5 ? r.int64() : 0,
        aborted: r.array(() => [r.int64(), r.int64()]),
        preferredReplica: version >= 11 ? r.int32() : -1,
        records: r.take(Math.max(r.int32(), 0)),
      })),
    })),
  }));
}

export function readListOffsets(version: number, bytes: Buffer) {
  return whole(bytes, (r) => ({
    throttleMs: version >= 2 ? r.int32() : 0,
    topics: r.array(() => ({
      topic: r.string(),
      partitions: r.array(() => ({
        partition: r.int32(),
        error: r.int16(),
        timestamp: r.int64(),
        offset: r.int64(),
      })),
    })),
  }));
}

export function readFindCoordinator(version: number, bytes: Buffer) {
  return whole(bytes, (r) => ({
    throttleMs: version >= 1 ? r.int32() : 0,
    error: r.int16(),
    message: version >= 1 ? r.string() : null,
    node: r.int32(),
    host: r.string(),
    port: r.int32(),
  }));
}

export interface StoredBatch {
  baseOffset: number;
  lastOffset: number;
  bytes: Buffer;
  values: Buffer[];
}

/** Whole batches with good CRCs and offsets one after the other, and nothing else. */
export function readBatches(bytes: Buffer): StoredBatch[] {
  const batches: StoredBatch[] = [];
  for (let at = 0; at < bytes.length; ) {
    const baseOffset = Number(bytes.readBigInt64BE(at));
    const end = at + 12 + bytes.readInt32BE(at + 8);
    if (end > bytes.length) throw new Error(`A part of a batch at byte ${at}`);
    const one = bytes.subarray(at, end);
    if (one.readUInt32BE(17) !== crc32c(one.subarray(21)) >>> 0) {
      throw new Error(`A bad CRC in the batch of offset ${baseOffset}`);
    }
    const previous = batches.at(-1);
    if (previous && baseOffset !== previous.lastOffset + 1) {
      throw new Error(`Offset ${baseOffset} after ${previous.lastOffset}`);
    }
    const values = whole(one.subarray(61), (r) =>
      Array.from({ length: one.readInt32BE(57) }, () =>
        whole(r.take(r.varint()), (record) => {
          record.int8();
          record.varint();
          record.varint();
          record.take(Math.max(record.varint(), 0));
          const value = record.take(Math.max(record.varint(), 0));
          if (record.varint() !== 0) throw new Error('Headers');
          return value;
        }),
      ),
    );
    batches.push({ baseOffset, lastOffset: baseOffset + one.readInt32BE(23), bytes: one, values });
    at = end;
  }
  return batches;
}

// The client.

/** A connection to a broker. Answers may be awaited in any order, and are kept in theirs. */
export class Client {
  readonly socket: net.Socket;
  /** Correlation ids of the answers, as they came. */
  readonly arrived: number[] = [];
  /** How the connection ended: `end`, `close`, or the code of an error. */
  readonly ended: Promise<string>;
  #answers = new Map<number, Buffer>();
  #pending = Buffer.alloc(0);
  #chunks: Buffer[] = [];
  #size = 0;
  /** The same, once it is known. */
  gone = '';
  #wake = new Set<() => void>();
  #lastId = 0;

  /** With `raw`, what arrives is left in the socket. */
  constructor(port: number, { raw = false } = {}) {
    this.socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
    onTestFinished(() => {
      this.socket.destroy();
    });
    if (!raw) this.socket.on('data', (chunk: Buffer) => this.#take(chunk));
    this.ended = new Promise((resolve) => {
      const over = (how: string) => {
        this.gone ||= how;
        resolve(this.gone);
        this.#tell();
      };
      this.socket.on('error', (error: NodeJS.ErrnoException) => over(error.code ?? error.message));
      this.socket.on('end', () => over('end'));
      this.socket.on('close', () => over('close'));
    });
  }

  #tell() {
    for (const wake of this.#wake) wake();
    this.#wake.clear();
  }

  #take(chunk: Buffer) {
    this.#chunks.push(chunk);
    this.#size += chunk.length;
    for (;;) {
      if (this.#size < 4) return;
      if (this.#pending.length < 4) this.#join();
      const length = this.#pending.readInt32BE();
      if (this.#size < 4 + length) return;
      this.#join();
      const body = this.#pending.subarray(4, 4 + length);
      this.#pending = this.#pending.subarray(4 + length);
      this.#size -= 4 + length;
      this.arrived.push(body.readInt32BE());
      this.#answers.set(body.readInt32BE(), body.subarray(4));
      this.#tell();
    }
  }

  #join() {
    this.#pending = Buffer.concat([this.#pending, ...this.#chunks]);
    this.#chunks = [];
  }

  /** Bytes that have come since the last whole answer. */
  get unfinished(): number {
    return this.#size;
  }

  write(bytes: Buffer): void {
    this.socket.write(bytes);
  }

  /** Sends a request and returns its correlation id. */
  send(api: number, version: number, body?: Buffer): number {
    const id = ++this.#lastId;
    this.write(request(api, version, id, body));
    return id;
  }

  async answer(id: number): Promise<Buffer> {
    for (;;) {
      const answer = this.#answers.get(id);
      if (answer) {
        this.#answers.delete(id);
        return answer;
      }
      if (this.gone) throw new Error(`No answer ${id}: ${this.gone}`);
      await new Promise<void>((resolve) => this.#wake.add(resolve));
    }
  }

  ask(api: number, version: number, body?: Buffer): Promise<Buffer> {
    return this.answer(this.send(api, version, body));
  }

  async apiVersions() {
    return readApiVersions(2, await this.ask(API_VERSIONS, 2));
  }

  async metadata(topics: (string | Buffer)[] | null, allowCreation = true) {
    return readMetadata(5, await this.ask(METADATA, 5, metadataBody(5, topics, allowCreation)));
  }

  /** Of one batch: error code and base offset. */
  async produce(topic: string | Buffer, records: Buffer | null, partition = 0, acks = -1) {
    const body = produceBody([{ topic, partition, records }], { acks });
    const answer = readProduce(7, await this.ask(PRODUCE, 7, body));
    return onlyPartition(answer);
  }

  async fetch(items: Wanted[], options?: FetchOptions) {
    return readFetch(11, await this.ask(FETCH, 11, fetchBody(11, items, options)));
  }

  /** Of one partition. */
  async read(topic: string | Buffer, offset: number | bigint = 0, options?: FetchOptions) {
    return onlyPartition(await this.fetch([{ topic, offset }], options));
  }

  async listOffset(topic: string, timestamp: number, partition = 0) {
    const body = listOffsetsBody(3, [{ topic, partition, timestamp }]);
    return onlyPartition(readListOffsets(3, await this.ask(LIST_OFFSETS, 3, body)));
  }

  close(): void {
    this.socket.destroy();
  }
}

export function onlyPartition<T>(answer: { topics: { partitions: T[] }[] }): T {
  const [only, ...more] = answer.topics.flatMap(({ partitions }) => partitions);
  if (!only || more.length > 0) throw new Error('Not one partition');
  return only;
}

// The broker, in this process.

export interface BrokerOptions {
  folder?: string;
  segmentBytes?: number;
  partitions?: number;
  spliceFrom?: number;
  maxBatchBytes?: number;
  log?: (line: string) => void;
}

interface OpenBroker {
  server: net.Server;
  close(): Promise<void>;
}

export interface Broker {
  port: number;
  folder: string;
  /** What it has logged. */
  lines: string[];
  connect(options?: { raw: boolean }): Client;
  /** Also when the test is over. */
  close(): Promise<void>;
}

/** Opens a broker that goes with the test. */
export async function openBroker(options: BrokerOptions = {}): Promise<Broker> {
  const url = pathToFileURL(path.resolve('examples/kafka-log/broker.mjs')).href;
  const module = (await import(url)) as {
    openBroker(options: BrokerOptions & { folder: string }): Promise<OpenBroker>;
  };
  const folder = options.folder ?? path.join(scratchFolder(), 'log');
  fs.mkdirSync(folder, { recursive: true });
  const lines: string[] = [];
  const broker = await module.openBroker({ log: (line) => lines.push(line), ...options, folder });
  let closing: Promise<void> | undefined;
  const close = () => {
    closing ??= broker.close();
    return closing;
  };
  onTestFinished(close);
  const port = await listenOnPort(broker.server);
  return { port, folder, lines, connect: (how) => new Client(port, how), close };
}

/** For each way of a batch to the log: where splice begins, and a size that takes it. */
export const ways = [
  { way: 'splice', spliceFrom: 1024, size: 300_000 },
  { way: 'memory', spliceFrom: Number.POSITIVE_INFINITY, size: 300_000 },
] as const;

export interface Log extends Broker {
  /** What was acked before, and must stay. */
  first: Buffer;
}

/** A broker that has a topic `t` with one batch of two records. */
export async function openLog(options: BrokerOptions = {}): Promise<Log> {
  const broker = await openBroker(options);
  const client = broker.connect();
  await client.metadata(['t']);
  expect(await client.produce('t', batch({ values: ['a', 'b'] }))).toMatchObject({ error: 0 });
  client.close();
  return { ...broker, first: logOf(broker.folder, 't') };
}

/** Fails unless a broker answers, and its topic `t` is what it was. */
export async function expectUntouched(log: Log) {
  const client = log.connect();
  expect((await client.apiVersions()).error).toBe(0);
  const { error, highWatermark, records } = await client.read('t');
  expect({ error, highWatermark }).toEqual({ error: 0, highWatermark: 2 });
  expect(records.equals(log.first)).toBe(true);
  // What was spliced in part is cut off in a moment.
  await until(() => logOf(log.folder, 't').equals(log.first), 'the log is clean');
  client.close();
}

/** Runs `work`; then the process must come to as many descriptors and timers as before. */
export async function leavesNothing(
  work: () => Promise<void>,
  { folder }: { folder?: string } = {},
) {
  // Each segment is open for as long as the broker is.
  const segmentsOf = () => (folder ? tree(folder).filter((name) => /\.log:/.test(name)).length : 0);
  const count = () => ({
    descriptors: openDescriptors() - segmentsOf(),
    timers: process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length,
  });
  const before = count();
  await work();
  let now = before;
  const isBack = () => {
    now = count();
    return now.descriptors <= before.descriptors && now.timers <= before.timers + 1; // its own
  };
  await until(isBack, 'all is let go').catch(() => expect(now).toEqual(before));
}

// Its files.

export const partitionFolder = (folder: string, topic: string, partition = 0) =>
  path.join(folder, `${topic}-${partition}`);

/** Paths of a partition's segments, in their order. */
export function segments(folder: string, topic: string, partition = 0): string[] {
  const own = partitionFolder(folder, topic, partition);
  const names = fs.readdirSync(own).filter((name) => /^\d{20}\.log$/.test(name));
  return names.sort().map((name) => path.join(own, name));
}

/** All bytes of a partition's log. */
export function logOf(folder: string, topic: string, partition = 0): Buffer {
  return concat(...segments(folder, topic, partition).map((file) => fs.readFileSync(file)));
}

/** Everything below a folder, with sizes of files. */
export function tree(folder: string): string[] {
  return fs
    .readdirSync(folder, { recursive: true, withFileTypes: true })
    .map((entry) => {
      const full = path.join(entry.parentPath, entry.name);
      const name = path.relative(folder, full);
      return entry.isFile() ? `${name}: ${fs.statSync(full).size}` : `${name}/`;
    })
    .sort();
}

/** Waits for a line of a broker's log. */
export async function logged({ lines }: Broker, line: RegExp): Promise<string> {
  await until(() => lines.some((text) => line.test(text)), `it logs ${line}: ${lines.join('\n')}`);
  return lines.find((text) => line.test(text)) as string;
}

// kafkajs's side.

interface KafkajsApi {
  request: { encode(): Promise<{ buffer: Buffer }>; apiVersion: number; apiKey: number };
  response: { decode(bytes: Buffer): Promise<unknown> };
}

/** kafkajs's request for an API in a version, as a frame, and its decoder of the answer. */
export async function kafkajsRequest(name: string, version: number, id: number, args: object) {
  const { requests } = load('kafkajs/src/protocol/requests') as {
    requests: Record<
      string,
      { protocol(of: { version: number }): (args: object) => KafkajsApi } | undefined
    >;
  };
  const encodeFrame = load('kafkajs/src/protocol/request') as (of: object) => Promise<{
    buffer: Buffer;
  }>;
  const definition = requests[name === 'FindCoordinator' ? 'GroupCoordinator' : name];
  if (!definition) throw new Error(`kafkajs has no ${name}`);
  const { request, response } = definition.protocol({ version })(args);
  const { buffer } = await encodeFrame({ correlationId: id, clientId: 'test', request });
  return { bytes: Buffer.from(buffer), decode: response.decode };
}
