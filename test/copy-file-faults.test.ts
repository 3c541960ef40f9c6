// copyFile(): what is left when it fails, and what it does not copy. What it shares with transfer():
// copy-both.test.ts.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as net from 'node:net';
import * as path from 'node:path';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { copyFile, TransferError } from 'zerocopy';
import { backends, type TestedBackend } from './helpers/backends';
import {
  allocated,
  copyInChild,
  denseFile,
  expectContent,
  expectCopied,
  expectFailure,
  GIB,
  isDense,
  MIB,
  newFile,
  roomyFolder,
  wayBetween,
} from './helpers/copies';
import { fails } from './helpers/failures';
import { pattern, scratchFolder, testFile } from './helpers/files';
import { asNobody } from './helpers/limits';
import { mountedImage, whyNoMount } from './helpers/mounts';
import { openDescriptors, until } from './helpers/process';
import { whyNotRoot } from './helpers/skips';

const noMount = whyNoMount();
const needsRoot = whyNotRoot('to be somebody else');

/**
 * A sink that was there before is not removed: it has what was copied, and nothing of what it was.
 * It may have got its size already, for the sake of holes.
 */
function expectPart(sink: string, size: number, backend: TestedBackend, error: TransferError) {
  const length = fs.statSync(sink).size;
  expect(length).toBeGreaterThanOrEqual(error.transferred);
  expect(length).toBeLessThanOrEqual(size);
  expect(isDense(sink, error.transferred)).toBe(true);
  // Over streams a chunk may be there that is not counted.
  expectZeros(sink, error.transferred + (backend === 'stream' ? 64 * 1024 : 0));
}

function linkOf(fd: number): string | undefined {
  try {
    return fs.readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return undefined; // gone since
  }
}

function expectZeros(file: string, from: number): void {
  const fd = fs.openSync(file, 'r');
  const [zeros, chunk] = [Buffer.alloc(MIB), Buffer.alloc(MIB)];
  let wrong = 0;
  for (let at = from; ; at += MIB) {
    const count = fs.readSync(fd, chunk, 0, MIB, at);
    if (count === 0) break;
    wrong += chunk.compare(zeros, 0, count, 0, count) === 0 ? 0 : 1;
  }
  fs.closeSync(fd);
  expect(wrong).toBe(0);
}

describe.each(backends)('%s', (backend) => {
  describe('a sink that was there before stays, with what was copied', () => {
    test('when it is aborted', async () => {
      const folder = roomyFolder();
      const source = denseFile(GIB, folder);
      const sink = testFile(2 * MIB, folder);
      const { ino } = fs.statSync(sink.path);
      const controller = new AbortController();
      const failed = fails(copyFile(source, sink.path, { backend, signal: controller.signal }));
      await until(() => allocated(sink.path) > 4 * MIB, 'it is under way');
      controller.abort();
      const error = await failed;
      expectFailure(error, backend, 'ABORT_ERR');
      expect(fs.statSync(sink.path).ino).toBe(ino);
      expectPart(sink.path, GIB, backend, error);
    }, 60_000);

    test('when the source shrinks', async () => {
      const folder = roomyFolder();
      const source = denseFile(GIB, folder);
      const sink = testFile(2 * MIB, folder);
      const failed = fails(copyFile(source, sink.path, { backend }));
      await until(() => allocated(sink.path) > 4 * MIB, 'it is under way');
      fs.truncateSync(source, 0);
      const error = await failed;
      expectFailure(error, backend, 'ERR_SOURCE_TRUNCATED');
      expectPart(sink.path, GIB, backend, error);
    }, 60_000);

    test.skipIf(noMount !== '')(`when the disk is full${noMount}`, async () => {
      const folder = mountedImage(16);
      const source = denseFile(20 * MIB, scratchFolder());
      const sink = testFile(2 * MIB, folder);
      const error = await fails(copyFile(source, sink.path, { backend }));
      expectFailure(error, backend, 'ENOSPC');
      expect(error.transferred).toBeGreaterThan(MIB);
      expectPart(sink.path, 20 * MIB, backend, error);
    });
  });

  test.skipIf(noMount !== '')(`after a full disk its room is free again${noMount}`, async () => {
    const folder = mountedImage(16);
    const sink = newFile(folder);
    const failed = await fails(copyFile(testFile(20 * MIB).path, sink, { backend }));
    expectFailure(failed, backend, 'ENOSPC');
    const file = testFile(9 * MIB);
    const way = wayBetween(path.dirname(file.path), folder);
    expectCopied(await copyFile(file.path, sink, { backend }), backend, 9 * MIB, way);
    expectContent(sink, file.content);
  });

  test('what has taken the place of the sink meanwhile is not removed', async () => {
    const folder = roomyFolder();
    const source = denseFile(GIB, folder);
    const sink = newFile(folder);
    const controller = new AbortController();
    const failed = fails(copyFile(source, sink, { backend, signal: controller.signal }));
    await until(() => allocated(sink) > 0, 'it is under way');
    fs.renameSync(sink, `${sink}-moved`);
    fs.writeFileSync(sink, 'of somebody else');
    controller.abort();
    expectFailure(await failed, backend, 'ABORT_ERR');
    expectContent(sink, Buffer.from('of somebody else'));
  }, 60_000);

  test('a sink that is deleted meanwhile', async () => {
    const folder = roomyFolder();
    const source = denseFile(GIB, folder);
    const sink = newFile(folder);
    const copied = copyFile(source, sink, { backend });
    await until(() => allocated(sink) > 0, 'it is under way');
    fs.rmSync(sink);
    expectCopied(await copied, backend, GIB);
    expect(fs.existsSync(sink)).toBe(false);
  }, 60_000);

  test('exclusive: a sink that it made is removed, one that was there is not', async () => {
    const folder = roomyFolder();
    const source = denseFile(GIB, folder);
    const sink = newFile(folder);
    const controller = new AbortController();
    const options = { backend, exclusive: true, signal: controller.signal };
    const failed = fails(copyFile(source, sink, options));
    await until(() => allocated(sink) > 0, 'it is under way');
    expectFailure(await fails(copyFile(source, sink, options)), backend, 'EEXIST');
    expect(allocated(sink)).toBeGreaterThan(0);
    controller.abort();
    expectFailure(await failed, backend, 'ABORT_ERR');
    expect(fs.existsSync(sink)).toBe(false);
  }, 60_000);

  test('a sink made through a symlink to nowhere: the file is removed, not only the link', async () => {
    const folder = roomyFolder();
    const source = denseFile(GIB, folder);
    const [link, sink] = [path.join(folder, 'link'), path.join(folder, 'target')];
    fs.symlinkSync(sink, link);
    const controller = new AbortController();
    const failed = fails(copyFile(source, link, { backend, signal: controller.signal }));
    await until(() => allocated(sink) > 0, 'it is under way');
    controller.abort();
    expectFailure(await failed, backend, 'ABORT_ERR');
    expect(fs.existsSync(sink)).toBe(false);
  }, 60_000);

  test('a symlink to nowhere whose sink is gone again at once: nothing stays open', async () => {
    const [link, sink] = [newFile(), newFile()];
    fs.symlinkSync(sink, link);
    const failing = vi.spyOn(fs.promises, 'realpath').mockImplementationOnce(async () => {
      fs.unlinkSync(sink);
      throw Object.assign(new Error('realpath'), { code: 'ENOENT', errno: -2 });
    });
    onTestFinished(() => failing.mockRestore());
    const descriptors = openDescriptors();
    const error = await fails(copyFile(testFile(1000).path, link, { backend }));
    expectFailure(error, backend, 'ENOENT');
    expect(openDescriptors()).toBe(descriptors);
  });

  test('a failure of cleaning up is not told in the place of the one before it', async () => {
    const folder = roomyFolder();
    const [source, sink] = [denseFile(GIB, folder), newFile(folder)];
    const controller = new AbortController();
    const failed = fails(copyFile(source, sink, { backend, signal: controller.signal }));
    await until(() => allocated(sink) > 0, 'it is under way');
    // The engine has a descriptor of its own, which it was given later.
    const links = fs
      .readdirSync('/proc/self/fd')
      .map(Number)
      .sort((a, b) => a - b);
    const fd = links.find((number) => linkOf(number) === sink) as number;
    fs.closeSync(fd);
    controller.abort();
    const error = await failed;
    expect(error).toMatchObject({ code: 'ABORT_ERR' });
  }, 60_000);

  describe('what is no regular file is no source', () => {
    /** It fails at once, makes no sink, and leaves nothing open. */
    async function refuses(source: string) {
      const fresh = newFile();
      const sink = testFile(1000);
      const descriptors = openDescriptors();
      for (const to of [fresh, sink.path]) {
        const error = await fails(copyFile(source, to, { backend }));
        expect(typeof error.code).toBe('string');
        expect(error.code).not.toBe('ABORT_ERR');
      }
      expect(fs.existsSync(fresh)).toBe(false);
      expectContent(sink.path, sink.content);
      await until(() => openDescriptors() === descriptors, 'descriptors are back');
    }

    test('a FIFO that nobody writes to', async () => {
      const fifo = path.join(scratchFolder(), 'fifo');
      execFileSync('mkfifo', [fifo]);
      await refuses(fifo);
    });

    test('a FIFO that somebody writes to', async () => {
      const fifo = path.join(scratchFolder(), 'fifo');
      execFileSync('mkfifo', [fifo]);
      const fd = fs.openSync(fifo, 'r+');
      onTestFinished(() => fs.closeSync(fd));
      fs.writeSync(fd, 'for others to read');
      await refuses(fifo);
      const left = Buffer.alloc(100);
      expect(fs.readSync(fd, left)).toBe('for others to read'.length);
    });

    test('a socket', async () => {
      const server = net.createServer();
      onTestFinished(() => {
        server.close();
      });
      const file = path.relative('.', path.join(scratchFolder(), 's'));
      server.listen(file);
      await once(server, 'listening');
      await refuses(file);
    });

    test('devices', async () => {
      for (const device of ['/dev/null', '/dev/zero', '/dev/ptmx']) await refuses(device);
      const disk = fs.readdirSync('/dev').find((name) => /^(vd|sd|loop|nvme)/.test(name));
      if (disk) await refuses(path.join('/dev', disk));
    });

    test('a directory: EISDIR', async () => {
      await refuses(scratchFolder());
      const error = await fails(copyFile(scratchFolder(), newFile(), { backend }));
      expectFailure(error, backend, 'EISDIR');
    });
  });

  describe('a sink that is no regular file', () => {
    test('a FIFO that nobody reads: an error, and no waiting', async () => {
      const fifo = path.join(scratchFolder(), 'fifo');
      execFileSync('mkfifo', [fifo]);
      const error = await fails(copyFile(testFile(1000).path, fifo, { backend }));
      expect(typeof error.code).toBe('string');
      expect(fs.statSync(fifo).isFIFO()).toBe(true);
    });

    // Not the one of the system: its mode would be changed, were this to go wrong.
    test.skipIf(needsRoot)(`a device takes the bytes, and keeps its mode${needsRoot}`, async () => {
      const device = path.join(scratchFolder(), 'null');
      execFileSync('mknod', ['-m', '666', device, 'c', '1', '3']);
      const options = { backend: backend === 'stream' ? backend : ('auto' as const) };
      const result = await copyFile(testFile(1000).path, device, options);
      const code = backend === 'stream' ? 'REQUESTED' : 'SINK_TYPE';
      expect(result).toMatchObject({ transferred: 1000, backend: 'stream', fallback: { code } });
      expect(fs.statSync(device).isCharacterDevice()).toBe(true);
      expect(fs.statSync(device).mode & 0o777).toBe(0o666);
    });
  });

  test('a sink that is being executed', async () => {
    const folder = scratchFolder();
    const program = path.join(folder, 'sleep');
    fs.copyFileSync('/bin/sleep', program);
    const child = spawn(program, ['600'], { stdio: 'ignore' });
    onTestFinished(() => {
      child.kill('SIGKILL');
    });
    await once(child, 'spawn');
    const error = await fails(copyFile(testFile(1000).path, program, { backend }));
    expectFailure(error, backend, 'ETXTBSY');
    expect(error).toMatchObject({ syscall: 'open', transferred: 0 });
    expectContent(program, fs.readFileSync('/bin/sleep'));
    // As a source it is a file as any other.
    const sink = newFile();
    const result = await copyFile(program, sink, { backend });
    expectCopied(result, backend, fs.statSync(program).size);
  });

  test('a sink that others have open, and write to', async () => {
    const file = testFile(3 * MIB + 1);
    const sink = testFile(1000);
    const writer = fs.openSync(sink.path, 'a');
    onTestFinished(() => fs.closeSync(writer));
    expectCopied(await copyFile(file.path, sink.path, { backend }), backend, file.content.length);
    fs.writeSync(writer, 'appended');
    expectContent(sink.path, Buffer.concat([file.content, Buffer.from('appended')]));
  });

  describe('as a user who is not root', () => {
    const nobody = 65534;

    /** A folder of nobody's. */
    function folderOfNobody(): string {
      const folder = scratchFolder();
      fs.chownSync(folder, nobody, nobody);
      fs.chmodSync(folder, 0o755);
      return folder;
    }

    const copied = (source: string, sink: string) =>
      copyInChild('copyFile', source, sink, { backend }, asNobody);

    test.skipIf(needsRoot)(
      `a file that may be read, to a folder of its own${needsRoot}`,
      async () => {
        const folder = folderOfNobody();
        const file = testFile(3 * MIB + 1, folder);
        for (const mode of [0o644, 0o444, 0o755]) {
          fs.chmodSync(file.path, mode);
          const sink = path.join(folder, `sink-${mode}`);
          const { result, error } = await copied(file.path, sink);
          expect(error).toBeUndefined();
          if (result) expectCopied(result, backend, file.content.length);
          expectContent(sink, file.content);
          expect(fs.statSync(sink)).toMatchObject({ uid: nobody, gid: nobody });
          expect(fs.statSync(sink).mode & 0o7777).toBe(mode);
        }
      },
    );

    test.skipIf(needsRoot)(`a source that may not be read${needsRoot}`, async () => {
      const folder = folderOfNobody();
      const file = testFile(1000, folder);
      fs.chmodSync(file.path, 0o600);
      const sink = path.join(folder, 'sink');
      const { error } = await copied(file.path, sink);
      expect(error).toMatchObject({ code: 'EACCES', syscall: 'open', transferred: 0 });
      expect(fs.existsSync(sink)).toBe(false);
    });

    test.skipIf(needsRoot)(`a sink that may not be written to, or made${needsRoot}`, async () => {
      const folder = folderOfNobody();
      const file = testFile(1000, folder);
      const sink = { path: path.join(folder, 'sink'), content: pattern(500) };
      fs.writeFileSync(sink.path, sink.content, { mode: 0o644 });
      const written = await copied(file.path, sink.path);
      expect(written.error).toMatchObject({ code: 'EACCES', syscall: 'open', transferred: 0 });
      expectContent(sink.path, sink.content);

      fs.chownSync(folder, 0, 0);
      const made = await copied(file.path, path.join(folder, 'new'));
      expect(made.error).toMatchObject({ code: 'EACCES', syscall: 'open', transferred: 0 });
      expect(fs.readdirSync(folder).sort()).toEqual(['1000-bytes', 'sink']);
    });

    test.skipIf(needsRoot)(`a read-only sink of its own${needsRoot}`, async () => {
      const folder = folderOfNobody();
      const file = testFile(1000, folder);
      const sink = { path: path.join(folder, 'sink'), content: pattern(500) };
      fs.writeFileSync(sink.path, sink.content);
      fs.chownSync(sink.path, nobody, nobody);
      fs.chmodSync(sink.path, 0o444);
      const { error } = await copied(file.path, sink.path);
      expect(error).toMatchObject({ code: 'EACCES', syscall: 'open', transferred: 0 });
      expectContent(sink.path, sink.content);
    });
  });

  test('its errors are TransferErrors, all but those of arguments', async () => {
    const file = testFile(10);
    for (const error of [
      await fails(copyFile('/nowhere', newFile(), { backend })),
      await fails(copyFile(file.path, '/nowhere/at/all', { backend })),
      await fails(copyFile(file.path, scratchFolder(), { backend })),
    ]) {
      expect(error).toBeInstanceOf(TransferError);
      expect(error.message).not.toBe('');
      expect(error.errno).toBeLessThan(0);
    }
  });
});
