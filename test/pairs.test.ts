// Pairs of endpoints that the kernel can't join: streams move their bytes. And files as sinks.
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { PassThrough, Readable, Writable } from 'node:stream';
import { createGunzip, createGzip } from 'node:zlib';
import { expect, onTestFinished, test } from 'vitest';
import { type FallbackCode, type TransferResult, transfer } from 'zerocopy';
import { pattern, scratchFolder, testFile } from './helpers/files';
import { openDescriptors, until } from './helpers/process';
import { link, receive, receiveBytes } from './helpers/sockets';

function byStreams(result: TransferResult, code: FallbackCode, transferred: number) {
  expect(result).toMatchObject({ transferred, backend: 'stream', fallback: { code, at: 0 } });
}

test('file → Writable, in order with its other writes', async () => {
  const file = testFile(300_000);
  const chunks: Buffer[] = [];
  const sink = new Writable({
    highWaterMark: 1000,
    write: (chunk, _encoding, done) => {
      chunks.push(chunk);
      setImmediate(done);
    },
  });
  sink.write('before');
  const result = transfer(file.path, sink);
  const second = transfer([Buffer.from('second')], sink);
  sink.end('after');
  byStreams(await result, 'SINK_TYPE', 300_000);
  byStreams(await second, 'SINK_TYPE', 6);
  await once(sink, 'finish');
  const wanted = Buffer.concat([Buffer.from('before'), file.content, Buffer.from('secondafter')]);
  expect(Buffer.concat(chunks).equals(wanted)).toBe(true);
});

test('file → transform → file', async () => {
  const file = testFile(1_000_000);
  const target = path.join(scratchFolder(), 'out');
  const gzip = createGzip();
  const gunzip = createGunzip();
  const results = [
    transfer(file.path, gzip, { endSink: true }),
    transfer(gzip, gunzip, { endSink: true }),
    transfer(gunzip, target),
  ];
  const [, , last] = await Promise.all(results);
  expect(last?.transferred).toBe(1_000_000);
  expect(fs.readFileSync(target).equals(file.content)).toBe(true);
});

test('a Writable that fails: the error, and the count of what it had accepted', async () => {
  const file = testFile(1_000_000);
  let accepted = 0;
  const cause = new Error('full');
  const sink = new Writable({
    write: (chunk, _encoding, done) => {
      if (accepted >= 200_000) return done(cause);
      accepted += chunk.length;
      done();
    },
  });
  const errors: Error[] = [];
  sink.on('error', (error) => errors.push(error));
  const error = await transfer(file.path, sink).catch((error) => error);
  expect(error).toMatchObject({ name: 'TransferError', transferred: accepted, cause });
  expect(error.residual?.length).toBeGreaterThan(0);
  expect(errors).toEqual([cause]);
});

test('Readable → socket: all of it, or `length` bytes and then JavaScript reads on', async () => {
  const content = pattern(500_000);
  const source = Readable.from([content.subarray(0, 100_001), content.subarray(100_001)], {
    objectMode: false,
  });
  const { sink, peer } = await link();
  byStreams(await transfer(source, sink, { length: 100 }), 'SOURCE_STREAM', 100);
  expect((await receiveBytes(peer, 100)).equals(content.subarray(0, 100))).toBe(true);
  const received = receive(peer);
  byStreams(await transfer(source, sink, { length: 200_000 }), 'SOURCE_STREAM', 200_000);
  expect(source.destroyed).toBe(false);
  byStreams(await transfer(source, sink), 'SOURCE_STREAM', 500_000 - 200_100);
  sink.end();
  expect((await received).equals(content.subarray(100))).toBe(true);
  byStreams(await transfer(source, (await link()).sink), 'SOURCE_STREAM', 0);
});

test('a Readable that fails, is destroyed, or gives objects', async () => {
  const cause = Object.assign(new Error('EWHATEVER'), { code: 'EWHATEVER' });
  const failing = new Readable({ read: () => {} });
  failing.push('some');
  const { sink } = await link();
  const failed = transfer(failing, sink).catch((error) => error);
  setImmediate(() => failing.destroy(cause));
  expect(await failed).toMatchObject({ code: 'EWHATEVER', transferred: 4, cause });

  const destroyed = new Readable({ read: () => {} });
  const closed = transfer(destroyed, sink).catch((error) => error);
  destroyed.destroy();
  expect(await closed).toMatchObject({ code: 'ERR_STREAM_PREMATURE_CLOSE', transferred: 0 });
  expect(await transfer(destroyed, sink).catch((error) => error)).toMatchObject({
    code: 'ERR_STREAM_PREMATURE_CLOSE',
  });

  const objects = Readable.from([{ a: 1 }]);
  expect(await transfer(objects, sink).catch((error) => error)).toMatchObject({
    code: 'ERR_INVALID_ARG_TYPE',
  });
  await expect(transfer(new PassThrough(), sink, { offset: 1 })).rejects.toMatchObject({
    code: 'ERR_INVALID_ARG_VALUE',
  });
});

test('a Readable of strings', async () => {
  const { sink, peer } = await link();
  const source = Readable.from(['grüß ', 'dich']);
  byStreams(await transfer(source, sink, { endSink: true }), 'SOURCE_STREAM', 11);
  expect((await receive(peer)).toString()).toBe('grüß dich');
});

test('a sink descriptor that the caller closes, and uses anew, right after the call', async () => {
  const file = testFile(100_000);
  const folder = scratchFolder();
  const [target, other] = [path.join(folder, 'target'), path.join(folder, 'other')];
  const fd = fs.openSync(target, 'w');
  const result = transfer(file.path, fd);
  fs.closeSync(fd);
  const reused = fs.openSync(other, 'w');
  onTestFinished(() => fs.closeSync(reused));
  expect(reused).toBe(fd);
  expect(await result).toEqual({ transferred: 100_000, backend: 'copy_file_range' });
  expect(fs.readFileSync(target).equals(file.content)).toBe(true);
  expect(fs.statSync(other).size).toBe(0);
});

test('a transfer aborted before its sink was opened leaves the sink as it was', async () => {
  const target = testFile(1000);
  const descriptors = openDescriptors();
  const controller = new AbortController();
  const options = { signal: controller.signal };
  const failed = transfer(testFile(10).path, target.path, options).catch((error) => error);
  controller.abort();
  expect(await failed).toMatchObject({ code: 'ABORT_ERR', transferred: 0 });
  await until(() => openDescriptors() === descriptors, 'descriptors are back');
  expect(fs.readFileSync(target.path).equals(target.content)).toBe(true);
  await expect(transfer(target.path, 2 ** 30)).rejects.toMatchObject({ code: 'EBADF' });
});

test('a file is not emptied by being its own sink', async () => {
  const file = testFile(1000);
  fs.symlinkSync(file.path, `${file.path}-link`);
  for (const target of [file.path, `${file.path}-link`]) {
    await expect(transfer(file.path, target)).rejects.toMatchObject({
      code: 'ERR_INVALID_ARG_VALUE',
      transferred: 0,
    });
  }
  expect(fs.readFileSync(file.path).equals(file.content)).toBe(true);
});

test('a source that is not there leaves the sink as it was', async () => {
  const target = testFile(1000);
  await expect(transfer('/nowhere', target.path)).rejects.toMatchObject({ code: 'ENOENT' });
  expect(fs.readFileSync(target.path).equals(target.content)).toBe(true);
});

test('a disk that is full', async () => {
  const file = testFile(100_000);
  const error = await transfer(file.path, '/dev/full').catch((error) => error);
  expect(error).toMatchObject({ code: 'ENOSPC', syscall: 'write', transferred: 0 });
});

test('a sink with a write of its own: its bytes go through it', async () => {
  const file = testFile(300_000);
  const { sink, peer } = await link();
  let seen = 0;
  const { write } = sink;
  sink.write = function (this: typeof sink, ...args: never[]) {
    seen += (args[0] as unknown as Buffer).length;
    return (write as (...args: never[]) => boolean).apply(this, args);
  } as typeof write;
  const results = [transfer(file.path, sink), transfer(file.path, sink)];
  for (const result of results) byStreams(await result, 'SINK_OVERRIDDEN', 300_000);
  sink.end();
  expect(seen).toBe(600_000);
  const wanted = Buffer.concat([file.content, file.content]);
  expect((await receive(peer)).equals(wanted)).toBe(true);
});
