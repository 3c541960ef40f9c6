// The first transfer of a process, of which a system call fails, and the second: what became of them.
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { transfer } from 'zerocopy';

const [, , file, call, number, fault] = process.argv;
const server = createServer();
server.listen(0, '127.0.0.1');
await once(server, 'listening');

/** What the peer has in the end, and the result. */
async function send() {
  const sink = connect(server.address().port, '127.0.0.1');
  const [peer] = await once(server, 'connection');
  let arrived = 0;
  peer.on('data', (bytes) => {
    arrived += bytes.length;
  });
  const result = await transfer(file, sink, { endSink: true });
  await once(peer, 'close');
  return { arrived, ...result };
}

globalThis.seam.inject(call, Number(number), Number(fault));
const first = await send();
globalThis.seam.inject('', 0, 0);
const second = await send();
console.log(JSON.stringify({ first, second }));
server.close();
