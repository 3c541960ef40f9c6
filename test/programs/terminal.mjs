// Transfers a line of its terminal to a socket, and prints what arrived.
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { transfer } from 'zerocopy';

const server = createServer().listen(0, '127.0.0.1');
await once(server, 'listening');
const sink = connect(server.address().port, '127.0.0.1');
const [peer] = await once(server, 'connection');
let received = '';
peer.on('data', (text) => {
  received += text;
});
const { backend, fallback } = await transfer('/dev/tty', sink, { length: 6 });
sink.end();
await once(peer, 'end');
console.log('received', JSON.stringify(received), backend, fallback.code);
process.exit();
