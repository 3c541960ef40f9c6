// A trial: sends two resident files, one after the other, again and again, beside 64 transfers of other
// files, and prints how long they took.
//
//   node cold.mjs '{"how":"transfer","port":1234,"seconds":5,"hot":["/…","/…"],
//     "beside":{"folder":"/…","files":1000},"paceMs":0}'
//
// `beside`: a folder with files 0, 1, ..., which are sent in turns; or nothing is. With `paceMs` each of
// the 64 begins another one so long after the one before.
import { statSync } from 'node:fs';
import path from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { connectMany } from '../lib/connect.mjs';
import { startReadings } from '../lib/readings.mjs';
import { waysKeptOpen } from '../lib/ways.mjs';

const AT_ONCE = 64;
const HOT_INTERVAL_MS = 1;
const WARM_UP_MS = 2000;
/** Until what is beside has come to its pace. */
const SETTLE_MS = 500;

const { how, port, seconds, hot, beside, paceMs } = JSON.parse(process.argv[2]);

const send = waysKeptOpen[how];

let running = true;
let measured = false;
let next = 0;
let finished = 0;
const durations = [];
const backends = new Set();

async function sendBeside(socket) {
  while (running) {
    const file = path.join(beside.folder, `${next++ % beside.files}`);
    const began = performance.now();
    await send(file, socket);
    const took = performance.now() - began;
    if (measured) {
      finished += 1;
      durations.push(took);
    }
    if (paceMs > took) await setTimeout(paceMs - took);
  }
}

async function sendHot(file, socket) {
  const began = performance.now();
  backends.add(await send(file, socket));
  return performance.now() - began;
}

const percentile99 = (values) =>
  values.sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * 0.99))];

const sockets = await connectMany(port, hot.length + AT_ONCE);
const hotSockets = sockets.splice(0, hot.length);
if (beside) sockets.forEach(sendBeside);
let warmUps = 0;
for (const end = performance.now() + WARM_UP_MS; warmUps < 50 && performance.now() < end; warmUps++)
  await Promise.all(hot.map((file, j) => sendHot(file, hotSockets[j])));
await setTimeout(SETTLE_MS);

measured = true;
const times = hot.map(() => []);
const stopDelay = startReadings(true);
const stopReadings = startReadings(false);
let sent = 0;
for (const end = performance.now() + seconds * 1000; performance.now() < end; ) {
  for (const [i, file] of hot.entries()) times[i].push(await sendHot(file, hotSockets[i]));
  sent += 1;
  await setTimeout(HOT_INTERVAL_MS);
}
const { cpuSeconds, jsThreadSeconds, seconds: took } = stopReadings();
const { loopDelayP99Ms } = stopDelay();
running = false;

const bytes = hotSockets.reduce((sum, socket) => sum + socket.bytesWritten, 0);
const expected = hot.reduce((sum, file) => sum + statSync(file).size, 0) * (sent + warmUps);
if (bytes !== expected) throw new Error(`${bytes} bytes were sent, not ${expected}`);
const result = {
  backend: [...backends].join(),
  transfers: sent * hot.length,
  hotSmallP99Ms: percentile99(times[0]),
  hotLargeP99Ms: percentile99(times[1]),
  loopDelayP99Ms,
  cpuSeconds: cpuSeconds / took,
  jsThreadSeconds: jsThreadSeconds / took,
  ...(finished > 0 && {
    besidePerSecond: finished / took,
    besideMs: durations.reduce((sum, each) => sum + each, 0) / finished,
  }),
};
process.stdout.write(JSON.stringify(result), () => process.exit());
