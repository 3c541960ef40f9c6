// Prints what the process holds after each of some rounds of 1,000 relays at once.
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { relay } from 'zerocopy';

const [, , backend, rounds] = process.argv;
const bytes = Buffer.alloc(30_001, 1);

const server = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
await once(server, 'listening');
const { port } = server.address();

async function pair() {
  const accepted = once(server, 'connection');
  const near = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  const [peer] = await accepted;
  return { near, peer };
}

async function round() {
  const sockets = [];
  const relays = [];
  for (let i = 0; i < 1000; i++) {
    const [left, right] = [await pair(), await pair()];
    sockets.push(left.near, left.peer, right.near, right.peer);
    relays.push({ a: left.near, b: right.near, peers: [left.peer, right.peer] });
  }
  const results = relays.map(({ a, b }) => relay(a, b, { backend }));
  for (const { peers } of relays) for (const peer of peers) peer.resume().end(bytes);
  await Promise.all(results);
  await Promise.all(sockets.map((socket) => socket.destroyed || once(socket, 'close')));
}

const held = [];
for (let i = 0; i < Number(rounds); i++) {
  await round();
  await new Promise((resolve) => setTimeout(resolve, 100));
  globalThis.gc();
  const { rss, heapUsed } = process.memoryUsage();
  held.push({ rss, heapUsed, descriptors: readdirSync('/proc/self/fd').length });
}
console.log(JSON.stringify(held));
process.exit();
