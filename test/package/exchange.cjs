// In a project that has the package: sends a short and a long file to a socket, and tells which way each
// went, as "read sendfile" does of both.
const { once } = require('node:events');
const { mkdtempSync, rmSync, writeFileSync } = require('node:fs');
const { connect, createServer } = require('node:net');
const { join } = require('node:path');

/** The bytes must arrive as they are in the file. */
async function send(transfer, folder, length) {
  const file = join(folder, `${length}-bytes`);
  const content = Buffer.alloc(length, 'zerocopy');
  writeFileSync(file, content);
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const socket = connect(server.address().port, '127.0.0.1');
  const [peer] = await once(server, 'connection');
  server.close();
  const chunks = [];
  peer.on('data', (chunk) => chunks.push(chunk)).on('end', () => peer.end());
  const { backend } = await transfer(file, socket, { endSink: true });
  await once(socket.resume(), 'close');
  if (!Buffer.concat(chunks).equals(content)) throw new Error(`${length} bytes arrived changed`);
  return backend;
}

exports.exchange = async (transfer) => {
  const folder = mkdtempSync(join(__dirname, 'files-'));
  try {
    return `${await send(transfer, folder, 1000)} ${await send(transfer, folder, 1_000_000)}`;
  } finally {
    rmSync(folder, { recursive: true });
  }
};
