// A Kafka broker of one node that serves its log from the page cache.
//
//   node examples/kafka-log/main.mjs [port] [options]      (see examples/README.md)
//
// It asks nobody who they are: it listens on the loopback interface unless told otherwise.
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { openBroker } from './broker.mjs';

const KAFKA_PORT = 9092;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    host: { type: 'string', default: '127.0.0.1' },
    data: { type: 'string' },
    partitions: { type: 'string' },
    'segment-bytes': { type: 'string' },
    'splice-from': { type: 'string' },
    'max-batch-bytes': { type: 'string' },
    verbose: { type: 'boolean' },
  },
});

/** @param {string} name of an option; undefined where it wasn't given */
function number(name, most = Number.MAX_SAFE_INTEGER) {
  const value = values[name];
  if (value === undefined) return undefined;
  if (!/^\d+$/.test(value) || Number(value) > most || Number(value) === 0) {
    throw new Error(`--${name}: ${value} is not a number from 1 to ${most}`);
  }
  return Number(value);
}

const MOST_BYTES = 2 ** 31 - 1; // lengths and positions are 32 bits wide
const given = {
  partitions: number('partitions', 10_000),
  segmentBytes: number('segment-bytes', MOST_BYTES),
  spliceFrom: number('splice-from'),
  maxBatchBytes: number('max-batch-bytes', MOST_BYTES),
};
const options = Object.fromEntries(Object.entries(given).filter(([, value]) => value));

const folder = values.data ?? mkdtempSync(path.join(tmpdir(), 'kafka-log-'));
if (values.data === undefined) process.on('exit', () => rmSync(folder, { recursive: true }));

const log = values.verbose ? console.error : () => {};
const broker = await openBroker({ folder, log, ...options });
process.once('SIGTERM', stop).once('SIGINT', stop);

async function stop() {
  await broker.close();
  process.exit();
}

broker.server.listen(Number(positionals[0] ?? KAFKA_PORT), values.host);
await once(broker.server, 'listening');
const { address, port } = broker.server.address();
const at = `${address}:${port}`;
console.log(`kafka-log listens on ${at}, its log is in ${folder}

  seq 1000000 | kcat -P -b ${at} -t numbers
  kcat -C -b ${at} -t numbers -o beginning -e -q | tail -3
  kcat -C -b ${at} -t numbers -o -3 -e
  kcat -L -b ${at}
`);
