// Streams that are not Node's own: those of readable-stream 3, which many packages are built on, lack
// what Node has given its streams since.
import { once } from 'node:events';
import * as fs from 'node:fs';
import { createRequire } from 'node:module';
import * as path from 'node:path';
import { expect, test } from 'vitest';
import { transfer } from 'zerocopy';
import { pattern, scratchFolder, testFile } from './helpers/files';
import { link, receive } from './helpers/sockets';

const require = createRequire(import.meta.url);
const foreign = require('readable-stream') as typeof import('node:stream');
const CONTENT = pattern(300_000);

function source() {
  const stream = new foreign.PassThrough();
  for (let at = 0; at < CONTENT.length; at += 50_000)
    stream.write(CONTENT.subarray(at, at + 50_000));
  stream.end();
  return stream;
}

const byStreams = (transferred: number, code: string) => ({
  transferred,
  backend: 'stream',
  fallback: { code, at: 0 },
});

test('it lacks that', () => {
  expect('readableEnded' in source()).toBe(false);
});

test('a source, to a socket: its end is heard of', async () => {
  const { sink, peer } = await link();
  const received = receive(peer);
  const result = await transfer(source(), sink, { endSink: true });
  expect(result).toMatchObject(byStreams(CONTENT.length, 'SOURCE_STREAM'));
  expect((await received).equals(CONTENT)).toBe(true);
});

test('a source, to a file', async () => {
  const file = path.join(scratchFolder(), 'file');
  const result = await transfer(source(), file);
  expect(result).toMatchObject(byStreams(CONTENT.length, 'SOURCE_STREAM'));
  expect(fs.readFileSync(file).equals(CONTENT)).toBe(true);
});

test('a source with a length: the next byte is there to be read', async () => {
  const stream = source();
  const file = path.join(scratchFolder(), 'file');
  const result = await transfer(stream, file, { length: 123_456 });
  expect(result).toMatchObject(byStreams(123_456, 'SOURCE_STREAM'));
  const rest: Buffer[] = [];
  for await (const chunk of stream) rest.push(chunk as Buffer);
  expect(Buffer.concat([fs.readFileSync(file), ...rest]).equals(CONTENT)).toBe(true);
});

test('a source that has ended before', async () => {
  const stream = source().resume();
  await once(stream, 'end');
  const result = await transfer(stream, path.join(scratchFolder(), 'file'));
  expect(result).toMatchObject(byStreams(0, 'SOURCE_STREAM'));
});

test('a source that is destroyed, before and meanwhile', async () => {
  const wanted = { code: 'ERR_STREAM_PREMATURE_CLOSE' };
  const before = source();
  before.destroy();
  const file = path.join(scratchFolder(), 'file');
  await expect(transfer(before, file)).rejects.toMatchObject(wanted);
  const meanwhile = new foreign.PassThrough();
  const sent = transfer(meanwhile, file);
  setTimeout(() => meanwhile.destroy(), 20);
  await expect(sent).rejects.toMatchObject(wanted);
});

test('a source that fails', async () => {
  const stream = new foreign.PassThrough();
  const sent = transfer(stream, path.join(scratchFolder(), 'file'));
  const cause = Object.assign(new Error('broken'), { code: 'EBROKEN' });
  setTimeout(() => stream.destroy(cause), 20);
  await expect(sent).rejects.toMatchObject({ code: 'EBROKEN', cause });
});

test('a sink', async () => {
  const file = testFile(300_001);
  const chunks: Buffer[] = [];
  const sink = new foreign.Writable({
    write(chunk, _encoding, done) {
      chunks.push(chunk);
      setImmediate(done);
    },
  });
  const finished = once(sink, 'finish');
  const result = await transfer(file.path, sink, { endSink: true });
  expect(result).toMatchObject(byStreams(file.content.length, 'SINK_TYPE'));
  await finished;
  expect(Buffer.concat(chunks).equals(file.content)).toBe(true);
});
