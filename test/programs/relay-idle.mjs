// Prints what 20 relays with nothing to do cost in 2 s. What they wait for is the first argument.
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { relay } from 'zerocopy';

const [, , state] = process.argv;
const BYTES = 100_000;
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function pair() {
  const server = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const near = connect({ port: server.address().port, host: '127.0.0.1', allowHalfOpen: true });
  const [peer] = await once(server, 'connection');
  if (near.connecting) await once(near, 'connect');
  server.close();
  return { near, peer };
}

async function receive(peer) {
  let missing = BYTES;
  peer.on('data', (chunk) => {
    missing -= chunk.length;
  });
  while (missing > 0) await sleep(5);
}

const relays = [];
for (let i = 0; i < 20; i++) {
  const [left, right] = [await pair(), await pair()];
  if (state === 'with timeouts') {
    for (const { near } of [left, right]) near.setTimeout(60_000);
  }
  const result = relay(left.near, right.near);
  left.peer.write(Buffer.alloc(BYTES));
  right.peer.write(Buffer.alloc(BYTES));
  await Promise.all([receive(left.peer), receive(right.peer)]);
  if (state === 'stuck') {
    for (const { peer } of [left, right]) {
      peer.pause();
      peer.write(Buffer.alloc(20_000_000));
    }
  }
  if (state === 'half-closed') left.peer.end();
  relays.push({ peers: [left.peer, right.peer], result });
}

// What warms up is not the relays'.
await sleep(1000);
async function cost() {
  const before = process.cpuUsage();
  await sleep(2000);
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}
let cpuMs = await cost();
// V8 collects what has warmed up once; what a relay costs would be there again.
if (cpuMs >= 20) cpuMs = await cost();

// Nothing more is to be written than has been: the peers' ends close what is relayed.
for (const { peers } of relays) {
  for (const peer of peers) {
    peer.resume();
    peer.end();
  }
}
const results = await Promise.all(relays.map(({ result }) => result));
console.log(
  JSON.stringify({
    cpuMs,
    backends: results.map(({ backend }) => backend),
  }),
);
