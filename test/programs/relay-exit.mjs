// Ends, in the way of the second argument, when a relay has reached the stage of the first.
import { listening, peersAt, relayAt } from './relay-ends.mjs';

const [, , stage, way] = process.argv;
const peers = [];
const server = (name) =>
  listening((peer) => {
    peers.push(peer);
    peersAt[stage](peer, name);
  });
const servers = [await server('a'), await server('b')];
const { a, b } = await relayAt(stage, ...servers.map((server) => server.address().port));

console.log('ready');
for (const server of servers) server.close();
if (way === 'exit') process.exit(7);
if (way === 'throw') throw new Error('uncaught');
if (way === 'SIGTERM') process.kill(process.pid, 'SIGTERM');
if (way === 'destroy') {
  for (const socket of [a, b, ...peers]) socket.destroy();
}
if (way === 'later') {
  // Nothing but the relay is to keep it alive until then.
  for (const peer of peers) peer.unref();
  setTimeout(() => {
    console.log('later');
    for (const socket of [a, b, ...peers]) socket.destroy();
  }, 100).unref();
}
