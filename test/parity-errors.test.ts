// Errors of a createReadStream's file, and signals.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { pipeline } from 'node:stream';
import { describe, expect, onTestFinished, test } from 'vitest';
import { createReadStream, transfer } from 'zerocopy';
import { scratchFolder, testFile } from './helpers/files';
import {
  closed,
  descriptorsOf,
  errorFacts,
  fellBack,
  nothing,
  type Options,
  type Run,
  sameAsFs,
  sendfile,
  stuckHalfWay,
  type Went,
  wireTo,
} from './helpers/parity';
import { runNode } from './helpers/process';
import { link } from './helpers/sockets';

/** Pipes what fails, and notes what becomes of the sink. */
async function failing(run: Run, file: fs.PathLike, options?: Options, byPipeline = false) {
  const { sink, peer } = await wireTo('tcp', 0);
  run.watch(sink);
  const stream = run.open(file, options);
  if (byPipeline) {
    pipeline(stream, sink, (error) => run.note('called back with', errorFacts(error)));
  } else {
    stream.pipe(sink);
  }
  await closed(stream);
  await new Promise(setImmediate);
  run.note('sink', [sink.destroyed, sink.writableEnded]);
  run.note('bytesRead', stream.bytesRead);
  run.note('errored', errorFacts(stream.errored));
  sink.destroy();
  peer.destroy();
  return stream;
}

const missing = () => path.join(scratchFolder(), 'missing');
const looping = () => {
  const file = path.join(scratchFolder(), 'loop');
  fs.symlinkSync('loop', file);
  return file;
};
const notADirectory = () => path.join(testFile(1).path, 'below');
describe.each([
  ['pipe', false],
  ['pipeline', true],
])('errors, %s', (_name, byPipeline) => {
  const cases: [string, () => { file: string; options?: Options }, Went][] = [
    ['ENOENT', () => ({ file: missing() }), nothing],
    ['ENOENT with flags r+', () => ({ file: missing(), options: { flags: 'r+' } }), nothing],
    ['ENOTDIR', () => ({ file: notADirectory() }), nothing],
    ['ELOOP', () => ({ file: looping() }), nothing],
    ['ENAMETOOLONG', () => ({ file: `/${'x'.repeat(300)}` }), nothing],
    ['EISDIR', () => ({ file: scratchFolder() }), fellBack('SOURCE_TYPE')],
    ['ENXIO', () => ({ file: '/dev/tty' }), nothing],
    ['EEXIST', () => ({ file: testFile(1).path, options: { flags: 'wx+' } }), nothing],
    [
      'EBADF of a file opened to write',
      () => ({ file: testFile(100_000).path, options: { flags: 'a' } }),
      fellBack('UNSUPPORTED'),
    ],
    ['an unknown flag', () => ({ file: testFile(1).path, options: { flags: 'xyz' } }), nothing],
  ];
  test.each(cases)('%s', async (_code, make, went) => {
    const { file, options } = make();
    await sameAsFs((run) => failing(run, file, options, byPipeline), went);
  });

  test('EBADF of a closed descriptor', async () => {
    await sameAsFs(async (run) => {
      const stream = await failing(run, '', { fd: 1_000_000 }, byPipeline);
      expect(stream.errored).toMatchObject({ code: 'EBADF' });
      return stream;
    }, fellBack('UNSUPPORTED'));
  });

  test('EACCES', async () => {
    const { path: file } = testFile(100);
    fs.chmodSync(file, 0);
    const { geteuid, seteuid } = process as Required<typeof process>;
    const root = geteuid() === 0;
    if (root) seteuid(65534);
    onTestFinished(() => void (root && seteuid(0)));
    await sameAsFs(async (run) => {
      const stream = await failing(run, file, undefined, byPipeline);
      expect(stream.errored).toMatchObject({ code: 'EACCES' });
      return stream;
    }, nothing);
  });

  test('EIO from the read of an fs option, at once and half-way', async () => {
    const file = testFile(200_000);
    for (const good of [0, 1]) {
      await sameAsFs((run) => {
        let reads = 0;
        const read = (
          fd: number,
          buffer: Buffer,
          from: number,
          length: number,
          at: number,
          done: Done,
        ) => {
          if (++reads <= good) fs.read(fd, buffer, from, length, at, done);
          else
            process.nextTick(
              done,
              Object.assign(new Error('EIO: i/o error, read'), eio),
              0,
              buffer,
            );
        };
        const own = { open: fs.open, close: fs.close, read } as unknown as typeof fs;
        return failing(run, file.path, { fs: own }, byPipeline);
      }, fellBack('SOURCE_FS'));
    }
  });
});

type Done = (error: NodeJS.ErrnoException | null, bytesRead: number, buffer: Buffer) => void;
const eio = { code: 'EIO', errno: -5, syscall: 'read' };

test('autoClose: false: an error leaves it as fs does', async () => {
  const file = missing();
  await sameAsFs(async (run) => {
    const { sink, peer } = await wireTo('tcp', 0);
    const stream = run.open(file, { autoClose: false });
    stream.pipe(sink);
    await new Promise((resolve) => stream.once('error', resolve));
    for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate);
    run.note('destroyed', stream.destroyed);
    sink.destroy();
    peer.destroy();
    return stream;
  }, nothing);
});

describe('a signal', () => {
  const cases: [string, (controller: AbortController, stream: fs.ReadStream) => void][] = [
    ['at once', (controller) => controller.abort()],
    ['in a microtask', (controller) => queueMicrotask(() => controller.abort())],
    ["at 'open'", (controller, stream) => void stream.once('open', () => controller.abort())],
    ["at 'end'", (controller, stream) => void stream.once('end', () => controller.abort())],
    ["at 'close'", (controller, stream) => void stream.once('close', () => controller.abort())],
  ];
  test.each(cases)('aborted %s', async (name, abort) => {
    const file = testFile(100_000);
    await sameAsFs(
      async (run) => {
        const controller = new AbortController();
        const { sink, peer } = await wireTo('tcp', 0);
        run.watch(sink);
        const stream = run.open(file.path, { signal: controller.signal });
        stream.pipe(sink);
        abort(controller, stream);
        await closed(stream);
        await new Promise(setImmediate);
        run.note('left open', descriptorsOf(file.path));
        sink.destroy();
        peer.destroy();
        return stream;
      },
      /end|close/.test(name) ? sendfile : nothing,
    );
  });

  test('aborted before, with a reason', async () => {
    const file = testFile(100_000);
    await sameAsFs(async (run) => {
      const stream = run.open(file.path, { signal: AbortSignal.abort(new Error('mine')) });
      run.note('destroyed', stream.destroyed);
      const { sink } = await wireTo('tcp', 0);
      stream.pipe(sink);
      await closed(stream);
      run.note('cause', String(stream.errored?.cause));
      run.note('told', run.seen.events.stream?.slice(0, 2));
      run.seen.events.stream = []; // Node opens the file at some time after that
      return stream;
    }, nothing);
  });

  test.each([false, true])('aborted in mid-transfer, by pipeline: %s', async (byPipeline) => {
    await sameAsFs(async (run) => {
      const controller = new AbortController();
      const { signal } = controller;
      const stuck = await stuckHalfWay(run, { signal }, (stream, sink) => {
        if (byPipeline) {
          pipeline(stream, sink, (error) => run.note('called back with', errorFacts(error)));
        } else {
          stream.pipe(sink);
        }
      });
      controller.abort();
      run.note('destroyed', stuck.stream.destroyed);
      await closed(stuck.stream);
      run.note('sink destroyed', stuck.sink.destroyed);
      run.note('left open', descriptorsOf(stuck.file.path));
      stuck.sink.destroy();
      return stuck.stream;
    }, sendfile);
  });
});

test.each([4091, 4092, 4093, 4094, 4095])(
  'a path that is too long, though its first %d bytes name a file',
  async (length) => {
    const file = testFile(100).path;
    const beginning = '/'.repeat(length - Buffer.byteLength(file)) + file;
    const { sink } = await link();
    for (const name of [`${beginning}€€`, `${beginning}😀😀`]) {
      const error = await new Promise((resolve) => createReadStream(name).on('error', resolve));
      expect(error).toMatchObject({ code: 'ENAMETOOLONG' });
      await expect(transfer(name, sink)).rejects.toMatchObject({ code: 'ENAMETOOLONG' });
    }
  },
);

test("an 'open' listener that throws keeps no other stream's from hearing", async () => {
  const { stdout } = await runNode('open-throws.mjs');
  expect(stdout).toBe('first,thrown,third\n');
});
