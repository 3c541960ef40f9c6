// A trial: sends each file over a connection of its own, all at once, and prints the readings.
//
//   node send.mjs '{"way":"transfer","port":1234,"files":["/…"],"warmUp":"/…","loopDelay":false}'
import { setTimeout } from 'node:timers/promises';
import { connectMany } from '../lib/connect.mjs';
import { startReadings } from '../lib/readings.mjs';
import { ways } from '../lib/ways.mjs';

/** Time for what the warm-up left behind: closing, collecting. */
const SETTLE_MS = 50;

const { way, host, port, files, warmUp, loopDelay = false } = JSON.parse(process.argv[2]);
const send = ways[way];

const [warmUpSocket] = await connectMany(port, 1, host);
await send(warmUp, warmUpSocket);

const sockets = await connectMany(port, files.length, host);
await setTimeout(SETTLE_MS);

const stopReadings = startReadings(loopDelay);
const backends = await Promise.all(files.map((file, index) => send(file, sockets[index])));
const readings = stopReadings();

const bytes = sockets.reduce((sum, socket) => sum + socket.bytesWritten, 0);
console.log(JSON.stringify({ way, backend: [...new Set(backends)].join(), bytes, ...readings }));
