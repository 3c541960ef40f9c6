// A relay that is over, or one that is idle, and is over `later`: whether it keeps the process alive.
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { relay } from 'zerocopy';

const [, , stage] = process.argv;
const peers = [];
const servers = [];
const sockets = [];
for (const _ of 'ab') {
  const server = createServer({ allowHalfOpen: true }, (peer) => {
    peers.push(peer.on('error', () => {}).resume());
    if (stage === 'ended') peer.end('over');
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  servers.push(server);
  const socket = connect(server.address().port, '127.0.0.1');
  await once(socket, 'connect');
  sockets.push(socket);
}
const relayed = relay(...sockets);
if (stage === 'ended') await relayed;
else relayed.catch(() => {});

console.log('ready');
for (const server of servers) server.close();
if (stage === 'idle') {
  // Nothing but the relay is to keep it alive until then.
  for (const peer of peers) peer.unref();
  setTimeout(() => {
    console.log('later');
    for (const socket of [...sockets, ...peers]) socket.destroy();
  }, 100).unref();
}
