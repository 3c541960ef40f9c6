// Sizes, ranges and options of createReadStream, piped to sockets and HTTP messages.
import { type EventEmitter, once } from 'node:events';
import * as fs from 'node:fs';
import { open } from 'node:fs/promises';
import { pathToFileURL } from 'node:url';
import { describe, expect, onTestFinished, test } from 'vitest';
import { createReadStream } from 'zerocopy';
import { sizes as commonSizes } from './helpers/backends';
import { type TestFile, testFile } from './helpers/files';
import {
  closed,
  descriptorsOf,
  errorFacts,
  fellBack,
  LARGE,
  nativeWent,
  type Options,
  type Run,
  type SinkKind,
  sameAsFs,
  sendfile,
  type Went,
  wholeWire,
  wireTo,
} from './helpers/parity';
import { until } from './helpers/process';

const sizes = [...commonSizes.filter((size) => size < LARGE), LARGE];

/** Pipes a file to a sink, and notes all that arrives. */
async function piped(
  run: Run,
  kind: Parameters<typeof wireTo>[0],
  file: TestFile,
  options?: Options,
) {
  const { sink, peer } = await wireTo(kind, file.content.length);
  run.watch(sink);
  const stream = run.open(file.path, options);
  run.note('returned', stream.pipe(sink) === sink);
  run.noteHash('wire', await wholeWire(peer));
  await closed(sink);
  if (typeof options !== 'object' || options?.autoClose !== false) {
    await closed(stream);
    run.note('left open', descriptorsOf(file.path));
  }
  return stream;
}

const kinds = [
  'tcp',
  'unix',
  'response',
  'chunked response',
  'HTTP/1.0 response',
  'request',
  'chunked request',
] as const;

describe.each(kinds)('to a sink of kind %s', (kind) => {
  test.each(sizes)('%d bytes', async (size) => {
    const file = testFile(size);
    await sameAsFs((run) => piped(run, kind, file), nativeWent(size));
  });
});

test('HEAD: the body goes nowhere', async () => {
  const file = testFile(100_000);
  await sameAsFs(async (run) => {
    const { sink, peer } = await wireTo('HEAD response', file.content.length);
    run.watch(sink);
    const stream = run.open(file.path);
    stream.pipe(sink);
    run.note('wire', (await wholeWire(peer)).toString());
    await closed(stream);
    return stream;
  }, fellBack('NO_BODY'));
});

describe('ranges', () => {
  const ranges: [Options & object, number][] = [
    [{ start: 0 }, 100_000],
    [{ start: 1 }, 99_999],
    [{ start: 4096, end: 8191 }, 4096],
    [{ start: 30_000, end: 90_000 }, 60_001],
    [{ end: 0 }, 1],
    [{ end: 49_999 }, 50_000],
    [{ end: Number.POSITIVE_INFINITY }, 100_000],
    [{ start: 10, end: Number.POSITIVE_INFINITY }, 99_990],
    [{ end: 99_999 }, 100_000],
    [{ end: 100_000 }, 100_000],
    [{ start: 50_000, end: 1e12 }, 50_000],
    [{ start: 70_000, end: 70_000 }, 1],
    [{ start: 99_999 }, 1],
    [{ start: 100_000 }, 0],
    [{ start: 100_001, end: 100_002 }, 0],
    [{ start: 1e12 }, 0],
    [{ start: Number.MAX_SAFE_INTEGER }, 0],
  ];
  test.each(ranges)('%j: %d bytes', async (options, length) => {
    const file = testFile(100_000);
    await sameAsFs(async (run) => {
      const stream = await piped(run, 'tcp', file, options);
      run.note('bytesRead', stream.bytesRead);
      run.note('start and end', [
        (stream as { start?: number }).start,
        (stream as { end?: number }).end,
      ]);
      expect(stream.bytesRead).toBe(length);
      return stream;
    }, nativeWent(length));
  });
});

describe('options', () => {
  const own = { open: fs.open, read: fs.read, close: fs.close };
  const foreign = {
    open: ((...args: Parameters<typeof fs.open>) => fs.open(...args)) as typeof fs.open,
    read: ((...args: Parameters<typeof fs.read>) => fs.read(...args)) as typeof fs.read,
    close: ((...args: Parameters<typeof fs.close>) => fs.close(...args)) as typeof fs.close,
  };
  const text = fellBack('READERS');
  const cases: [string, Options, Went][] = [
    ['null', null as unknown as undefined, sendfile],
    ['{}', {}, sendfile],
    ["'utf8'", 'utf8', text],
    ["'hex'", 'hex', text],
    ["encoding 'base64'", { encoding: 'base64' }, text],
    ["encoding 'latin1'", { encoding: 'latin1' }, text],
    ["flags 'r'", { flags: 'r' }, sendfile],
    ["flags 'rs'", { flags: 'rs' }, sendfile],
    ["flags 'r+'", { flags: 'r+' }, sendfile],
    ["flags 'a+'", { flags: 'a+' }, sendfile],
    ['flags O_RDONLY', { flags: fs.constants.O_RDONLY as unknown as string }, sendfile],
    ['mode', { mode: 0o600 }, sendfile],
    ['autoClose true', { autoClose: true }, sendfile],
    ['highWaterMark 1000', { highWaterMark: 1000 }, sendfile],
    ['highWaterMark 1 MiB', { highWaterMark: 1024 * 1024 }, sendfile],
    ["fs with Node's own functions", { fs: own }, sendfile],
    ['fs with own functions', { fs: foreign }, fellBack('SOURCE_FS')],
    ['fs: null', { fs: null } as unknown as Options, sendfile],
    ['objectMode', { objectMode: true } as unknown as Options, text],
  ];
  test.each(cases)('%s', async (_name, options, went) => {
    const file = testFile(200_000);
    await sameAsFs(async (run) => {
      const stream = await piped(run, 'tcp', file, options);
      const { path, flags, bytesRead, readableHighWaterMark } = stream as typeof stream & {
        flags: unknown;
      };
      run.note('about', { path, flags, bytesRead, readableHighWaterMark });
      return stream;
    }, went);
  });

  test('highWaterMark 1', async () => {
    const file = testFile(300);
    await sameAsFs((run) => piped(run, 'tcp', file, { highWaterMark: 1 }), { backend: 'read' });
  });

  test('chunks of an HTTP body are of highWaterMark', async () => {
    const file = testFile(100_000);
    await sameAsFs((run) => piped(run, 'chunked response', file, { highWaterMark: 999 }), sendfile);
  });

  test.each<SinkKind>(['tcp', 'chunked response'])('emitClose: false to %s', async (kind) => {
    const file = testFile(100_000);
    await sameAsFs(async (run) => {
      const { sink, peer } = await wireTo(kind, 0);
      const stream = run.open(file.path, { emitClose: false });
      const ended = once(stream, 'end');
      stream.pipe(sink);
      run.noteHash('wire', await wholeWire(peer));
      await ended;
      await closed(sink);
      await until(() => descriptorsOf(file.path) === 0, 'the file is closed');
      return stream;
    }, sendfile);
  });

  test('autoClose: false leaves the descriptor open', async () => {
    const file = testFile(100_000);
    await sameAsFs(async (run) => {
      const stream = await piped(run, 'tcp', file, { autoClose: false });
      const { fd } = stream as unknown as { fd: number };
      run.note('destroyed', stream.destroyed);
      const next = Buffer.alloc(10);
      run.note('bytes behind', fs.readSync(fd, next, 0, 10, null));
      fs.closeSync(fd);
      return stream;
    }, sendfile);
  });

  test('a file URL, a Buffer as path', async () => {
    const file = testFile(100_000);
    for (const path of [pathToFileURL(file.path), Buffer.from(file.path)]) {
      await sameAsFs(async (run) => {
        const { sink, peer } = await wireTo('tcp', 0);
        const stream = run.open(path);
        stream.pipe(sink);
        run.noteBytes('wire', await wholeWire(peer), file.content);
        await closed(stream);
        run.note('path', stream.path);
        return stream;
      }, sendfile);
    }
  });

  test('a relative path, by ./ and by none', async () => {
    const file = testFile(100_000);
    const relative = file.path.slice(process.cwd().length + 1);
    for (const path of [relative, `./${relative}`]) {
      await sameAsFs((run) => piped(run, 'tcp', { ...file, path }), sendfile);
    }
  });
});

describe('a descriptor', () => {
  const cases: [string, Options & object, Went][] = [
    ['from its position', {}, sendfile],
    ['from its position to end', { end: 59_999 }, sendfile],
    ['from its position, autoClose false', { autoClose: false }, sendfile],
    ['from start', { start: 20_000 }, sendfile],
    ['from start, autoClose false', { start: 20_000, autoClose: false }, sendfile],
    ['from start to end, autoClose false', { start: 7, end: 9, autoClose: false }, nativeWent(3)],
  ];
  test.each(cases)('a number, read %s', async (_name, options, went) => {
    const file = testFile(100_000);
    await sameAsFs(async (run) => {
      const fd = fs.openSync(file.path, 'r');
      fs.readSync(fd, Buffer.alloc(10_000), 0, 10_000, null);
      const { sink, peer } = await wireTo('tcp', 0);
      const stream = run.open('', { ...options, fd });
      stream.pipe(sink);
      run.noteHash('wire', await wholeWire(peer));
      run.note('bytesRead', stream.bytesRead);
      if (options.autoClose === false) {
        const next = Buffer.alloc(10);
        const read = fs.readSync(fd, next, 0, 10, null);
        run.note('next', next.toString('hex', 0, read));
        fs.closeSync(fd);
      } else {
        await closed(stream);
        run.note('left open', descriptorsOf(file.path));
      }
      return stream;
    }, went);
  });

  test('its position, when it is read with an own reader half-way', async () => {
    const file = testFile(100_000);
    await sameAsFs(async (run) => {
      const fd = fs.openSync(file.path, 'r');
      const streams = [];
      for (const end of [29_999, 39_999]) {
        const { sink, peer } = await wireTo('tcp', 0);
        const stream = run.open('', { fd, end, autoClose: false });
        stream.pipe(sink);
        run.noteBytes(`wire ${end}`, await wholeWire(peer), file.content.subarray(...partOf(end)));
        streams.push(stream);
      }
      const next = Buffer.alloc(10);
      fs.readSync(fd, next, 0, 10, null);
      run.noteBytes('next', next, file.content.subarray(70_000, 70_010));
      fs.closeSync(fd);
      return streams[0] as fs.ReadStream;
    }, sendfile);
    function partOf(end: number): [number, number] {
      return end === 29_999 ? [0, 30_000] : [30_000, 70_000];
    }
  });

  test.each([{}, { start: 5000 }, { autoClose: false }])('a FileHandle, %j', async (options) => {
    const file = testFile(100_000);
    await sameAsFs(async (run) => {
      const handle = await open(file.path);
      // Node's types leave out that it is one.
      (handle as unknown as EventEmitter).on('close', () => run.note('handle', 'closed'));
      const { sink, peer } = await wireTo('tcp', 0);
      const stream = run.open('', { ...options, fd: handle });
      stream.pipe(sink);
      run.noteHash('wire', await wholeWire(peer));
      await closed(sink);
      if ('autoClose' in options) {
        const { bytesRead } = await handle.read(Buffer.alloc(10), 0, 10, null);
        run.note('behind', bytesRead);
        await handle.close();
      }
      await closed(stream);
      run.note('left open', descriptorsOf(file.path));
      return stream;
    }, sendfile);
  });

  test('FileHandle.createReadStream is Node’s, and works beside', async () => {
    const file = testFile(100_000);
    const handle = await open(file.path);
    onTestFinished(() => handle.close());
    const fd = createReadStream('', { fd: handle, autoClose: false });
    expect(fd).toBeInstanceOf(fs.ReadStream);
    expect((fd as unknown as { fd: number }).fd).toBe(handle.fd);
  });
});

describe('bad options throw the same', () => {
  const file = '/dev/null';
  const cases: [string, unknown, unknown][] = [
    ['no path', undefined, undefined],
    ['a number as path', 5, undefined],
    ['a path with a zero byte', 'a\0b', undefined],
    ['an http URL', new URL('http://x/'), undefined],
    ['options a number', file, 5],
    ['an unknown encoding', file, 'latin7'],
    ['an unknown encoding option', file, { encoding: 'latin7' }],
    ['start a string', file, { start: '1' }],
    ['start negative', file, { start: -1 }],
    ['start not whole', file, { start: 1.5 }],
    ['start NaN', file, { start: Number.NaN }],
    ['start null', file, { start: null }],
    ['start infinite', file, { start: Number.POSITIVE_INFINITY }],
    ['end a string', file, { end: '1' }],
    ['end negative', file, { end: -1 }],
    ['end null', file, { end: null }],
    ['start behind end', file, { start: 5, end: 4 }],
    ['highWaterMark negative', file, { highWaterMark: -1 }],
    ['highWaterMark a string', file, { highWaterMark: 'x' }],
    ['highWaterMark NaN', file, { highWaterMark: Number.NaN }],
    ['fd a string', file, { fd: '1' }],
    ['fd negative', file, { fd: -1 }],
    ['fd not whole', file, { fd: 1.5 }],
    ['fd an object', file, { fd: {} }],
    ['fs without open', file, { fs: { read: fs.read, close: fs.close } }],
    ['fs without read', file, { fs: { open: fs.open, close: fs.close } }],
    ['fs without close', file, { fs: { open: fs.open, read: fs.read } }],
    ['signal a string', file, { signal: 'x' }],
    ['signal an object', file, { signal: {} }],
  ];
  const thrown = (run: () => unknown) => {
    try {
      run();
    } catch (error) {
      return { ...errorFacts(error), constructor: (error as Error).constructor.name };
    }
    return 'nothing';
  };
  test.each(cases)('%s', (_name, path, options) => {
    const args = [path, options] as Parameters<typeof createReadStream>;
    const original = thrown(() => fs.createReadStream(...args).destroy());
    expect(original).not.toBe('nothing');
    expect(thrown(() => createReadStream(...args).destroy())).toEqual(original);
  });

  test('fd a FileHandle with fs', async () => {
    const handle = await open(file);
    const args = ['', { fd: handle, fs }] as unknown as Parameters<typeof createReadStream>;
    const original = thrown(() => fs.createReadStream(...args));
    expect(original).toMatchObject({ code: 'ERR_METHOD_NOT_IMPLEMENTED' });
    expect(thrown(() => createReadStream(...args))).toEqual(original);
    await handle.close();
  });

  test("the caller's options stay as they are", () => {
    const options = Object.freeze({ start: 1, end: 2 });
    createReadStream(file, options).destroy();
    expect(options).toEqual({ start: 1, end: 2 });
  });
});
