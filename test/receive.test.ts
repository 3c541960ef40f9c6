// Sockets as sources, files as sinks: what goes where, and what is said of it.
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, test } from 'vitest';
import { type Progress, transfer } from 'zerocopy';
import { backends } from './helpers/backends';
import { pattern, scratchFolder } from './helpers/files';
import { openDescriptors, sleep, until } from './helpers/process';
import { link, receive, receiveBytes } from './helpers/sockets';
import {
  descriptorsBack,
  expectSpliced,
  expectWhole,
  failed,
  fileTarget,
  kinds,
  restOf,
  sides,
  sourceLink,
  targetKinds,
} from './helpers/sources';

const MIB = 1024 * 1024;
const sizes = [0, 1, 4095, 4097, 128 * 1024 + 16, 16 * MIB + 3];

describe.each(backends)('%s', (backend) => {
  describe.each(kinds)('%s', (kind) => {
    test.each(sizes)('%d bytes to a path, to the end', async (size) => {
      const content = pattern(size);
      const { source, writer } = await sourceLink({ kind });
      const { sink, path } = await fileTarget('path');
      const result = transfer(source, sink, { backend });
      writer.end(content);
      expectSpliced(await result, backend, size);
      expect(fs.readFileSync(path).equals(content)).toBe(true);
    });

    test.each(sizes)(
      '%d bytes to a path, by length: the next one is for JavaScript',
      async (size) => {
        const content = pattern(size + 100);
        const sockets = await sourceLink({ kind, side: 'connected' });
        const { sink, path } = await fileTarget('path');
        sockets.writer.write(content);
        const result = await transfer(sockets.source, sink, { backend, length: size });
        expectSpliced(result, backend, size);
        expect(fs.readFileSync(path).equals(content.subarray(0, size))).toBe(true);
        expect((await restOf(sockets)).equals(content.subarray(size))).toBe(true);
      },
    );
  });

  test.each(targetKinds)('to a file given as %s', async (target) => {
    const content = pattern(300_001);
    const sockets = await sourceLink();
    const { sink, path } = await fileTarget(target);
    sockets.writer.write(content);
    expectSpliced(
      await transfer(sockets.source, sink, { backend, length: 300_000 }),
      backend,
      300_000,
    );
    expect(fs.readFileSync(path).equals(content.subarray(0, 300_000))).toBe(true);
    expect(await restOf(sockets)).toEqual(content.subarray(300_000));
  });

  test('to a file given as a URL', async () => {
    const { source, writer } = await sourceLink();
    const target = path.join(scratchFolder(), 'a name with % and spaces');
    writer.end('bytes');
    expectSpliced(await transfer(source, pathToFileURL(target), { backend }), backend, 5);
    expect(fs.readFileSync(target, 'utf8')).toBe('bytes');
  });

  test.each(targetKinds)('sinkOffset, to a file given as %s: the rest stays', async (target) => {
    const before = pattern(200_000, 7);
    const content = pattern(100_001);
    const { source, writer } = await sourceLink();
    const { sink, path } = await fileTarget(target, before);
    writer.end(content);
    const result = await transfer(source, sink, { backend, sinkOffset: 4097 });
    expectSpliced(result, backend, 100_001);
    const wanted = Buffer.from(before);
    content.copy(wanted, 4097);
    expect(fs.readFileSync(path).equals(wanted)).toBe(true);
  });

  test('sinkOffset beyond the end leaves a hole', async () => {
    const { source, writer } = await sourceLink();
    const { sink, path } = await fileTarget('fd');
    writer.end('tail');
    const result = await transfer(source, sink, { backend, sinkOffset: 5 * MIB + 1 });
    expectSpliced(result, backend, 4);
    const bytes = fs.readFileSync(path);
    expect(bytes.length).toBe(5 * MIB + 5);
    expect(bytes.subarray(-5).toString()).toBe('\0tail');
    expect(fs.statSync(path).blocks * 512).toBeLessThan(MIB);
  });

  test('sinkOffset beyond 4 GiB', async () => {
    const { source, writer } = await sourceLink();
    const { sink, path } = await fileTarget('path', Buffer.alloc(0));
    const sinkOffset = 5 * 1024 * MIB + 7;
    writer.end('far');
    expectSpliced(await transfer(source, sink, { backend, sinkOffset }), backend, 3);
    expect(fs.statSync(path).size).toBe(sinkOffset + 3);
  });

  test("a descriptor's own position is used and moved, as by write(2)", async () => {
    const content = pattern(150_000);
    const sockets = await sourceLink();
    const { sink, path } = await fileTarget('fd');
    fs.writeSync(sink as number, 'before ');
    sockets.writer.write(content);
    const options = { backend, length: 100_000 };
    expectSpliced(await transfer(sockets.source, sink, options), backend, 100_000);
    fs.writeSync(sink as number, ' between ');
    const last = transfer(sockets.source, sink, { backend });
    sockets.writer.end();
    expectSpliced(await last, backend, 50_000);
    fs.writeSync(sink as number, ' after');
    const wanted = Buffer.concat([
      Buffer.from('before '),
      content.subarray(0, 100_000),
      Buffer.from(' between '),
      content.subarray(100_000),
      Buffer.from(' after'),
    ]);
    expect(fs.readFileSync(path).equals(wanted)).toBe(true);
  });

  test("sinkOffset leaves the descriptor's own position alone", async () => {
    const { source, writer } = await sourceLink();
    const { sink, path } = await fileTarget('fd');
    fs.writeSync(sink as number, '0123');
    writer.write('abcdef');
    await transfer(source, sink, { backend, length: 3, sinkOffset: 10 });
    await transfer(source, sink, { backend, length: 3, sinkOffset: 13 });
    fs.writeSync(sink as number, '4');
    expect(fs.readFileSync(path, 'latin1')).toBe('01234\0\0\0\0\0abcdef');
  });

  test('sinkFlags: as open(2) has them, and a refusal takes nothing from the source', async () => {
    const sockets = await sourceLink();
    const { source } = sockets;
    const { sink, path } = await fileTarget('path', Buffer.from('0123456789'));
    sockets.writer.write('abcdefghijklm');
    expect(await failed(transfer(source, sink, { backend, sinkFlags: 'wx' }))).toMatchObject({
      code: 'EEXIST',
      transferred: 0,
    });
    expect(fs.readFileSync(path, 'utf8')).toBe('0123456789');
    await transfer(source, sink, { backend, length: 3, sinkFlags: 'r+' });
    expect(fs.readFileSync(path, 'utf8')).toBe('abc3456789');
    await transfer(source, sink, { backend, length: 3 });
    expect(fs.readFileSync(path, 'utf8')).toBe('def');
    const missing = `${path}-missing`;
    expect(await failed(transfer(source, missing, { backend, sinkOffset: 0 }))).toMatchObject({
      code: 'ENOENT',
      transferred: 0,
    });
    const nowhere = '/nowhere/at/all';
    expect(await failed(transfer(source, nowhere, { backend }))).toMatchObject({ code: 'ENOENT' });
    expect(await failed(transfer(source, 2 ** 30, { backend }))).toMatchObject({ code: 'EBADF' });
    expect((await restOf(sockets)).toString()).toBe('ghijklm');
  });

  test('a sink descriptor that the caller closes, and uses anew, right after the call', async () => {
    const content = pattern(200_000);
    const folder = scratchFolder();
    const [target, other] = [path.join(folder, 'target'), path.join(folder, 'other')];
    const { source, writer } = await sourceLink();
    const fd = fs.openSync(target, 'w');
    const result = transfer(source, fd, { backend });
    fs.closeSync(fd);
    const reused = fs.openSync(other, 'w');
    expect(reused).toBe(fd);
    writer.end(content);
    expectSpliced(await result, backend, 200_000);
    fs.closeSync(reused);
    expect(fs.readFileSync(target).equals(content)).toBe(true);
    expect(fs.statSync(other).size).toBe(0);
  });

  test.each(sides)(
    '%s: length beyond what comes: less is transferred, and that is it',
    async (side) => {
      const content = pattern(100_000);
      const { source, writer } = await sourceLink({ side });
      const { sink, path } = await fileTarget('path');
      const ended = once(source, 'end');
      const result = transfer(source, sink, { backend, length: MIB });
      writer.write(content.subarray(0, 70_000));
      await sleep(50);
      writer.end(content.subarray(70_000));
      expectSpliced(await result, backend, 100_000);
      await ended;
      expect(fs.readFileSync(path).equals(content)).toBe(true);
      expectSpliced(await transfer(source, sink, { backend: 'stream' }), 'stream', 0);
    },
  );

  test.each(sides)('%s: a length of 0 takes nothing', async (side) => {
    const sockets = await sourceLink({ side });
    const { sink, path } = await fileTarget('path');
    expectSpliced(await transfer(sockets.source, sink, { backend, length: 0 }), backend, 0);
    sockets.writer.write('abc');
    await sleep(20);
    expectSpliced(await transfer(sockets.source, sink, { backend, length: 0 }), backend, 0);
    expect(fs.statSync(path).size).toBe(0);
    expect((await restOf(sockets)).toString()).toBe('abc');
  });

  test('what Node has read, and what was unshifted, goes first', async () => {
    const content = pattern(500_000);
    const sockets = await sourceLink();
    const { sink, path } = await fileTarget('path');
    sockets.writer.write(content.subarray(100_000));
    await once(sockets.source, 'readable');
    expect(sockets.source.readableLength).toBeGreaterThan(0);
    sockets.source.unshift(content.subarray(50_000, 100_000));
    sockets.source.unshift(content.subarray(0, 50_000));
    // All of it is in memory; then a part; then the kernel has the rest.
    for (const [from, to] of [
      [0, 1000],
      [1000, 60_000],
      [60_000, 400_000],
    ] as const) {
      const length = to - from;
      const result = await transfer(sockets.source, sink, { backend, length });
      expectSpliced(result, backend, length);
      expect(fs.readFileSync(path).equals(content.subarray(from, to))).toBe(true);
    }
    expect((await restOf(sockets)).equals(content.subarray(400_000))).toBe(true);
  });

  test('bytes, and the end, that have been read before', async () => {
    const { source, writer } = await sourceLink();
    const { sink, path } = await fileTarget('path');
    writer.end('all there is');
    await once(source, 'readable');
    await sleep(20); // Node sees the end behind them
    const ended = once(source, 'end');
    expectSpliced(await transfer(source, sink, { backend }), backend, 12);
    expect(fs.readFileSync(path, 'utf8')).toBe('all there is');
    await ended;
  });

  test('onProgress, and the total where a length was given', async () => {
    const { source, writer } = await sourceLink();
    const { sink } = await fileTarget('path');
    const reports: Progress[] = [];
    const onProgress = (progress: Progress) => void reports.push(progress);
    const result = transfer(source, sink, { backend, onProgress });
    for (let i = 0; i < 10; i++) {
      writer.write(Buffer.alloc(100_000));
      await sleep(50);
    }
    writer.end();
    await result;
    await sleep(0);
    expect(reports.length).toBeGreaterThanOrEqual(3);
    const counts = reports.map(({ transferred }) => transferred);
    expect(counts).toEqual([...counts].sort((a, b) => a - b));
    expect(reports.at(-1)).toEqual({ transferred: 1_000_000, total: undefined });
  });

  test('onProgress knows what has gone when the end has come, and was not heard of yet', async () => {
    const { source, writer } = await sourceLink({ kind: 'unix' });
    const { sink } = await fileTarget('path');
    const counts: number[] = [];
    const onProgress = ({ transferred }: Progress) => void counts.push(transferred);
    const result = transfer(source, sink, { backend, length: 60_000, onProgress });
    writer.write(Buffer.alloc(50_000));
    await until(() => counts.length > 0, 'progress has been told');
    // The rest goes while this thread is busy. Then timers have their turn before the completion.
    await new Promise(setImmediate);
    writer.write(Buffer.alloc(10_000));
    for (const end = Date.now() + 300; Date.now() < end; );
    await result;
    await sleep(0);
    expect(counts).toEqual([...counts].sort((a, b) => a - b));
    expect(counts.at(-1)).toBe(60_000);
  });

  test('endSink ends a socket after the last byte; without it, it goes on', async () => {
    const first = await sourceLink();
    const second = await sourceLink();
    const { sink, peer } = await link();
    const received = receive(peer);
    first.writer.end('one ');
    expectSpliced(await transfer(first.source, sink, { backend }), backend, 4);
    sink.write('two ');
    second.writer.end('three');
    const options = { backend, endSink: true };
    expectSpliced(await transfer(second.source, sink, options), backend, 5);
    expect(sink.writableEnded).toBe(true);
    expect((await received).toString()).toBe('one two three');
  });

  test('order with the writes of a sink: a transfer is one of them', async () => {
    const content = pattern(400_000);
    const { source, writer } = await sourceLink();
    const { sink, peer } = await link();
    const received = receive(peer);
    sink.write('before ');
    const first = transfer(source, sink, { backend, length: 100_000 });
    sink.write(' between ');
    await sleep(20);
    writer.write(content.subarray(0, 150_000));
    await first;
    const second = transfer(source, sink, { backend });
    sink.write(' after');
    sink.end(' end');
    await sleep(20);
    writer.end(content.subarray(150_000));
    await second;
    const wanted = [
      Buffer.from('before '),
      content.subarray(0, 100_000),
      Buffer.from(' between '),
      content.subarray(100_000),
      Buffer.from(' after end'),
    ];
    expect((await received).equals(Buffer.concat(wanted))).toBe(true);
    expect(sink.bytesWritten).toBe(Buffer.concat(wanted).length);
  });

  test('a slow writer: bytes are in the file as they come', async () => {
    const sockets = await sourceLink();
    const { sink, path } = await fileTarget('path', Buffer.alloc(0));
    const result = transfer(sockets.source, sink, { backend, sinkFlags: 'r+' });
    for (let i = 1; i <= 5; i++) {
      sockets.writer.write(Buffer.alloc(1000, i));
      await expect.poll(() => fs.statSync(path).size).toBe(i * 1000);
    }
    sockets.writer.end();
    expectSpliced(await result, backend, 5000);
  });

  test('many at once, and their descriptors are back', async () => {
    const content = pattern(300_000);
    const round = async () => {
      const before = openDescriptors();
      const results = Array.from({ length: 50 }, async (_, i) => {
        const { source, writer } = await sourceLink({ kind: kinds[i % 2] ?? 'tcp' });
        const target = path.join(scratchFolder(), 'target');
        const result = transfer(source, target, { backend, length: 250_000 + i });
        writer.end(content.subarray(i));
        expectSpliced(await result, backend, 250_000 + i);
        const wanted = content.subarray(i, 250_000 + 2 * i);
        expect(fs.readFileSync(target).equals(wanted)).toBe(true);
        source.destroy();
        writer.destroy();
      });
      await Promise.all(results);
      return before;
    };
    await round();
    await descriptorsBack(await round());
  });
});

test('the source is read by nobody else meanwhile, and left whole by bad arguments', async () => {
  const sockets = await sourceLink();
  const { sink } = await fileTarget('path');
  sockets.writer.write('untouched');
  for (const options of [{ length: -1 }, { offset: 0 }, { sinkOffset: 0.5 }, { start: 1 }]) {
    await expect(transfer(sockets.source, sink, options as object)).rejects.toMatchObject({
      code: expect.stringMatching(/^ERR_(INVALID_ARG_|OUT_OF_RANGE)/),
    });
  }
  expect((await receiveBytes(sockets.source, 9)).toString()).toBe('untouched');
});

test('a source that was destroyed, or fails while its sink is opened', async () => {
  const { source } = await sourceLink();
  const { sink } = await fileTarget('path');
  const late = transfer(source, sink);
  source.destroy();
  expect(await failed(late)).toMatchObject({ code: 'ERR_STREAM_PREMATURE_CLOSE', transferred: 0 });
  const error = await failed(transfer(source, sink));
  expect(error).toMatchObject({ code: 'ERR_STREAM_PREMATURE_CLOSE', transferred: 0 });
  expectWhole(error, Buffer.alloc(0), Buffer.alloc(0));
});
