// A trial: sends a file over one connection, again and again, and prints what each time took.
//
//   node repeat.mjs '{"way":"transfer","port":1234,"file":"/…","seconds":0.5}'
import { statSync } from 'node:fs';
import { connectMany } from '../lib/connect.mjs';
import { startReadings } from '../lib/readings.mjs';
import { waysKeptOpen } from '../lib/ways.mjs';

const { way, port, file, seconds } = JSON.parse(process.argv[2]);
const send = waysKeptOpen[way];
const [socket] = await connectMany(port, 1);
const { size } = statSync(file);

async function sendFor(duration) {
  const end = performance.now() + duration * 1000;
  let times = 0;
  let backend;
  for (; performance.now() < end || times === 0; times++) backend = await send(file, socket);
  return { times, backend };
}

const before = await sendFor(seconds); // compiled code is what a program runs
const stopReadings = startReadings(false);
const { times, backend } = await sendFor(seconds);
const { seconds: took, cpuSeconds } = stopReadings();
if (socket.bytesWritten !== (before.times + times) * size) throw new Error('Bytes are missing');
const result = {
  backend,
  perSecond: times / took,
  cpuMicrosecondsEach: (cpuSeconds / times) * 1e6,
};
process.stdout.write(JSON.stringify(result), () => process.exit());
