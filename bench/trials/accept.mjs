// A server that does the same with each connection, until its input ends.
//
//   node accept.mjs '{"way":"transfer","connections":64}'
//
// Prints its port. For each line "file /…", which is what it sends from then on, a line; for "begin" one, and for "end", when `connections` more of them have
// been closed, the readings of the time since.
import { createReadStream } from 'node:fs';
import * as net from 'node:net';
import { createInterface } from 'node:readline';
import { transfer } from 'zerocopy';
import { startReadings } from '../lib/readings.mjs';

const { way, connections } = JSON.parse(process.argv[2]);

let file;

const ways = {
  transfer: (socket) => transfer(file, socket, { endSink: true }),
  pipe: (socket) => createReadStream(file).pipe(socket),
  empty: (socket) => socket.end(),
};
const answer = ways[way];

let closed = 0;
let whenClosed = () => {};
const server = net.createServer((socket) => {
  socket.on('close', () => {
    closed += 1;
    whenClosed();
  });
  answer(socket);
});
server.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ port: server.address().port })));

let stopReadings;
for await (const line of createInterface({ input: process.stdin })) {
  if (line !== 'end') {
    if (line === 'begin') {
      closed = 0;
      stopReadings = startReadings(false);
    } else {
      file = line.slice('file '.length);
    }
    console.log('{}');
    continue;
  }
  await new Promise((resolve) => {
    whenClosed = () => closed >= connections && resolve();
    whenClosed();
  });
  const { cpuSeconds, jsThreadSeconds, seconds } = stopReadings();
  console.log(JSON.stringify({ seconds, cpuSeconds, jsThreadSeconds }));
}
process.exit();
