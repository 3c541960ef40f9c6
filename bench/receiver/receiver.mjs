// The other end of a trial in Node.js: for hashing, and where there is no C compiler.
//
//   node receiver.mjs discard   takes what comes and drops it
//   node receiver.mjs sha256    prints {"bytes":…,"sha256":…} for each connection that ends
//
// Like receiver.c it prints {"port":PORT}, and lives until its standard input ends.
import { createHash } from 'node:crypto';
import { createServer } from 'node:net';

/** @param {unknown} value */
function print(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

/** @param {import('node:net').Socket} socket */
function hash(socket) {
  const sha256 = createHash('sha256');
  socket.on('data', (chunk) => sha256.update(chunk));
  socket.on('end', () => print({ bytes: socket.bytesRead, sha256: sha256.digest('hex') }));
}

const mode = process.argv[2];
if (mode !== 'discard' && mode !== 'sha256') {
  console.error('usage: receiver.mjs discard|sha256');
  process.exit(2);
}

const server = createServer((socket) => {
  // A sender that dies shows in its own exit code.
  socket.on('error', () => {});
  if (mode === 'sha256') hash(socket);
  else socket.resume();
});
server.listen(0, '127.0.0.1', () => print({ port: server.address().port }));
process.stdin.on('end', () => process.exit()).resume();
