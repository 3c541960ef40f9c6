// Transfers what comes in by stdin to a file, or to a socket whose other end writes to that file.
// Prints what came of it.
//   stdin.mjs file|socket FILE
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { connect, createServer } from 'node:net';
import { transfer } from 'zerocopy';

const [, , kind, file] = process.argv;

async function viaSocket() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const sink = connect(server.address().port, '127.0.0.1');
  const [peer] = await once(server, 'connection');
  server.close();
  const written = once(peer.pipe(createWriteStream(file)), 'close');
  const result = await transfer(process.stdin, sink, { endSink: true });
  await written;
  sink.destroy();
  return result;
}

const result = kind === 'file' ? await transfer(process.stdin, file) : await viaSocket();
console.log(JSON.stringify(result));
