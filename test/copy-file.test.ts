// copyFile(): what it takes, what it makes, modes and links, reflinks. What it shares with
// transfer(): copy-both.test.ts; holes: copy-file-holes.test.ts.
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, onTestFinished, test } from 'vitest';
import { copyFile } from 'zerocopy';
import { backends, sizes } from './helpers/backends';
import {
  expectContent,
  expectCopied,
  expectFailure,
  isShared,
  MIB,
  newFile,
  otherFolder,
  procFile,
  wayBetween,
} from './helpers/copies';
import { fails } from './helpers/failures';
import { pattern, scratchFolder, testFile } from './helpers/files';
import { freeBytes, mountedImage, whyNoMount } from './helpers/mounts';

// Called as JavaScript would, types aside.
const call = copyFile as (...args: unknown[]) => Promise<unknown>;

const modeOf = (file: string) => fs.statSync(file).mode & 0o7777;
const inodeOf = (file: string) => fs.statSync(file).ino;

describe.each(backends)('%s', (backend) => {
  test.each(sizes)('%d bytes, to a new file', async (size) => {
    const file = testFile(size);
    const sink = newFile();
    expectCopied(await copyFile(file.path, sink, { backend }), backend, size);
    expectContent(sink, file.content);
  });

  test('paths and URLs, relative ones too, with odd names', async () => {
    const folder = scratchFolder();
    const file = { path: path.join(folder, 'a %41 ?#\n ü'), content: pattern(100_003) };
    fs.writeFileSync(file.path, file.content);
    const sink = path.join(folder, 'copy %42 ?#\n ü');
    const relative = (name: string) => path.relative('.', name);
    const pairs = [
      [file.path, sink],
      [pathToFileURL(file.path), sink],
      [file.path, pathToFileURL(sink)],
      [pathToFileURL(file.path), pathToFileURL(sink)],
      [relative(file.path), relative(sink)],
    ] as const;
    for (const [from, to] of pairs) {
      expectCopied(await copyFile(from, to, { backend }), backend, 100_003);
      expectContent(sink, file.content);
      fs.rmSync(sink);
    }
  });

  test.each([100_003, 0])(
    'a sink that is there is emptied, not replaced: %d bytes',
    async (size) => {
      const file = testFile(size);
      const sink = testFile(300_001);
      const link = `${sink.path}-link`;
      fs.linkSync(sink.path, link);
      const reader = fs.openSync(sink.path, 'r');
      onTestFinished(() => fs.closeSync(reader));
      const inode = inodeOf(sink.path);
      expectCopied(await copyFile(file.path, sink.path, { backend }), backend, size);
      expectContent(sink.path, file.content);
      expectContent(link, file.content);
      expect(inodeOf(sink.path)).toBe(inode);
      expect(fs.fstatSync(reader).size).toBe(size);
    },
  );

  test('symlinks are followed, on both sides', async () => {
    const folder = scratchFolder();
    const file = testFile(100_003, folder);
    const [from, to, target] = ['from', 'to', 'target'].map((name) => path.join(folder, name));
    if (!from || !to || !target) throw new Error('no names');
    fs.symlinkSync(file.path, from);
    fs.symlinkSync(target, to);
    // To nowhere at first: then it makes what the link names.
    for (let i = 0; i < 2; i++) {
      expectCopied(await copyFile(from, to, { backend }), backend, 100_003);
      expect(fs.lstatSync(to).isSymbolicLink()).toBe(true);
      expect(fs.lstatSync(target).isFile()).toBe(true);
      expectContent(target, file.content);
    }
    fs.symlinkSync('loop', path.join(folder, 'loop'));
    const error = await fails(copyFile(path.join(folder, 'loop'), to, { backend }));
    expectFailure(error, backend, 'ELOOP');
    expectContent(target, file.content);
  });

  describe('the mode is kept, as fs.copyFile keeps it', () => {
    const modes = [0o644, 0o640, 0o755, 0o600, 0o444, 0o777, 0o751].map(
      (mode): [string, number] => [mode.toString(8), mode],
    );

    test.each(modes)('%s: of a new file', async (_octal, mode) => {
      const file = testFile(5000);
      fs.chmodSync(file.path, mode);
      for (const umask of [0o022, 0o077, 0]) {
        const before = process.umask(umask);
        try {
          const [sink, wanted] = [newFile(), newFile()];
          await copyFile(file.path, sink, { backend });
          fs.copyFileSync(file.path, wanted);
          expect(modeOf(sink)).toBe(modeOf(wanted));
          expect(modeOf(sink)).toBe(mode);
        } finally {
          process.umask(before);
        }
      }
    });

    test.each(modes)('%s: over a file that has another', async (_octal, mode) => {
      const file = testFile(5000);
      fs.chmodSync(file.path, mode);
      for (const before of [0o600, 0o666, 0o755]) {
        const [sink, wanted] = [testFile(10).path, testFile(10).path];
        for (const name of [sink, wanted]) fs.chmodSync(name, before);
        await copyFile(file.path, sink, { backend });
        fs.copyFileSync(file.path, wanted);
        expect(modeOf(sink)).toBe(modeOf(wanted));
        expect(modeOf(sink)).toBe(mode);
      }
    });

    test('of an empty file, and of one of /proc', async () => {
      const empty = testFile(0);
      fs.chmodSync(empty.path, 0o640);
      const sink = newFile();
      await copyFile(empty.path, sink, { backend });
      expect(modeOf(sink)).toBe(0o640);
      await copyFile('/proc/version', sink, { backend });
      expect(modeOf(sink)).toBe(0o444);
    });
  });

  describe('exclusive', () => {
    test('a sink that is there: EEXIST, and it is untouched', async () => {
      const folder = scratchFolder();
      const file = testFile(100_003);
      const sink = testFile(1000, folder);
      fs.chmodSync(sink.path, 0o604);
      const { mtimeMs } = fs.statSync(sink.path);
      const links = ['to-file', 'to-nowhere'].map((name) => path.join(folder, name));
      fs.symlinkSync(sink.path, links[0] as string);
      fs.symlinkSync('/nowhere', links[1] as string);
      for (const to of [sink.path, ...links, folder]) {
        const error = await fails(copyFile(file.path, to, { backend, exclusive: true }));
        expectFailure(error, backend, 'EEXIST');
        expect(error).toMatchObject({ syscall: 'open', transferred: 0 });
      }
      expectContent(sink.path, sink.content);
      expect(modeOf(sink.path)).toBe(0o604);
      expect(fs.statSync(sink.path).mtimeMs).toBe(mtimeMs);
    });

    test('a new sink', async () => {
      for (const size of [0, 1, 100_003]) {
        const file = testFile(size);
        const sink = newFile();
        const result = await copyFile(file.path, sink, { backend, exclusive: true });
        expectCopied(result, backend, size);
        expectContent(sink, file.content);
      }
    });

    test('ten at once: one of them wins', async () => {
      const file = testFile(MIB);
      const sink = newFile();
      const options = { backend, exclusive: true };
      const results = await Promise.allSettled(
        Array.from({ length: 10 }, () => copyFile(file.path, sink, options)),
      );
      const lost = results.flatMap((result) => ('reason' in result ? [result.reason.code] : []));
      expect(lost).toEqual(Array(9).fill('EEXIST'));
      // Those that lost have not removed what the winner made.
      expectContent(sink, file.content);
    });

    test('false: as without it', async () => {
      const file = testFile(1000);
      const sink = testFile(10);
      await copyFile(file.path, sink.path, { backend, exclusive: false });
      expectContent(sink.path, file.content);
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
        fs.chmodSync(file.path, 0o640);
        const sink = newFile(to);
        const result = await copyFile(file.path, sink, { backend });
        expectCopied(result, backend, size, wayBetween(from, to));
        expectContent(sink, file.content);
        expect(modeOf(sink)).toBe(0o640);
      }
    }
  });

  test('from /proc and /sys, where sizes mean nothing', async () => {
    const { path: environment, content } = await procFile();
    for (const folder of [scratchFolder(), otherFolder()]) {
      const sink = newFile(folder);
      const result = await copyFile(environment, sink, { backend });
      expectCopied(result, backend, content.length, 'read');
      expectContent(sink, content);
      for (const file of ['/proc/version', '/sys/kernel/mm/transparent_hugepage/enabled']) {
        const wanted = fs.readFileSync(file);
        const copied = await copyFile(file, sink, { backend });
        expectCopied(copied, backend, wanted.length, 'read');
        expectContent(sink, wanted);
      }
    }
  });

  test('a source that grows meanwhile: no less is copied than it had at the start', async () => {
    const file = testFile(3 * MIB + 1);
    const sink = newFile();
    const result = copyFile(file.path, sink, { backend });
    fs.appendFileSync(file.path, 'more');
    const { transferred } = await result;
    expect(transferred).toBeGreaterThanOrEqual(file.content.length);
    expectContent(sink, fs.readFileSync(file.path).subarray(0, transferred));
  });
});

describe('arguments', () => {
  const type = { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' };
  const value = { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE' };

  const noPaths: [what: string, path: unknown, error: typeof type][] = [
    ['undefined', undefined, type],
    ['null', null, type],
    ['a descriptor', 3, type],
    ['true', true, type],
    ['an object', {}, type],
    ['a gather list', [new Uint8Array(3)], type],
    ['a stream', process.stdin, type],
    ['a URL of another scheme', new URL('http://localhost/'), value],
    ['a path with a null byte', '/tmp/\0', value],
  ];

  test.each(noPaths)('%s as source, and as sink', async (_what, wrong, error) => {
    const file = testFile(10);
    const sink = newFile();
    await expect(call(wrong, sink)).rejects.toMatchObject(error);
    expect(fs.existsSync(sink)).toBe(false);
    await expect(call(file.path, wrong)).rejects.toMatchObject(error);
  });

  test.each([
    ['a string', 'exclusive', type],
    ['an array', [], type],
    ['null', null, type],
    ['a mode, as fs has it', fs.constants.COPYFILE_EXCL, type],
    ['a name that is not known', { force: true }, value],
    ['offset, as transfer has it', { offset: 3 }, value],
    ['length, as transfer has it', { length: 3 }, value],
    ['sinkFlags, as transfer has it', { sinkFlags: 'wx' }, value],
    ['endSink, as transfer has it', { endSink: true }, value],
    ['exclusive that is a number', { exclusive: 1 }, type],
    ['exclusive that is null', { exclusive: null }, type],
    ['holes that is a string', { holes: 'yes' }, type],
    ['a signal that is none', { signal: {} }, type],
    ['onProgress that is none', { onProgress: true }, type],
    ['a backend that is none', { backend: 1 }, type],
    ['an unknown backend', { backend: 'reflink' }, value],
  ])('options: %s', async (_what, options, error) => {
    const sink = testFile(10);
    await expect(call(testFile(20).path, sink.path, options)).rejects.toMatchObject(error);
    expectContent(sink.path, sink.content);
  });

  test('options that are undefined', async () => {
    const file = testFile(1000);
    const sink = newFile();
    const options = {
      exclusive: undefined,
      holes: undefined,
      signal: undefined,
      onProgress: undefined,
      backend: undefined,
    };
    expectCopied(await copyFile(file.path, sink, options), 'native', 1000);
    expectContent(sink, file.content);
    expectCopied(await copyFile(file.path, sink, undefined), 'native', 1000);
  });
});

describe('reflinks', () => {
  const types = (['xfs', 'btrfs'] as const).map((type) => [type, whyNoMount(type)] as const);
  for (const [type, why] of types) {
    test.skipIf(why !== '')(
      `${type}: a copy shares the blocks of its source${why}`,
      async () => {
        const folder = mountedImage(400, type);
        for (const size of [64 * MIB, 64 * MIB + 5, 5000, 1]) {
          const file = testFile(size, folder);
          const fresh = newFile(folder);
          const longer = path.join(folder, 'longer');
          fs.writeFileSync(longer, pattern(size + MIB, 3));
          for (const sink of [fresh, longer]) {
            // Free space is told when what is promised has been written.
            execFileSync('sync', ['-f', folder]);
            const free = freeBytes(folder);
            expectCopied(await copyFile(file.path, sink, { backend: 'native' }), 'native', size);
            expectContent(sink, file.content);
            // Small files of btrfs have no blocks: they are in its tree.
            if (type === 'xfs' || size > 5000) expect(isShared(sink)).toBe(true);
            execFileSync('sync', ['-f', folder]);
            expect(free - freeBytes(folder)).toBeLessThan(32 * MIB); // some for the metadata
          }
          // They are two files all the same.
          const fd = fs.openSync(fresh, 'r+');
          fs.writeSync(fd, 'changed');
          fs.closeSync(fd);
          expectContent(file.path, file.content);
          for (const name of [file.path, fresh, longer]) fs.rmSync(name);
        }
      },
      60_000,
    );

    test.skipIf(why !== '')(
      `${type}: over streams, and with others${why}`,
      async () => {
        const folder = mountedImage(400, type);
        const inside = testFile(9 * MIB + 5, folder);
        const outside = testFile(9 * MIB + 7);
        const sink = newFile(folder);
        await copyFile(inside.path, sink, { backend: 'stream' });
        expectContent(sink, inside.content);
        const way = wayBetween(path.dirname(outside.path), folder);
        const result = await copyFile(outside.path, sink, { backend: 'native' });
        expectCopied(result, 'native', outside.content.length, way);
        expectContent(sink, outside.content);
      },
      60_000,
    );
  }
});
