// transfer() from files and gather lists to files. What it shares with copyFile(): copy-both.test.ts.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, test } from 'vitest';
import { type Segment, transfer } from 'zerocopy';
import { backends, sizes } from './helpers/backends';
import {
  denseFile,
  expectContent,
  expectCopied,
  expectFailure,
  expectSparseContent,
  GIB,
  isDense,
  isShared,
  MIB,
  newFile,
  otherFolder,
  positionOf,
  procFile,
  roomyFolder,
  sparseFile,
  wayBetween,
} from './helpers/copies';
import { fails } from './helpers/failures';
import { handleFor, openFor, pattern, scratchFolder, testFile } from './helpers/files';
import { mountedImage, whyNoMount } from './helpers/mounts';
import { openDescriptors, until } from './helpers/process';

/** What a file holds after `bytes` were written to it at `at`. */
function written(before: Buffer, bytes: Buffer, at: number): Buffer {
  const after = Buffer.alloc(Math.max(before.length, at + bytes.length));
  before.copy(after);
  bytes.copy(after, at);
  return after;
}

describe.each(backends)('%s', (backend) => {
  test.each(sizes)('%d bytes, to a new file', async (size) => {
    const file = testFile(size);
    const sink = newFile();
    expectCopied(await transfer(file.path, sink, { backend }), backend, size);
    expectContent(sink, file.content);
  });

  test('a path, a URL, a descriptor and a FileHandle, as source and as sink', async () => {
    const file = testFile(100_003);
    const sources = [
      file.path,
      pathToFileURL(file.path),
      openFor(file.path, 'r'),
      await handleFor(file.path, 'r'),
    ];
    for (const source of sources) {
      const folder = scratchFolder();
      const names = ['path', 'url', 'descriptor', 'handle'].map((name) => path.join(folder, name));
      const [byPath = '', byUrl = '', byDescriptor = '', byHandle = ''] = names;
      const sinks = [
        byPath,
        pathToFileURL(byUrl),
        openFor(byDescriptor, 'w'),
        await handleFor(byHandle, 'w'),
      ];
      for (const sink of sinks) {
        expectCopied(await transfer(source, sink, { backend }), backend, 100_003);
      }
      for (const name of names) expectContent(name, file.content);
    }
  });

  test('descriptors that are open for reading and writing', async () => {
    const file = testFile(70_001);
    const sink = newFile();
    const result = await transfer(openFor(file.path, 'r+'), openFor(sink, 'w+'), { backend });
    expectCopied(result, backend, 70_001);
    expectContent(sink, file.content);
  });

  const SIZE = 200_000;

  test.each([
    { offset: 0, length: 1, sinkOffset: 0, expected: [0, 1] },
    { offset: 1, length: 100_000, sinkOffset: 4095, expected: [1, 100_001] },
    { offset: 4097, length: 4095, sinkOffset: 0, expected: [4097, 8192] },
    { offset: 150_001, sinkOffset: 49_999, expected: [150_001, SIZE] },
    { offset: SIZE - 1, length: 100, sinkOffset: 99_999, expected: [SIZE - 1, SIZE] },
    { length: SIZE + 1, sinkOffset: 1, expected: [0, SIZE] },
    { length: Number.MAX_SAFE_INTEGER, sinkOffset: 100_000, expected: [0, SIZE] },
    // Beyond the end of the sink: a hole comes between.
    { offset: 3, length: 50_000, sinkOffset: 300_001, expected: [3, 50_003] },
    { offset: 7, length: 0, sinkOffset: 5, expected: [7, 7] },
    { offset: SIZE, sinkOffset: 5, expected: [SIZE, SIZE] },
    { offset: SIZE + 1, length: 10, sinkOffset: 5, expected: [SIZE, SIZE] },
  ])(
    'offset $offset, length $length, sinkOffset $sinkOffset: the rest of the sink stays',
    async ({ expected: [start, end], ...options }) => {
      const file = testFile(SIZE);
      const sink = testFile(100_000);
      const bytes = file.content.subarray(start, end);
      const wanted =
        bytes.length > 0 ? written(sink.content, bytes, options.sinkOffset) : undefined;
      for (const given of [sink.path, openFor(sink.path, 'r+')]) {
        fs.writeFileSync(sink.path, sink.content);
        const result = await transfer(file.path, given, { ...options, backend });
        expectCopied(result, backend, bytes.length);
        expectContent(sink.path, wanted ?? sink.content);
      }
    },
  );

  test("sinkFlags: 'w' empties the sink first, 'r+' leaves what it does not write over", async () => {
    const file = testFile(50_001);
    const sink = testFile(200_000);
    const options = { backend, sinkFlags: 'r+' };
    expectCopied(await transfer(file.path, sink.path, options), backend, 50_001);
    expectContent(sink.path, written(sink.content, file.content, 0));
    expectCopied(await transfer(file.path, sink.path, { backend }), backend, 50_001);
    expectContent(sink.path, file.content);
    const part = { backend, length: 3, sinkFlags: 'w', sinkOffset: 5 };
    expectCopied(await transfer(file.path, sink.path, part), backend, 3);
    expectContent(sink.path, written(Buffer.alloc(0), file.content.subarray(0, 3), 5));
  });

  test("sinkFlags: 'r+' needs the sink to be there, 'wx' that it is not", async () => {
    const file = testFile(50_001);
    const sink = newFile();
    const missing = await fails(transfer(file.path, sink, { backend, sinkFlags: 'r+' }));
    expectFailure(missing, backend, 'ENOENT');
    expect(missing).toMatchObject({ syscall: 'open', transferred: 0 });
    expect(fs.existsSync(sink)).toBe(false);
    await expect(transfer(file.path, sink, { backend, sinkOffset: 0 })).rejects.toMatchObject({
      code: 'ENOENT',
    });

    const exclusive = { backend, sinkFlags: 'wx' };
    expectCopied(await transfer(file.path, sink, exclusive), backend, 50_001);
    expectContent(sink, file.content);
    const present = await fails(transfer(testFile(10).path, sink, exclusive));
    expectFailure(present, backend, 'EEXIST');
    expect(present).toMatchObject({ syscall: 'open', transferred: 0 });
    expectContent(sink, file.content);
  });

  test('a sink that is not open for writing', async () => {
    const file = testFile(50_001);
    const sink = testFile(1000);
    const sinks = [openFor(sink.path, 'r'), await handleFor(sink.path, 'r')];
    const options = { backend, sinkOffset: 3 };
    const errors = [
      await fails(transfer(file.path, sink.path, { backend, sinkFlags: 'r' })),
      ...(await Promise.all(sinks.map((given) => fails(transfer(file.path, given, { backend }))))),
      ...(await Promise.all(sinks.map((given) => fails(transfer(file.path, given, options))))),
    ];
    for (const error of errors) {
      expectFailure(error, backend, 'EBADF');
      expect(error.transferred).toBe(0);
    }
    expectContent(sink.path, sink.content);
  });

  test('a sink that is closed', async () => {
    const fd = fs.openSync(newFile(), 'w');
    fs.closeSync(fd);
    const error = await fails(transfer(testFile(10).path, fd, { backend }));
    expect(error).toMatchObject({ code: 'EBADF', transferred: 0 });
  });

  test("the sink's own position is used, and moved, as by write(2)", async () => {
    const file = testFile(100_003);
    const sink = testFile(10);
    const handle = await handleFor(sink.path, 'r+');
    await handle.write('123');
    for (const given of [handle, handle.fd]) {
      const at = positionOf(handle.fd);
      expectCopied(await transfer(file.path, given, { backend }), backend, 100_003);
      expect(positionOf(handle.fd)).toBe(at + 100_003);
    }
    await handle.write('!');
    const wanted = ['123', file.content, file.content, '!'].map((part) => Buffer.from(part));
    expectContent(sink.path, Buffer.concat(wanted));
  });

  test("with sinkOffset the sink's own position stays as it is", async () => {
    const file = testFile(100_003);
    const sink = newFile();
    const fd = openFor(sink, 'w');
    fs.writeSync(fd, '12345');
    const options = { backend, sinkOffset: 2 };
    expectCopied(await transfer(file.path, fd, options), backend, 100_003);
    expect(positionOf(fd)).toBe(5);
    fs.writeSync(fd, '!');
    const wanted = written(Buffer.from('12345'), file.content, 2);
    expectContent(sink, written(wanted, Buffer.from('!'), 5));
  });

  test("the source's own position is neither used nor moved", async () => {
    const file = testFile(100_003);
    const handle = await handleFor(file.path, 'r');
    await handle.read(Buffer.alloc(7), 0, 7);
    for (const source of [handle, handle.fd, [{ file: handle }]]) {
      const sink = newFile();
      expectCopied(await transfer(source, sink, { backend }), backend, 100_003);
      expectContent(sink, file.content);
      expect(positionOf(handle.fd)).toBe(7);
    }
  });

  test('descriptors that the caller closes, and uses anew, right after the call', async () => {
    const file = testFile(3 * MIB + 1);
    const other = testFile(400_000);
    const folder = scratchFolder();
    const [target, untouched] = [path.join(folder, 'target'), path.join(folder, 'untouched')];
    const source = fs.openSync(file.path, 'r');
    const sink = fs.openSync(target, 'w');
    const result = transfer(source, sink, { backend });
    fs.closeSync(sink);
    fs.closeSync(source);
    expect([openFor(other.path, 'r'), openFor(untouched, 'w')].sort()).toEqual(
      [source, sink].sort(),
    );
    expectCopied(await result, backend, file.content.length);
    expectContent(target, file.content);
    expectContent(untouched, Buffer.alloc(0));
  });

  test('a source that grows meanwhile: what it had at the start is copied', async () => {
    const file = testFile(3 * MIB + 1);
    const sink = newFile();
    const result = transfer(openFor(file.path, 'r'), sink, { backend });
    fs.appendFileSync(file.path, 'more');
    expectCopied(await result, backend, file.content.length);
    expectContent(sink, file.content);
  });

  test('aborted midway: the sink stands behind the bytes that have arrived', async () => {
    const folder = roomyFolder();
    const source = denseFile(GIB, folder);
    for (const before of [10, 2 * MIB]) {
      const sink = testFile(before, folder);
      const fd = openFor(sink.path, 'r+');
      const controller = new AbortController();
      const options = { backend, signal: controller.signal };
      const failed = fails(transfer(source, fd, options));
      await until(() => fs.statSync(sink.path).size > before, 'it is under way');
      controller.abort();
      const error = await failed;
      expectFailure(error, backend, 'ABORT_ERR');
      expect(isDense(sink.path, error.transferred)).toBe(true);
      if (backend === 'native') expect(positionOf(fd)).toBe(error.transferred);
      if (backend === 'native') expect(fs.statSync(sink.path).size).toBe(error.transferred);
    }
  }, 60_000);

  test('two halves of a file at once, into one sink', async () => {
    const file = testFile(5 * MIB + 3);
    const sink = newFile();
    const fd = openFor(sink, 'w');
    const half = 2 * MIB + 1;
    const results = await Promise.all([
      transfer(file.path, fd, { backend, length: half, sinkOffset: 0 }),
      transfer(file.path, fd, { backend, offset: half, sinkOffset: half }),
    ]);
    expectCopied(results[0], backend, half);
    expectCopied(results[1], backend, file.content.length - half);
    expectContent(sink, file.content);
  });

  test('a range beyond 4 GiB, to one beyond 4 GiB', async () => {
    const at = 2 ** 32 + 12_345;
    const file = sparseFile(5 * GIB, [[at, 5000]]);
    const sink = sparseFile(1, []);
    const options = { offset: at - 100_000, length: 200_000, sinkOffset: 2 ** 32 + 777, backend };
    expectCopied(await transfer(file.path, sink.path, options), backend, 200_000);
    const [[, bytes] = [0, Buffer.alloc(0)]] = file.data;
    expectSparseContent(sink.path, {
      path: sink.path,
      size: 2 ** 32 + 777 + 200_000,
      data: [[2 ** 32 + 777 + 100_000, bytes]],
    });
  });

  test('from one file system to another, both ways', async () => {
    const [disk, memory] = [scratchFolder(), otherFolder()];
    for (const [from, to] of [
      [disk, memory],
      [memory, disk],
    ] as const) {
      for (const size of [0, 1, 4097, 5 * MIB + 3]) {
        const file = testFile(size, from);
        const sink = newFile(to);
        const result = await transfer(file.path, sink, { backend });
        expectCopied(result, backend, size, wayBetween(from, to));
        expectContent(sink, file.content);
      }
      const file = testFile(200_001, from);
      const fd = openFor(newFile(to), 'w');
      fs.writeSync(fd, 'head');
      const result = await transfer(file.path, fd, { backend, offset: 100_000 });
      expectCopied(result, backend, 100_001, wayBetween(from, to));
      expect(positionOf(fd)).toBe(100_005);
      const wanted = Buffer.concat([Buffer.from('head'), file.content.subarray(100_000)]);
      expectContent(newFile(to), wanted);
    }
  });

  test('from /proc and /sys, where sizes mean nothing', async () => {
    const { path: environment, content } = await procFile();
    const maps = path.join(path.dirname(environment), 'maps');
    const files = [
      maps,
      '/proc/version',
      '/proc/cpuinfo',
      '/proc/self/cmdline',
      '/sys/kernel/mm/transparent_hugepage/enabled',
    ].filter((file) => fs.existsSync(file));
    for (const folder of [scratchFolder(), otherFolder()]) {
      const sink = newFile(folder);
      const result = await transfer(environment, sink, { backend });
      expectCopied(result, backend, content.length, 'read');
      expectContent(sink, content);
      // The clock rate of a CPU changes from one reading to the next.
      const steady = (bytes: Buffer) => bytes.toString().replace(/^cpu MHz.*$/gm, '');
      for (const file of files) {
        const { transferred, ...way } = await transfer(file, sink, { backend });
        expectCopied({ transferred, ...way }, backend, transferred, 'read');
        const copied = fs.readFileSync(sink);
        expect(copied.length).toBe(transferred);
        expect(steady(copied)).toBe(steady(fs.readFileSync(file)));
      }
    }
  });

  test('a range of a file of /proc, to a place in a sink, goes by streams', async () => {
    const { path: environment, content } = await procFile();
    const sink = testFile(100_000);
    const given = { backend: backend === 'native' ? 'auto' : backend } as const;
    const code = backend === 'native' ? 'SOURCE_SIZE' : 'REQUESTED';
    const options = { ...given, offset: 100_001, length: 4097, sinkOffset: 50 };
    const result = { backend: 'stream', fallback: { code } };
    const part = await transfer(environment, sink.path, options);
    expect(part).toMatchObject({ ...result, transferred: 4097 });
    const bytes = content.subarray(100_001, 104_098);
    expectContent(sink.path, written(sink.content, bytes, 50));
    const beyond = { ...given, offset: content.length - 10, length: 100, sinkOffset: 0 };
    const end = await transfer(environment, sink.path, beyond);
    expect(end).toMatchObject({ ...result, transferred: 10 });
  });
});

describe.each(backends)('%s: a gather list', (backend) => {
  test('of memory and ranges, in their order', async () => {
    const file = testFile(200_001);
    const memory = pattern(1000, 5);
    const list: Segment[] = [
      memory,
      { file: file.path, offset: 4095, length: 100_000 },
      new Uint8Array(0),
      memory.subarray(3, 10),
      { file: openFor(file.path, 'r'), offset: 100_001 },
      { file: file.path, length: 0 },
      { file: await handleFor(file.path, 'r'), length: 1 },
      memory,
    ];
    const wanted = Buffer.concat([
      memory,
      file.content.subarray(4095, 104_095),
      memory.subarray(3, 10),
      file.content.subarray(100_001),
      file.content.subarray(0, 1),
      memory,
    ]);
    const sink = newFile();
    expectCopied(await transfer(list, sink, { backend }), backend, wanted.length);
    expectContent(sink, wanted);

    const fd = openFor(sink, 'r+');
    expectCopied(await transfer(list, fd, { backend, sinkOffset: 7 }), backend, wanted.length);
    expect(positionOf(fd)).toBe(0);
    expectContent(sink, written(wanted, wanted, 7));
    expectCopied(await transfer(list, fd, { backend }), backend, wanted.length);
    expect(positionOf(fd)).toBe(wanted.length);
    expectContent(sink, written(written(wanted, wanted, 7), wanted, 0));
  });

  test('with more memory than is copied at the call', async () => {
    const file = testFile(300_001);
    const memory = pattern(3 * MIB + 5, 9);
    const list: Segment[] = [{ file: file.path }, memory, { file: file.path }, memory];
    const wanted = Buffer.concat([file.content, memory, file.content, memory]);
    const sink = newFile();
    fs.writeFileSync(sink, 'head');
    const fd = openFor(sink, 'r+');
    fs.readSync(fd, Buffer.alloc(4));
    expectCopied(await transfer(list, fd, { backend }), backend, wanted.length);
    expect(positionOf(fd)).toBe(4 + wanted.length);
    expectContent(sink, Buffer.concat([Buffer.from('head'), wanted]));
    expectCopied(await transfer(list, fd, { backend, sinkOffset: 1 }), backend, wanted.length);
    expect(positionOf(fd)).toBe(4 + wanted.length);
    expect(
      fs
        .readFileSync(sink)
        .subarray(1, 1 + wanted.length)
        .equals(wanted),
    ).toBe(true);
  });

  test('of 3,000 segments, and one of memory alone', async () => {
    const file = testFile(5000);
    const list = Array.from({ length: 3000 }, (_, i): Segment => {
      return i % 3 === 0
        ? { file: file.path, offset: i, length: 7 }
        : Buffer.from(file.content.subarray(i, i + 7));
    });
    const wanted = list.map((_, i) => file.content.subarray(i, i + 7));
    const sink = newFile();
    expectCopied(await transfer(list, sink, { backend }), backend, 21_000);
    expectContent(sink, Buffer.concat(wanted));

    const memory = list.map((_, i) => Buffer.from(file.content.subarray(i, i + 7)));
    const result = await transfer(memory, sink, { backend });
    expect(result.transferred).toBe(21_000);
    expect(result.backend === 'stream').toBe(backend === 'stream');
    expectContent(sink, Buffer.concat(wanted));
    expect((await transfer([], sink, { backend })).transferred).toBe(0);
    expectContent(sink, Buffer.alloc(0));
  });

  test('whose memory is written to right after the call', async () => {
    const file = testFile(1000);
    const memory = Buffer.from('as it was');
    const sink = newFile();
    const result = transfer([memory, { file: file.path }], sink, { backend });
    memory.fill('!');
    expect((await result).transferred).toBe(1009);
    expectContent(sink, Buffer.concat([Buffer.from('as it was'), file.content]));
  });

  test('of files of several file systems', async () => {
    const [near, far] = [testFile(100_001), testFile(200_003, otherFolder())];
    const { path: environment, content } = await procFile();
    const list = [near, far, near].map(({ path: file }) => ({ file }));
    const sink = newFile();
    const result = await transfer([...list, { file: environment }], sink, { backend });
    const wanted = Buffer.concat([near.content, far.content, near.content, content]);
    expect(result.transferred).toBe(wanted.length);
    expect(result.backend === 'stream').toBe(backend === 'stream');
    expectContent(sink, wanted);
  });

  test('one of whose files is not there leaves the sink as it was', async () => {
    const sink = testFile(1000);
    const list = [Buffer.from('x'), { file: sink.path }, { file: '/nowhere' }];
    const error = await fails(transfer(list, sink.path, { backend }));
    expectFailure(error, backend, 'ENOENT');
    expectContent(sink.path, sink.content);
  });
});

describe.each(backends)('%s: a sink opened with O_APPEND', (backend) => {
  /** Streams: sendfile(2) and copy_file_range(2) refuse such a sink. */
  const code = backend === 'stream' ? 'REQUESTED' : 'SINK_APPEND';
  const asked = backend === 'stream' ? backend : 'auto';

  test("by sinkFlags 'a', 'a+' and 'ax'", async () => {
    const file = testFile(100_003);
    const sink = testFile(10);
    const expected = { transferred: 100_003, backend: 'stream', fallback: { code, at: 0 } };
    for (const sinkFlags of ['a', 'a+']) {
      const options = { backend: asked, sinkFlags } as const;
      expect(await transfer(file.path, sink.path, options)).toMatchObject(expected);
    }
    expectContent(sink.path, Buffer.concat([sink.content, file.content, file.content]));
    const exclusive = { backend: asked, sinkFlags: 'ax' } as const;
    await expect(transfer(file.path, sink.path, exclusive)).rejects.toMatchObject({
      code: 'EEXIST',
    });
    const fresh = newFile();
    expect(await transfer(file.path, fresh, exclusive)).toMatchObject(expected);
    expectContent(fresh, file.content);
  });

  test('as a descriptor: what is appended meanwhile is not written over', async () => {
    const file = testFile(5 * MIB + 3);
    const sink = testFile(10);
    const fd = openFor(sink.path, 'a');
    const copied = transfer(file.path, fd, { backend: asked });
    fs.appendFileSync(sink.path, 'between');
    const expected = { transferred: 5 * MIB + 3, backend: 'stream', fallback: { code, at: 0 } };
    expect(await copied).toMatchObject(expected);
    const bytes = fs.readFileSync(sink.path);
    expect(bytes.length).toBe(10 + 7 + 5 * MIB + 3);
    expect(bytes.subarray(0, 10).equals(sink.content)).toBe(true);
    const at = bytes.indexOf('between');
    const rest = Buffer.concat([bytes.subarray(10, at), bytes.subarray(at + 7)]);
    expect(rest.equals(file.content)).toBe(true);
  });

  test('is refused where streams are', async () => {
    const file = testFile(100);
    const sink = testFile(10);
    for (const [given, options] of [
      [sink.path, { sinkFlags: 'a' }],
      [openFor(sink.path, 'a'), {}],
    ] as const) {
      const error = await fails(transfer(file.path, given, { ...options, backend: 'native' }));
      expect(error).toMatchObject({
        code: 'ERR_NOT_NATIVE',
        transferred: 0,
        cause: { code: 'SINK_APPEND' },
      });
    }
    expectContent(sink.path, sink.content);
  });
});

describe.each(backends)('%s: one file as source and sink', (backend) => {
  const SIZE = 300_000;

  test.each([
    { offset: 0, length: 100, sinkOffset: 50 },
    { offset: 0, length: 100, sinkOffset: 99 },
    { offset: 100, length: 100, sinkOffset: 1 },
    { offset: 100, length: 100, sinkOffset: 100 },
    { offset: 70_000, length: 100_000, sinkOffset: 169_999 },
    { offset: 0, sinkOffset: SIZE - 1 },
    { sinkOffset: 1 },
  ])('ranges that overlap: $offset, $length → $sinkOffset', async (options) => {
    const file = testFile(SIZE);
    const hardLink = `${file.path}-link`;
    fs.linkSync(file.path, hardLink);
    for (const sink of [file.path, hardLink, openFor(file.path, 'r+')]) {
      const error = await fails(transfer(file.path, sink, { ...options, backend }));
      expect(error).toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
      expectContent(file.path, file.content);
    }
    const list = [{ file: file.path, offset: options.offset ?? 0, length: options.length ?? SIZE }];
    const { sinkOffset } = options;
    const error = await fails(transfer(list, file.path, { sinkOffset, backend }));
    expect(error).toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
    expectContent(file.path, file.content);
  });

  test.each([
    { offset: 0, length: 100, sinkOffset: 100 },
    { offset: 100, length: 100, sinkOffset: 0 },
    { offset: 4096, length: 100_000, sinkOffset: 104_096 },
    { offset: 150_001, length: 149_999, sinkOffset: 2 },
    // To the end that the file has at the start: it does not chase its own tail.
    { offset: 0, sinkOffset: SIZE },
    { offset: SIZE - 1, length: 100, sinkOffset: SIZE },
    { offset: 0, length: 10, sinkOffset: SIZE + 12_345 },
  ])('ranges that do not: $offset, $length → $sinkOffset', async (options) => {
    const file = testFile(SIZE);
    const { offset, length = SIZE, sinkOffset } = options;
    const bytes = file.content.subarray(offset, offset + length);
    const wanted = written(file.content, bytes, sinkOffset);
    for (const sink of [file.path, openFor(file.path, 'r+')]) {
      fs.writeFileSync(file.path, file.content);
      const result = await transfer(file.path, sink, { ...options, backend });
      expectCopied(result, backend, bytes.length);
      expectContent(file.path, wanted);
    }
  });

  test('by two descriptors, at the position of the one that writes', async () => {
    const file = testFile(SIZE);
    const [reader, writer] = [openFor(file.path, 'r'), openFor(file.path, 'r+')];
    const overlapping = await fails(transfer(reader, writer, { backend }));
    expect(overlapping).toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
    const same = await fails(transfer(writer, writer, { backend, length: 10 }));
    expect(same).toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
    expectContent(file.path, file.content);
    expect(positionOf(writer)).toBe(0);

    fs.readSync(writer, Buffer.alloc(1000));
    const options = { backend, offset: 10, length: 990 };
    expectCopied(await transfer(reader, writer, options), backend, 990);
    expect(positionOf(writer)).toBe(1990);
    expectContent(file.path, written(file.content, file.content.subarray(10, 1000), 1000));
  });

  test('in a gather list, beside others', async () => {
    const file = testFile(SIZE);
    const list: Segment[] = [Buffer.from('head'), { file: file.path, length: 100 }];
    // 'w' would empty it before it is read.
    for (const options of [{ backend }, { backend, sinkOffset: 50 }, { backend, sinkOffset: 90 }]) {
      const error = await fails(transfer(list, file.path, options));
      expect(error).toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
      expectContent(file.path, file.content);
    }
    const clear = { backend, sinkOffset: 100 };
    expectCopied(await transfer(list, file.path, clear), backend, 104);
    const bytes = Buffer.concat([Buffer.from('head'), file.content.subarray(0, 100)]);
    expectContent(file.path, written(file.content, bytes, 100));
  });
});

describe('by the kernel', () => {
  const types = (['xfs', 'btrfs'] as const).map((type) => [type, whyNoMount(type)] as const);
  for (const [type, why] of types) {
    test.skipIf(why !== '')(
      `${type}: blocks are shared, not copied${why}`,
      async () => {
        const folder = mountedImage(400, type);
        const file = testFile(9 * MIB + 5, folder);
        const sink = newFile(folder);
        expectCopied(await transfer(file.path, sink, { backend: 'native' }), 'native', 9 * MIB + 5);
        expectContent(sink, file.content);
        expect(isShared(sink)).toBe(true);
      },
      60_000,
    );
  }

  test('more bytes than one call moves', async () => {
    const folder = roomyFolder();
    const size = 2 * GIB + 5;
    // At the ends, and about the limits of copy_file_range(2) here (1 GiB) and anywhere.
    const marks = [0, GIB - 500, 0x7ffff000 - 500, size - 1000];
    const file = sparseFile(
      size,
      marks.map((at) => [at, 1000]),
      folder,
    );
    const descriptors = openDescriptors();
    const sink = newFile(folder);
    const result = await transfer(file.path, sink, { backend: 'native' });
    expectCopied(result, 'native', size);
    expectSparseContent(sink, file);
    await until(() => openDescriptors() === descriptors, 'descriptors are back');
  }, 120_000);
});
