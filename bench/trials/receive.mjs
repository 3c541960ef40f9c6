// A trial: receives what a source sends into a file, and prints the readings.
//
//   node receive.mjs '{"way":"transfer","port":1234,"warmUpPort":1235,"file":"/…"}'
import { once } from 'node:events';
import { createWriteStream, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import { transfer } from 'zerocopy';
import { startReadings } from '../lib/readings.mjs';

/** Time for what the warm-up left behind: closing, collecting. */
const SETTLE_MS = 50;

const { way, port, warmUpPort, file } = JSON.parse(process.argv[2]);

/** Each resolves to the backend that was used when the file has every byte and is closed. */
const ways = {
  transfer: async (socket, path) => (await transfer(socket, path)).backend,
  'pipe-to-file': async (socket, path) => {
    await once(socket.pipe(createWriteStream(path)), 'close');
    return 'stream';
  },
};

/** @param {number} from */
async function receive(from) {
  const socket = connect(from, '127.0.0.1');
  await once(socket, 'connect');
  const backend = await ways[way](socket, file);
  return { backend, bytes: socket.bytesRead };
}

await receive(warmUpPort);
rmSync(file);
await setTimeout(SETTLE_MS);

const stopReadings = startReadings(false);
const result = await receive(port);
const readings = stopReadings();
console.log(JSON.stringify({ ...result, ...readings }));
