import * as fs from 'node:fs';
import * as path from 'node:path';
import { PassThrough } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { type Segment, transfer } from 'zerocopy';
import { backends, counted, expectResult } from './helpers/backends';
import { pattern, scratchFolder, testFile } from './helpers/files';
import { openDescriptors, sleep } from './helpers/process';
import { fdOf, link, receive, receiveBytes, type SocketKind } from './helpers/sockets';

const kinds: SocketKind[] = ['tcp', 'unix'];

describe.each(backends)('%s', (backend) => {
  test.each(kinds)('%s: writes before, between and after arrive in order', async (kind) => {
    const small = testFile(5000);
    const large = testFile(3 * 1024 * 1024);
    const { sink, peer } = await link({ kind });
    const received = receive(peer);
    const called: string[] = [];
    const note = (name: string) => () => called.push(name);
    sink.write('before ', note('before'));
    const first = transfer(large.path, sink, { backend }).finally(note('first'));
    sink.write('between ', note('between'));
    const second = transfer(small.path, sink, { backend }).finally(note('second'));
    const third = transfer(large.path, sink, { backend }).finally(note('third'));
    sink.write('après ', 'latin1');
    sink.write('after', note('after'));
    sink.end(' end', note('end'));
    expectResult(await first, backend, 3 * 1024 * 1024);
    await Promise.all([second, third]);
    const wanted = [
      Buffer.from('before '),
      large.content,
      Buffer.from('between '),
      small.content,
      large.content,
      Buffer.from('après ', 'latin1'),
      Buffer.from('after end'),
    ];
    expect((await received).equals(Buffer.concat(wanted))).toBe(true);
    expect(called.indexOf('first')).toBeLessThan(called.indexOf('third'));
    expect(called).toHaveLength(7);
    expect(sink.bytesWritten).toBe(Buffer.concat(wanted).length);
  });

  test('corked writes and transfers go out in order', async () => {
    const file = testFile(100_000);
    const { sink, peer } = await link();
    const received = receive(peer);
    sink.cork();
    const wanted: Buffer[] = [];
    const results: Promise<unknown>[] = [];
    for (let i = 0; i < 5; i++) {
      sink.write(`${i} `);
      sink.write('é', 'latin1');
      results.push(transfer(file.path, sink, { backend }));
      wanted.push(Buffer.from(`${i} `), Buffer.from('é', 'latin1'), file.content);
    }
    expect(sink.bytesWritten).toBe(5 * 3);
    expect(sink.writableLength).toBe(5 * 3 + 5);
    process.nextTick(() => sink.uncork());
    await Promise.all(results);
    sink.end();
    expect((await received).equals(Buffer.concat(wanted))).toBe(true);
  });

  test("'drain' and 'finish' wait for the transfer", async () => {
    const file = testFile(1024 * 1024);
    const { sink, peer } = await link({ kind: 'unix', buffers: 4096 });
    const events: string[] = [];
    sink.on('drain', () => events.push('drain'));
    sink.on('finish', () => events.push('finish'));
    const result = transfer(file.path, sink, { backend }).then(() => events.push('transfer'));
    expect(sink.writableLength).toBe(1);
    expect(sink.write(Buffer.alloc(sink.writableHighWaterMark))).toBe(false);
    sink.end();
    const received = receive(peer);
    await result;
    await received;
    expect(events).toEqual(['transfer', 'finish']); // no 'drain' of what has been ended
  });

  test("'drain' comes after the transfer for a socket that goes on", async () => {
    const file = testFile(1024 * 1024);
    const { sink, peer } = await link({ kind: 'unix', buffers: 4096 });
    const events: string[] = [];
    const result = transfer(file.path, sink, { backend }).then(() => events.push('transfer'));
    sink.write(Buffer.alloc(sink.writableHighWaterMark));
    const drained = new Promise<void>((resolve) => {
      sink.once('drain', () => {
        events.push('drain');
        resolve();
      });
    });
    const received = receive(peer);
    await Promise.all([result, drained]);
    expect(events).toEqual(['transfer', 'drain']);
    sink.end();
    expect((await received).length).toBe(1024 * 1024 + sink.writableHighWaterMark);
  });

  test('destroy() in mid-transfer ends it, and nothing more is sent', async () => {
    const file = testFile(8 * 1024 * 1024);
    const { sink, peer } = await link({ kind: 'unix', buffers: 4096 });
    const failed = transfer(file.path, sink, { backend }).catch((error) => error);
    const dropped = transfer(file.path, sink, { backend }).catch((error) => error);
    await receiveBytes(peer, 100_000);
    sink.destroy();
    const error = await failed;
    expect(error).toMatchObject({ name: 'TransferError', code: 'ERR_STREAM_PREMATURE_CLOSE' });
    expect(error.transferred).toBeGreaterThanOrEqual(counted(backend, 100_000));
    expect(error.transferred).toBeLessThan(8 * 1024 * 1024);
    expect(await dropped).toMatchObject({ code: 'ERR_STREAM_PREMATURE_CLOSE', transferred: 0 });
    const rest = await receive(peer).catch(() => Buffer.alloc(0));
    expect(100_000 + rest.length).toBeLessThanOrEqual(error.transferred + 200_000);
  });

  test('destroy(error) in mid-transfer: the error is the cause', async () => {
    const file = testFile(8 * 1024 * 1024);
    const { sink, peer } = await link({ kind: 'unix', buffers: 4096 });
    sink.on('error', () => {});
    const failed = transfer(file.path, sink, { backend }).catch((error) => error);
    await receiveBytes(peer, 10_000);
    const cause = new Error('mine');
    sink.destroy(cause);
    expect(await failed).toMatchObject({ code: 'ERR_STREAM_PREMATURE_CLOSE', cause });
  });

  test('destroy() while a write is on its way: no error of that write, which Node 24 has', async () => {
    const file = testFile(1000);
    const { sink } = await link({ kind: 'unix', buffers: 4096 });
    sink.on('error', () => {});
    sink.write(Buffer.alloc(1024 * 1024));
    const failed = transfer(file.path, sink, { backend }).catch((error) => error);
    await sleep(1);
    sink.destroy();
    expect(await failed).toMatchObject({ code: 'ERR_STREAM_PREMATURE_CLOSE', transferred: 0 });
  });

  test('what an abort leaves on its way goes before what comes next', async () => {
    const memory = pattern(60_000, 5);
    const file = testFile(100_000);
    const { sink, peer } = await link({ kind: 'unix', buffers: 4096 });
    const controller = new AbortController();
    const options = { backend: 'stream', signal: controller.signal } as const;
    // It is with libuv by now, and not all of it with the kernel.
    const aborted = transfer([memory], sink, options).catch((error) => error);
    await sleep(5);
    controller.abort();
    const next = transfer(file.path, sink, { backend });
    const last = transfer([memory], sink, { backend, endSink: true });
    expect(await aborted).toMatchObject({ code: 'ABORT_ERR', transferred: 0 });
    const received = receive(peer);
    expect((await next).transferred).toBe(100_000);
    await last;
    const wanted = Buffer.concat([memory, file.content, memory]);
    expect((await received).equals(wanted)).toBe(true);
    expect(sink.bytesWritten).toBe(wanted.length);
  });

  test.each(kinds)(
    '%s: destroy() of a sink with a batch in hand is no error of the sink',
    async (kind) => {
      const file = testFile(1000);
      const { sink, peer } = await link({ kind });
      const errors: unknown[] = [];
      sink.on('error', (error) => errors.push(error));
      sink.cork();
      const results = [0, 1, 2].map(() => {
        sink.write(Buffer.alloc(20_000)); // too much to go with the transfer
        sink.write('some');
        return transfer(file.path, sink, { backend }).catch((error) => error);
      });
      sink.uncork();
      sink.destroy();
      const wanted = { code: 'ERR_STREAM_PREMATURE_CLOSE', transferred: 0 };
      for (const error of await Promise.all(results)) expect(error).toMatchObject(wanted);
      expect(sink.errored).toBe(null);
      expect(errors).toEqual([]);
      expect((await receive(peer)).length).toBe(0);
    },
  );

  test('a gather list of 100 segments of both kinds, empty ones among them', async () => {
    const file = testFile(300_000);
    const { sink, peer } = await link();
    const received = receive(peer);
    const segments: Segment[] = [];
    const wanted: Buffer[] = [];
    for (let i = 0; i < 100; i++) {
      const length = i % 7 === 0 ? 0 : (i * 997) % 9000;
      if (i % 2 === 0) {
        const bytes = pattern(length, i);
        segments.push(bytes);
        wanted.push(bytes);
      } else {
        segments.push({ file: file.path, offset: i * 100, length });
        wanted.push(file.content.subarray(i * 100, i * 100 + length));
      }
    }
    segments.push({ file: file.path, offset: 299_999 }, new Uint8Array(0));
    wanted.push(file.content.subarray(299_999));
    const result = await transfer(segments, sink, { backend });
    sink.end();
    const bytes = Buffer.concat(wanted);
    expectResult(result, backend, bytes.length);
    expect((await received).equals(bytes)).toBe(true);
  });

  test('pieces of memory too large to be copied', async () => {
    const file = testFile(100_000);
    const large = pattern(3 * 1024 * 1024 + 1, 7);
    const { sink, peer } = await link();
    const received = receive(peer);
    const list = [Buffer.from('<'), large, { file: file.path }, large.subarray(0, 300_000)];
    const result = await transfer(list, sink, { backend });
    sink.end();
    const wanted = Buffer.concat([
      Buffer.from('<'),
      large,
      file.content,
      large.subarray(0, 300_000),
    ]);
    expectResult(result, backend, wanted.length);
    expect((await received).equals(wanted)).toBe(true);
  });

  test('any number of empty segments', async () => {
    const { sink, peer } = await link();
    const empty: Segment[] = Array.from({ length: 200_000 }, () => new Uint8Array(0));
    const list = [...empty, Buffer.from('x'), ...empty];
    expect((await transfer(list, sink, { backend })).transferred).toBe(1);
    sink.end();
    expect((await receive(peer)).toString()).toBe('x');
  });

  test('an empty gather list', async () => {
    const { sink, peer } = await link();
    const received = receive(peer);
    expectResult(await transfer([], sink, { backend }), backend, 0);
    sink.end();
    expect((await received).length).toBe(0);
  });

  test('10,000 transfers at once on one socket', async () => {
    const file = testFile(1000);
    const { sink, peer } = await link();
    const received = receive(peer);
    const results = await Promise.all(
      Array.from({ length: 10_000 }, () => transfer(file.path, sink, { backend })),
    );
    sink.end();
    expect(results.every(({ transferred }) => transferred === 1000)).toBe(true);
    const bytes = await received;
    expect(bytes.length).toBe(10_000_000);
    for (let at = 0; at < bytes.length; at += 1000) {
      expect(bytes.subarray(at, at + 1000).equals(file.content)).toBe(true);
    }
  });

  // A piece up to 256 KiB is copied at the call; a larger one is found to have gone, and refused.
  test.each([1000, 200_000])('%d bytes whose buffer is transferred away at once', async (size) => {
    const file = testFile(2 * 1024 * 1024);
    const { sink, peer } = await link();
    const bytes = new Uint8Array(pattern(size));
    const wanted = Buffer.from(bytes);
    const result = transfer([{ file: file.path }, bytes], sink, { backend });
    structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
    expect(bytes.length).toBe(0);
    const received = receive(peer);
    expect((await result).transferred).toBe(2 * 1024 * 1024 + size);
    sink.end();
    expect((await received).subarray(2 * 1024 * 1024).equals(wanted)).toBe(true);
  });

  test('a resizable buffer that shrinks at once', async () => {
    const file = testFile(2 * 1024 * 1024);
    const { sink, peer } = await link();
    // biome-ignore lint/suspicious/noExplicitAny: resizable buffers are not in the types of ES2022
    const buffer = new (ArrayBuffer as any)(100_000, { maxByteLength: 200_000 });
    const bytes = new Uint8Array(buffer);
    bytes.set(pattern(100_000));
    const result = transfer([{ file: file.path }, bytes], sink, { backend });
    buffer.resize(10);
    const received = receive(peer);
    expect((await result).transferred).toBe(2 * 1024 * 1024 + 100_000);
    sink.end();
    expect((await received).subarray(2 * 1024 * 1024).equals(pattern(100_000))).toBe(true);
  });

  test('a large piece whose buffer is transferred away in mid-transfer', async () => {
    const file = testFile(2 * 1024 * 1024);
    const { sink, peer } = await link({ kind: 'unix', buffers: 4096 });
    const bytes = new Uint8Array(1024 * 1024);
    const failed = transfer([{ file: file.path }, bytes], sink, { backend }).catch((e) => e);
    await sleep(5);
    structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
    peer.resume();
    const error = await failed;
    expect(error.code).toBe('ERR_SOURCE_TRUNCATED');
    // A stream that fails forgets what it has read ahead.
    const least = backend === 'native' ? 2 * 1024 * 1024 : 2 * 1024 * 1024 - 128 * 1024;
    expect(error.transferred).toBeGreaterThanOrEqual(least);
    expect(error.transferred).toBeLessThanOrEqual(2 * 1024 * 1024);
    expect(sink.destroyed).toBe(false);
  });
});

test('a sink that is destroyed, and never answers what was written to it', async () => {
  const sink = new PassThrough();
  sink.write(Buffer.alloc(100_000)); // as long as nobody reads it, it is not accepted
  const file = testFile(1000);
  const results = [0, 1].map(() => transfer(file.path, sink).catch((error) => error));
  sink.destroy();
  const wanted = { code: 'ERR_STREAM_PREMATURE_CLOSE', transferred: 0 };
  for (const error of await Promise.all(results)) expect(error).toMatchObject(wanted);
  expect(sink.listenerCount('close')).toBe(0);
});

test('a gather list that names a file twice opens it once, at once or later', async () => {
  const { sink, peer } = await link();
  const received = receive(peer);
  await transfer(
    ['/proc/version'].map((file) => ({ file })),
    sink,
    { backend: 'stream' },
  );
  const before = openDescriptors();
  // Whether its size means anything is not known at once.
  const list = Array.from({ length: 5 }, () => ({ file: '/proc/version' }));
  await transfer(list, sink, { backend: 'stream' });
  expect(openDescriptors()).toBe(before);
  sink.end();
  const version = fs.readFileSync('/proc/version', 'utf8');
  expect((await received).toString()).toBe(version.repeat(6));
});

test('a socket destroyed between two legs: nothing goes to who has its descriptor now', async () => {
  const file = testFile(100_000);
  const { sink, peer } = await link({ kind: 'tcp' });
  const fd = fdOf(sink);
  peer.resume();
  // The socket takes the large piece at once; the file's turn comes a tick later.
  const list = [pattern(300_000), { file: file.path }];
  const failed = transfer(list, sink, { backend: 'native' }).catch((error) => error);
  expect(sink.bytesWritten).toBeGreaterThanOrEqual(300_000);
  sink.destroy();
  const reused = path.join(scratchFolder(), 'reused');
  const numbers: number[] = [];
  while (!numbers.includes(fd) && numbers.length < 1000) numbers.push(fs.openSync(reused, 'w'));
  expect(numbers).toContain(fd);
  expect(await failed).toMatchObject({ code: 'ERR_STREAM_PREMATURE_CLOSE' });
  expect(fs.statSync(reused).size).toBe(0);
  for (const number of numbers) fs.closeSync(number);
});
