import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import { open } from 'node:fs/promises';
import * as path from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { type TransferOptions, transfer } from 'zerocopy';
import { backends, expectResult } from './helpers/backends';
import { scratchFolder, scratchRoot, testFile } from './helpers/files';
import { openDescriptors, sleep } from './helpers/process';
import { link, receive } from './helpers/sockets';

// Called as JavaScript would, types aside.
const call = transfer as (...args: unknown[]) => Promise<unknown>;

/** Fails with `error`, sends nothing, and leaves no descriptor behind. */
async function refused(
  source: unknown,
  options: unknown,
  error: { code: string; name?: string; syscall?: string; message?: unknown },
) {
  const { sink, peer } = await link();
  const descriptors = openDescriptors();
  await expect(call(source, sink, options)).rejects.toMatchObject(error);
  expect(openDescriptors()).toBe(descriptors);
  expect(sink.bytesWritten).toBe(0);
  sink.end();
  expect((await receive(peer)).length).toBe(0);
}

/** With the first transfer that needs them come the two descriptors of the engine. */
beforeAll(async () => {
  const folder = fs.mkdtempSync(path.join(scratchRoot, 'start-'));
  const file = path.join(folder, 'file');
  fs.writeFileSync(file, Buffer.alloc(1024 * 1024));
  await transfer(file, path.join(folder, 'copy'));
  fs.rmSync(folder, { recursive: true });
});

describe.each(backends)('%s', (backend) => {
  const type = { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' };
  const value = { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE' };
  const range = { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' };

  test.each([
    ['undefined', undefined, type],
    ['null', null, type],
    ['true', true, type],
    ['an empty object', {}, type],
    ['a Uint8Array', new Uint8Array(3), type],
    ['a function', () => {}, type],
    ['a symbol', Symbol('s'), type],
    ['a BigInt', 3n, type],
    ['a URL of another scheme', new URL('http://localhost/'), value],
    ['a path with a null byte', '/etc/passwd\0.png', value],
    ['a negative descriptor', -1, range],
    ['a fractional descriptor', 1.5, range],
    ['a huge descriptor', 2 ** 31, range],
    ['NaN', Number.NaN, range],
    ['a list of a string', ['/etc/passwd'], type],
    ['a list with a hole', [new Uint8Array(3)].concat(new Array(1)), type],
    ['a list of null', [null], type],
    ['a list of a list', [[]], type],
    ['a segment without a file', [{ offset: 3 }], type],
    ['a segment with an unknown name', [{ file: '/etc/passwd', start: 3 }], value],
    ['a segment with a negative offset', [{ file: '/etc/passwd', offset: -1 }], range],
    ['a segment with a length that is NaN', [{ file: '/etc/passwd', length: Number.NaN }], range],
  ])('source: %s', (_name, source, error) => refused(source, { backend }, error));

  test.each([
    ['a string', 'offset', type],
    ['an array', [], type],
    ['null', null, type],
    ['start, as fs has it', { start: 3 }, value],
    ['end, as fs has it', { end: 3 }, value],
    ['an offset that is a string', { offset: '3' }, type],
    ['an offset that is null', { offset: null }, type],
    ['an offset that is a BigInt', { offset: 3n }, type],
    ['a negative offset', { offset: -1 }, range],
    ['a fractional offset', { offset: 0.5 }, range],
    ['an offset that is NaN', { offset: Number.NaN }, range],
    ['an infinite offset', { offset: Number.POSITIVE_INFINITY }, range],
    ['a huge offset', { offset: 2 ** 53 }, range],
    ['a negative length', { length: -1 }, range],
    ['an infinite length', { length: Number.POSITIVE_INFINITY }, range],
    ['a huge length', { length: 1e300 }, range],
    ['sinkOffset with a socket', { sinkOffset: 3 }, value],
    ['sinkFlags with a socket', { sinkFlags: 'a' }, value],
    ['endSink that is a number', { endSink: 1 }, type],
    ['a signal that is none', { signal: {} }, type],
    ['onProgress that is none', { onProgress: true }, type],
    ['an unknown backend', { backend: 'sendfile' }, value],
  ])('options: %s', (_name, options, error) => {
    const given = typeof options === 'object' && options && !Array.isArray(options);
    return refused(testFile(10).path, given ? { backend, ...options } : options, error);
  });

  test('offset and length with a gather list', async () => {
    for (const options of [{ offset: 17 }, { length: 17 }]) {
      const message = expect.stringMatching(/Received 17$/);
      await refused([new Uint8Array(3)], { backend, ...options }, { ...value, message });
    }
  });

  test.each([
    ['undefined', undefined],
    ['null', null],
    ['a Readable', Readable.from([])],
    ['an array', []],
  ])('sink: %s', async (_name, sink) => {
    await expect(call(testFile(10).path, sink, { backend })).rejects.toMatchObject(type);
  });

  test('a path that is not there, and one that may not be read', async () => {
    await refused('/nowhere/at/all', { backend }, { code: 'ENOENT', syscall: 'open' });
    await refused('', { backend }, { code: 'ENOENT', syscall: 'open' });
    await refused(`${testFile(10).path}/x`, { backend }, { code: 'ENOTDIR', syscall: 'open' });
    await refused('/dev/tty', { backend }, { code: 'ENXIO', syscall: 'open' });
  });

  test('a directory', async () => {
    await refused(scratchFolder(), { backend }, { code: 'EISDIR', syscall: 'read' });
    const fd = fs.openSync(scratchFolder(), 'r');
    onTestFinished(() => fs.closeSync(fd));
    await refused(fd, { backend }, { code: 'EISDIR', syscall: 'read' });
  });

  test('a descriptor that is closed, or not for reading', async () => {
    const fd = fs.openSync(testFile(10).path, 'r');
    fs.closeSync(fd);
    await refused(fd, { backend }, { code: 'EBADF' });
    const handle = await open(testFile(10).path);
    await handle.close();
    await refused(handle, { backend }, { code: 'EBADF' });
    const writeOnly = fs.openSync(testFile(10).path, 'w');
    fs.writeSync(writeOnly, 'content');
    onTestFinished(() => fs.closeSync(writeOnly));
    await refused(writeOnly, { backend }, { code: 'EBADF' });
  });

  test('one segment of many that is not there: nothing of the others is sent', async () => {
    const { path: file } = testFile(100);
    await refused(
      [new Uint8Array(3), { file }, { file: '/nowhere' }],
      { backend },
      {
        code: 'ENOENT',
        syscall: 'open',
      },
    );
  });

  test('a descriptor that the caller closes, and uses anew, right after the call', async () => {
    const file = testFile(300_000);
    const other = testFile(400_000);
    const { sink, peer } = await link();
    const fd = fs.openSync(file.path, 'r');
    sink.cork();
    const result = transfer(fd, sink, { backend });
    fs.closeSync(fd);
    const reused = fs.openSync(other.path, 'r');
    onTestFinished(() => fs.closeSync(reused));
    expect(reused).toBe(fd);
    sink.uncork();
    const received = receive(peer);
    expectResult(await result, backend, 300_000);
    sink.end();
    expect((await received).equals(file.content)).toBe(true);
  });

  test('a sink that has been ended, or destroyed', async () => {
    const file = testFile(10);
    const ended = (await link()).sink;
    ended.on('error', () => expect.unreachable());
    ended.end();
    await expect(transfer(file.path, ended, { backend })).rejects.toMatchObject({
      code: 'ERR_STREAM_WRITE_AFTER_END',
      transferred: 0,
    });
    const destroyed = (await link()).sink.destroy();
    await expect(transfer(file.path, destroyed, { backend })).rejects.toMatchObject({
      code: 'ERR_STREAM_PREMATURE_CLOSE',
      transferred: 0,
    });
  });

  test('a sink that is destroyed before its connection stands', async () => {
    const file = testFile(10);
    const { sink } = await link();
    sink.cork();
    const failed = transfer(file.path, sink, { backend }).catch((error) => error);
    sink.destroy();
    expect(await failed).toMatchObject({ code: 'ERR_STREAM_PREMATURE_CLOSE', transferred: 0 });
  });
});

describe('what is not a regular file goes by streams', () => {
  const options: TransferOptions = { backend: 'auto' };

  test('/proc, whole and by a range', async () => {
    const wanted = fs.readFileSync('/proc/cpuinfo');
    const ranges = [{}, { offset: 5, length: 10 }, { length: 10_000_000 }];
    for (const [i, range] of ranges.entries()) {
      const { sink, peer } = await link();
      const received = receive(peer);
      const result = await transfer('/proc/cpuinfo', sink, { ...options, ...range });
      sink.end();
      expect(result).toMatchObject({ backend: 'stream', fallback: { code: 'SOURCE_SIZE', at: 0 } });
      const bytes = await received;
      expect(bytes.length).toBe(result.transferred);
      if (i === 1) expect(bytes.equals(wanted.subarray(5, 15))).toBe(true);
      else expect(bytes.subarray(0, 20).equals(wanted.subarray(0, 20))).toBe(true);
    }
  });

  test('/sys, whose files say that they have 4096 bytes', async () => {
    const { sink, peer } = await link();
    const received = receive(peer);
    const result = await transfer('/sys/kernel/mm/transparent_hugepage/enabled', sink, options);
    sink.end();
    const wanted = fs.readFileSync('/sys/kernel/mm/transparent_hugepage/enabled');
    expect((await received).equals(wanted)).toBe(true);
    expect(result.fallback?.code).toBe('SOURCE_SIZE');
  });

  test('a FIFO, by its path: waits for the writer, and blocks nothing', async () => {
    const fifo = path.join(scratchFolder(), 'fifo');
    execFileSync('mkfifo', [fifo]);
    const { sink, peer } = await link();
    const descriptors = openDescriptors();
    const received = receive(peer);
    const result = transfer(fifo, sink, options);
    await sleep(50);
    const writer = fs.createWriteStream(fifo);
    writer.write('first ');
    await sleep(50);
    writer.end('last');
    expect(await result).toEqual({ transferred: 10, backend: 'splice' });
    sink.end();
    expect((await received).toString()).toBe('first last');
    await expect(transfer(fifo, (await link()).sink, { offset: 3 })).rejects.toMatchObject({
      code: 'ESPIPE',
    });
    expect(openDescriptors()).toBeLessThanOrEqual(descriptors + 4);
  });

  test('a device', async () => {
    const { sink, peer } = await link();
    const received = receive(peer);
    const result = await transfer('/dev/zero', sink, { ...options, length: 100_000 });
    sink.end();
    expect(result).toMatchObject({ transferred: 100_000, fallback: { code: 'SOURCE_TYPE' } });
    expect((await received).equals(Buffer.alloc(100_000))).toBe(true);
  });

  test('a terminal', async () => {
    // script(1) gives its child one, and types into it what it reads itself.
    const program = path.resolve('test/programs/terminal.mjs');
    const typed = execFileSync('script', ['-qec', `${process.execPath} ${program}`, '/dev/null'], {
      input: 'typed\n',
    });
    expect(typed.toString()).toContain('received "typed\\n" stream SOURCE_TYPE');
  });
});

test("a native transfer is refused where it can't be native", async () => {
  const { sink } = await link();
  await expect(transfer('/proc/cpuinfo', sink, { backend: 'native' })).rejects.toMatchObject({
    code: 'ERR_NOT_NATIVE',
    transferred: 0,
    cause: { code: 'SOURCE_SIZE' },
  });
  const file = testFile(10).path;
  await expect(transfer(file, new PassThrough(), { backend: 'native' })).rejects.toMatchObject({
    code: 'ERR_NOT_NATIVE',
    cause: { code: 'SINK_TYPE' },
  });
  expect(sink.bytesWritten).toBe(0);
});
