// Two connected sockets for a program, and what arrives at the other end.
import { once } from 'node:events';
import { connect, createServer } from 'node:net';

export async function connection() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const sink = connect(server.address().port, '127.0.0.1');
  const [peer] = await once(server, 'connection');
  server.close();
  return { sink, peer };
}

/** All that arrives until the end. */
export async function receive(peer) {
  const chunks = [];
  for await (const chunk of peer) chunks.push(chunk);
  return Buffer.concat(chunks);
}
