// What transfer() from file to file and copyFile() have in common: errors, aborts, progress, threads.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, expect, test } from 'vitest';
import { type Progress, type TransferError, transfer } from 'zerocopy';
import { backends, sizes } from './helpers/backends';
import {
  allocated,
  type CopyReport,
  copies,
  copyInChild,
  cpuOf,
  cpuOfJavaScript,
  denseFile,
  expectContent,
  expectCopied,
  expectFailure,
  GIB,
  isDense,
  MIB,
  newFile,
  otherFolder,
  roomyFolder,
} from './helpers/copies';
import { fails } from './helpers/failures';
import { pattern, scratchFolder, testFile } from './helpers/files';
import { mountedImage, whyNoMount } from './helpers/mounts';
import { openDescriptors, until, warmers } from './helpers/process';
import { link } from './helpers/sockets';

const noMount = whyNoMount();

/** Starts the engine, and its movers. */
async function warmUp(): Promise<void> {
  const { sink, peer } = await link();
  peer.resume();
  await transfer(testFile(3 * MIB).path, sink, { backend: 'native' });
  await until(() => warmers() === 0, 'the warmers are gone');
}

/** Under way: so much is there that some of it has been counted, over streams too. */
const begun = (sink: string) => until(() => allocated(sink) > MIB, 'the first bytes are copied');

/** transfer() leaves what has arrived, and counts it. copyFile() leaves no file that it has made. */
function expectLeft(name: string, sink: string, error: TransferError) {
  if (name === 'copyFile') expect(fs.existsSync(sink)).toBe(false);
  else expect(fs.statSync(sink).size).toBe(error.transferred);
}

describe.each(copies)('%s', (name, copy) => {
  describe.each(backends)('%s', (backend) => {
    test.each(sizes)('%d bytes, to a file that is longer', async (size) => {
      const file = testFile(size);
      const sink = testFile(size + 5000);
      expectCopied(await copy(file.path, sink.path, { backend }), backend, size);
      expectContent(sink.path, file.content);
    });

    test('a source that is not there leaves the sink as it was', async () => {
      const sink = testFile(1000);
      const error = await fails(copy('/nowhere/at/all', sink.path, { backend }));
      expectFailure(error, backend, 'ENOENT');
      expect(error).toMatchObject({ syscall: 'open', transferred: 0 });
      expectContent(sink.path, sink.content);
      const fresh = newFile();
      await fails(copy('/nowhere/at/all', fresh, { backend }));
      expect(fs.existsSync(fresh)).toBe(false);
    });

    test('a sink in a folder that is not there, or is none', async () => {
      for (const size of [0, 10, 100_003]) {
        const file = testFile(size);
        const missing = await fails(
          copy(file.path, path.join(scratchFolder(), 'no', 'sink'), { backend }),
        );
        expectFailure(missing, backend, 'ENOENT');
        expect(missing).toMatchObject({ syscall: 'open', transferred: 0 });
        const below = await fails(copy(file.path, path.join(file.path, 'sink'), { backend }));
        expectFailure(below, backend, 'ENOTDIR');
      }
    });

    test('a directory as sink, and as source', async () => {
      const folder = scratchFolder();
      for (const size of [0, 10, 100_003]) {
        const error = await fails(copy(testFile(size).path, folder, { backend }));
        expectFailure(error, backend, 'EISDIR');
        expect(error.transferred).toBe(0);
      }
      const sink = testFile(1000);
      const error = await fails(copy(folder, sink.path, { backend }));
      expectFailure(error, backend, 'EISDIR');
      expectContent(sink.path, sink.content);
      const fresh = newFile();
      await fails(copy(folder, fresh, { backend }));
      expect(fs.existsSync(fresh)).toBe(false);
    });

    test.each(['itself', 'a hard link', 'a symlink', 'another way to it'])(
      'a file onto %s: refused, and the file is whole',
      async (what) => {
        const folder = scratchFolder();
        const file = testFile(100_003, folder);
        const alias = path.join(folder, 'alias');
        if (what === 'a hard link') fs.linkSync(file.path, alias);
        if (what === 'a symlink') fs.symlinkSync(file.path, alias);
        if (what === 'another way to it') fs.symlinkSync(folder, alias);
        const other =
          what === 'itself'
            ? file.path
            : what === 'another way to it'
              ? path.join(alias, path.basename(file.path))
              : alias;
        for (const [source, sink] of [
          [file.path, other],
          [other, file.path],
        ] as const) {
          const error = await fails(copy(source, sink, { backend }));
          expect(error).toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
          expectContent(file.path, file.content);
        }
      },
    );

    test('a source that shrinks meanwhile', async () => {
      const folder = roomyFolder();
      const source = denseFile(GIB, folder);
      const sink = newFile(folder);
      const failed = fails(copy(source, sink, { backend }));
      await begun(sink);
      fs.truncateSync(source, 0);
      const error = await failed;
      expectFailure(error, backend, 'ERR_SOURCE_TRUNCATED');
      expect(error.transferred).toBeGreaterThan(0);
      expect(error.transferred).toBeLessThan(GIB);
      expectLeft(name, sink, error);
      if (name === 'transfer') expect(isDense(sink, error.transferred)).toBe(true);
    }, 60_000);

    test('a source that is deleted meanwhile is copied to its end', async () => {
      const source = denseFile(256 * MIB);
      const sink = newFile(path.dirname(source));
      const result = copy(source, sink, { backend });
      await begun(sink);
      fs.rmSync(source);
      expectCopied(await result, backend, 256 * MIB);
      expect(isDense(sink, 256 * MIB)).toBe(true);
    }, 60_000);

    test.skipIf(noMount !== '').each(['the same', 'another'])(
      `a disk that gets full, the source on %s${noMount}`,
      async (where) => {
        const folder = mountedImage(16);
        // Twice that would be more than it has.
        const file = testFile(9 * MIB + 5, where === 'the same' ? folder : scratchFolder());
        const big = where === 'the same' ? file.path : denseFile(20 * MIB, scratchFolder());
        const sink = path.join(folder, 'sink');
        const error = await fails(copy(big, sink, { backend }));
        expectFailure(error, backend, 'ENOSPC');
        expect(error.syscall).toMatch(/^(copy_file_range|sendfile|write|pwrite)$/);
        expect(error.errno).toBeLessThan(0);
        expect(error.transferred).toBeGreaterThan(MIB);
        expectLeft(name, sink, error);
        if (name === 'copyFile') return;
        const arrived = fs.readFileSync(sink).subarray(0, error.transferred);
        expect(arrived.equals(fs.readFileSync(big).subarray(0, arrived.length))).toBe(true);
      },
    );

    test('more than RLIMIT_FSIZE allows', async () => {
      const limit = 1_000_003;
      for (const folder of [scratchFolder(), otherFolder()]) {
        const file = testFile(3 * MIB);
        const sink = newFile(folder);
        const wrapper = ['prlimit', `--fsize=${limit}`];
        const { error } = await copyInChild(name, file.path, sink, { backend }, wrapper);
        expect(error).toMatchObject({ name: 'TransferError', code: 'EFBIG' });
        const { transferred = 0 } = error as NonNullable<CopyReport['error']>;
        if (backend === 'native') expect(transferred).toBe(limit);
        else expect(transferred).toBeGreaterThan(limit - 64 * 1024);
        if (name === 'copyFile') expect(fs.existsSync(sink)).toBe(false);
        else expectContent(sink, file.content.subarray(0, limit));
      }
    });

    test('aborted before the start: the sink stays as it is', async () => {
      const sink = testFile(1000);
      const fresh = newFile();
      const reason = new Error('enough');
      const options = { backend, signal: AbortSignal.abort(reason) };
      for (const to of [sink.path, fresh]) {
        const error = await fails(copy(testFile(10).path, to, options));
        expectFailure(error, backend, 'ABORT_ERR');
        expect(error).toMatchObject({ name: 'AbortError', transferred: 0, cause: reason });
      }
      expectContent(sink.path, sink.content);
      expect(fs.existsSync(fresh)).toBe(false);
    });

    test('aborted right after the call', async () => {
      const file = testFile(3 * MIB);
      const sink = newFile();
      const controller = new AbortController();
      const failed = fails(copy(file.path, sink, { backend, signal: controller.signal }));
      controller.abort();
      const error = await failed;
      expectFailure(error, backend, 'ABORT_ERR');
      if (fs.existsSync(sink)) expectLeft(name, sink, error);
    });

    test('aborted midway', async () => {
      const folder = roomyFolder();
      const source = denseFile(GIB, folder);
      const sink = newFile(folder);
      const controller = new AbortController();
      const reason = new Error('enough');
      const failed = fails(copy(source, sink, { backend, signal: controller.signal }));
      await begun(sink);
      controller.abort(reason);
      const error = await failed;
      expectFailure(error, backend, 'ABORT_ERR');
      expect(error).toMatchObject({ name: 'AbortError', cause: reason });
      expect(error.transferred).toBeGreaterThan(0);
      expect(error.transferred).toBeLessThan(GIB);
      expectLeft(name, sink, error);
      if (name === 'transfer') expect(isDense(sink, error.transferred)).toBe(true);
      // Nothing goes on behind its back.
      const left = allocated(sink);
      await new Promise((resolve) => setTimeout(resolve, 100));
      expect(allocated(sink)).toBe(left);
    }, 60_000);

    test('progress: it never goes back, and ends with all of it', async () => {
      const folder = roomyFolder();
      const source = denseFile(GIB + 5, folder);
      const sink = newFile(folder);
      const calls: Progress[] = [];
      const onProgress = (progress: Progress) => calls.push(progress);
      const result = await copy(source, sink, { backend, onProgress });
      expectCopied(result, backend, GIB + 5);
      await until(() => calls.at(-1)?.transferred === GIB + 5, 'the last call has come');
      // A GiB takes longer than the 100 ms from one call to the next.
      expect(calls.length).toBeGreaterThan(1);
      const counts = calls.map(({ transferred }) => transferred);
      expect(counts).toEqual(counts.toSorted((a, b) => a - b));
      expect(calls.every(({ total }) => total === GIB + 5)).toBe(true);
      expect(isDense(sink, GIB + 5)).toBe(true);
    }, 60_000);

    test('progress of what is short: one call, with all of it', async () => {
      for (const size of [0, 1, 100_003]) {
        const calls: Progress[] = [];
        const onProgress = (progress: Progress) => calls.push(progress);
        await copy(testFile(size).path, newFile(), { backend, onProgress });
        await until(() => calls.length > 0, 'the call has come');
        expect(calls.at(-1)?.transferred).toBe(size);
      }
    });

    test('ten at once, of one file and of several', async () => {
      const folder = scratchFolder();
      const shared = testFile(9 * MIB + 7, folder);
      const jobs = Array.from({ length: 10 }, (_, i) => {
        const file = i % 2 ? shared : { path: path.join(folder, `${i}`), content: pattern(MIB, i) };
        if (file !== shared) fs.writeFileSync(file.path, file.content);
        return { file, sink: path.join(folder, `sink-${i}`) };
      });
      const copied = jobs.map(({ file, sink }) => copy(file.path, sink, { backend }));
      const results = await Promise.all(copied);
      for (const [i, { file, sink }] of jobs.entries()) {
        expectContent(sink, file.content);
        const [result] = results.slice(i);
        if (result) expectCopied(result, backend, file.content.length);
      }
    });

    test('descriptors are back after every kind of end', async () => {
      await warmUp();
      const folder = roomyFolder();
      const [source, doomed] = [denseFile(GIB, folder), denseFile(256 * MIB, folder)];
      const small = testFile(100_003).path;
      const nowhere = path.join(folder, 'no', 'sink');
      const controller = new AbortController();
      const ends: [what: string, end: () => Promise<unknown>][] = [
        ['done', () => copy(small, newFile(), { backend })],
        ['refused by the source', () => fails(copy('/nowhere', newFile(), { backend }))],
        ['refused by the sink', () => fails(copy(small, nowhere, { backend }))],
        ['onto itself', () => fails(copy(small, small, { backend }))],
        ['from a directory', () => fails(copy(folder, newFile(), { backend }))],
        ['to a directory', () => fails(copy(small, folder, { backend }))],
        [
          'aborted',
          async () => {
            const sink = path.join(folder, 'aborted');
            const failed = fails(copy(source, sink, { backend, signal: controller.signal }));
            await begun(sink);
            controller.abort();
            await failed;
          },
        ],
        [
          'truncated',
          async () => {
            const sink = path.join(folder, 'truncated');
            const failed = fails(copy(doomed, sink, { backend }));
            await begun(sink);
            fs.truncateSync(doomed, 0);
            await failed;
          },
        ],
      ];
      for (const [what, end] of ends) {
        const descriptors = openDescriptors();
        await end();
        await until(() => openDescriptors() === descriptors, `descriptors are back: ${what}`);
      }
    }, 60_000);
  });

  test('warmers copy; the movers, and the thread of JavaScript, do not', async () => {
    await warmUp();
    const folder = roomyFolder();
    const source = denseFile(GIB, folder);
    const before = [cpuOf('zerocopy-mover'), cpuOfJavaScript()];
    let turns = 0;
    const timer = setInterval(() => {
      turns += 1;
    }, 1);
    const result = await copy(source, newFile(folder), { backend: 'native' });
    clearInterval(timer);
    expectCopied(result, 'native', GIB);
    // They live on for a second after their last job.
    expect(warmers()).toBeGreaterThan(0);
    const [movers = 0, javaScript = 0] = before;
    const byWarmers = cpuOf('zerocopy-warm');
    expect(cpuOf('zerocopy-mover') - movers).toBeLessThan(byWarmers / 20);
    expect(cpuOfJavaScript() - javaScript).toBeLessThan(byWarmers / 4);
    // The event loop had turns meanwhile; at 1 GiB in 0.1 s it would have had a hundred.
    expect(turns).toBeGreaterThan(10);
    await until(() => warmers() === 0, 'the warmers are gone');
  }, 60_000);

  test('sixteen at once keep to the warmers that a device may have', async () => {
    const folder = roomyFolder();
    const source = denseFile(64 * MIB, folder);
    const sinks = Array.from({ length: 16 }, (_, i) => path.join(folder, `sink-${i}`));
    const copied = Promise.all(sinks.map((sink) => copy(source, sink, { backend: 'native' })));
    let most = 0;
    const timer = setInterval(() => {
      most = Math.max(most, warmers());
    }, 2);
    await copied;
    most = Math.max(most, warmers());
    clearInterval(timer);
    expect(most).toBeGreaterThan(0);
    expect(most).toBeLessThanOrEqual(8);
    expect(sinks.every((sink) => isDense(sink, 64 * MIB))).toBe(true);
    await until(() => warmers() === 0, 'the warmers are gone');
  }, 60_000);
});
