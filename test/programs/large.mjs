// Moves a large file in each way, in memory that is less than it, and compares checksums.
//   large.mjs FOLDER FILE
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { join } from 'node:path';
import { copyFile, transfer } from 'zerocopy';
import { connection } from './connection.mjs';

const [, , folder, file] = process.argv;

async function hashOf(stream) {
  const hash = createHash('sha1');
  for await (const chunk of stream) hash.update(chunk);
  return hash.digest('hex');
}

const wanted = await hashOf(createReadStream(file));

async function toSocket() {
  const { sink, peer } = await connection();
  const hash = hashOf(peer);
  const result = await transfer(file, sink, { backend: 'native', endSink: true });
  return { ...result, right: (await hash) === wanted };
}

async function fromSocket() {
  const { sink, peer } = await connection();
  if (sink.connecting) await once(sink, 'connect');
  const target = join(folder, 'received');
  const sent = transfer(file, sink, { backend: 'native', endSink: true });
  const result = await transfer(peer, target, { backend: 'native' });
  await sent;
  return { ...result, right: (await hashOf(createReadStream(target))) === wanted };
}

async function copied() {
  const target = join(folder, 'copied');
  const result = await copyFile(file, target, { backend: 'native' });
  return { ...result, right: (await hashOf(createReadStream(target))) === wanted };
}

const report = {
  'to a socket': await toSocket(),
  'from a socket': await fromSocket(),
  copyFile: await copied(),
};
console.log(JSON.stringify(report));
