// A Kafka log, until its input ends. The line `start` begins to measure, and `stop` prints the
// readings since.
//
//   node kafka.mjs '{"way":"transfer","folder":"/…","host":"127.0.0.1"}'
import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { transfer } from 'zerocopy';
import { openBroker } from '../../examples/kafka-log/broker.mjs';
import { startReadings } from '../lib/readings.mjs';

const KiB = 1024;

const { way, folder, host } = JSON.parse(process.argv[2]);

const backends = new Set();

/** As the broker does by itself, but noting the backend. */
async function byTransfer(segments, socket) {
  const result = await transfer(segments, socket);
  backends.add(result.backend);
  return result;
}

/** @param {number} highWaterMark */
function byStreams(highWaterMark) {
  backends.add('stream');
  return async (segments, socket) => {
    let transferred = 0;
    for (const segment of segments) {
      if (segment instanceof Uint8Array) socket.write(segment);
      else await pipeRange(segment, socket, highWaterMark);
      transferred += segment.length;
    }
    if (socket.writableNeedDrain) await once(socket, 'drain');
    return { transferred, backend: 'stream' };
  };
}

async function pipeRange({ file, offset, length }, socket, highWaterMark) {
  const stream = createReadStream('', {
    fd: file.fd, // streams read faster from it than from a FileHandle
    start: offset,
    end: offset + length - 1,
    autoClose: false,
    highWaterMark,
  });
  stream.pipe(socket, { end: false });
  await once(stream, 'end');
}

/** Notes by what backend batches were appended. @param {string} line */
function noteProduce(line) {
  const backend = /^produce .* by (\w+)$/.exec(line)?.[1];
  if (backend) backends.add(backend);
}

/** What makes the broker go each way. */
const ways = {
  transfer: () => ({ send: byTransfer }),
  'pipe-64k': () => ({ send: byStreams(64 * KiB) }),
  'pipe-256k': () => ({ send: byStreams(256 * KiB) }),
  'pipe-1m': () => ({ send: byStreams(1024 * KiB) }),
  'pipe-4m': () => ({ send: byStreams(4096 * KiB) }),
  'produce-splice': () => ({ spliceFrom: 0, log: noteProduce }),
  'produce-memory': () => ({ spliceFrom: Infinity, log: noteProduce }),
};

const broker = await openBroker({ folder, ...ways[way]() });
broker.server.listen(0, host, () => {
  console.log(JSON.stringify({ port: broker.server.address().port }));
});

let stopReadings;
const lines = createInterface({ input: process.stdin });
lines.on('line', (line) => {
  if (line === 'start') {
    stopReadings = startReadings(false);
    console.log('{}');
  } else {
    const { cpuSeconds, jsThreadSeconds } = stopReadings();
    const backend = [...backends].sort().join('+');
    console.log(JSON.stringify({ backend, cpuSeconds, jsThreadSeconds }));
  }
});
lines.on('close', async () => {
  await broker.close();
  process.exit();
});
