// What goes wrong between a socket and what takes its bytes. Nothing is ever lost without being told:
// what was accepted, what comes back as the error's residual, and what JavaScript reads afterwards
// are together all that was sent.
import { once } from 'node:events';
import * as fs from 'node:fs';
import { createRequire } from 'node:module';
import * as path from 'node:path';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { transfer } from 'zerocopy';
import { backends } from './helpers/backends';
import { pattern, scratchFolder } from './helpers/files';
import { fill, mountedImage, whyNoMount } from './helpers/mounts';
import { openDescriptors, runNode, sleep, until } from './helpers/process';
import { fdOf, link, receive, receiveBytes, resetUnseen, stopReading } from './helpers/sockets';
import {
  countEvents,
  descriptorsBack,
  expectSpliced,
  expectWhole,
  failed,
  fileTarget,
  kinds,
  pipeEnds,
  restOf,
  sourceLink,
} from './helpers/sources';

const MIB = 1024 * 1024;
/** What the library calls, and not a copy of its names. */
const nodesFs: typeof fs = createRequire(import.meta.url)('node:fs');
const noMount = whyNoMount();

describe.each(backends)('%s', (backend) => {
  test.each(kinds)('%s: a source that is destroyed with bytes on their way', async (kind) => {
    const content = pattern(600_000);
    const { source, writer } = await sourceLink({ kind });
    const { sink, peer } = await link({ kind: 'unix', buffers: 4096 });
    const result = failed(transfer(source, sink, { backend }));
    writer.write(content);
    await until(() => sink.bytesWritten > 0, 'it moves');
    await sleep(5); // until it is stuck
    source.destroy(new Error('mine'));
    const error = await result;
    expect(error).toMatchObject({ code: 'ERR_STREAM_PREMATURE_CLOSE', cause: { message: 'mine' } });
    const { transferred, residual = Buffer.alloc(0) } = error;
    const taken = transferred + residual.length;
    expect(residual.equals(content.subarray(transferred, taken))).toBe(true);
    // What a stream has taken goes on its way, though it wasn't accepted yet.
    if (backend === 'stream') expect(residual.length).toBeGreaterThan(0);
    sink.end();
    const wanted = content.subarray(0, backend === 'stream' ? taken : transferred);
    expect((await receive(peer)).equals(wanted)).toBe(true);
  });

  describe('a sink that refuses', () => {
    describe.each(kinds)('%s', (kind) => {
      test.skipIf(noMount)(`ENOSPC: a disk that is full${noMount}`, async () => {
        const content = pattern(12 * MIB);
        const folder = mountedImage(8);
        const sockets = await sourceLink({ kind });
        const target = path.join(folder, 'target');
        const result = failed(transfer(sockets.source, target, { backend }));
        sockets.writer.write(content);
        const error = await result;
        expect(error).toMatchObject({ code: 'ENOSPC', errno: -28 });
        expect(error.backend).toBe(backend === 'native' ? 'splice' : 'stream');
        expect(error.transferred).toBeGreaterThan(MIB);
        expect(sockets.source.destroyed).toBe(false);
        expectWhole(error, await restOf(sockets), content, fs.readFileSync(target));
      });

      test.skipIf(noMount)(`ENOSPC at the first byte${noMount}`, async () => {
        const content = pattern(3 * MIB);
        const folder = mountedImage(4);
        const target = path.join(folder, 'target');
        fs.writeFileSync(target, '');
        fill(folder, 0);
        const sockets = await sourceLink({ kind });
        const result = failed(transfer(sockets.source, target, { backend }));
        sockets.writer.write(content);
        const error = await result;
        expect(error).toMatchObject({ code: 'ENOSPC' });
        expectWhole(error, await restOf(sockets), content, fs.readFileSync(target));
      });

      test.skipIf(noMount)(`ENOSPC, again and again, until there is room${noMount}`, async () => {
        const content = pattern(6 * MIB + 5);
        const folder = mountedImage(8);
        const target = path.join(folder, 'target');
        const filler = fill(folder, MIB);
        const { source, writer } = await sourceLink({ kind });
        writer.end(content);
        // As a log would: what came back is written when there is room, and then it goes on.
        let done = 0;
        fs.writeFileSync(target, '');
        for (let round = 0; round < 20; round++) {
          const options = { backend, sinkOffset: done };
          const error = await transfer(source, target, options).then(
            () => undefined,
            (error) => error,
          );
          if (!error) break;
          expect(error.code).toBe('ENOSPC');
          fs.truncateSync(filler, Math.max(0, fs.statSync(filler).size - 2 * MIB));
          const fd = fs.openSync(target, 'r+');
          const residual: Buffer = error.residual ?? Buffer.alloc(0);
          done += error.transferred;
          fs.writeSync(fd, residual, 0, residual.length, done);
          fs.closeSync(fd);
          done += residual.length;
        }
        expect(fs.readFileSync(target).equals(content)).toBe(true);
      });
    });

    test('EBADF: a descriptor that is only for reading', async () => {
      const content = pattern(300_000);
      const { path } = await fileTarget('path', Buffer.from('left alone'));
      const fd = fs.openSync(path, 'r');
      onTestFinished(() => fs.closeSync(fd));
      const sockets = await sourceLink();
      sockets.writer.write(content);
      const error = await failed(transfer(sockets.source, fd, { backend }));
      expect(error).toMatchObject({ code: 'EBADF', transferred: 0 });
      expectWhole(error, await restOf(sockets), content);
      expect(fs.readFileSync(path, 'utf8')).toBe('left alone');
    });

    test('EISDIR: a folder', async () => {
      const sockets = await sourceLink();
      sockets.writer.write('whole');
      const error = await failed(transfer(sockets.source, scratchFolder(), { backend }));
      expect(error).toMatchObject({ code: 'EISDIR', transferred: 0 });
      expectWhole(error, await restOf(sockets), Buffer.from('whole'));
    });

    test('ENOSPC of /dev/full', async () => {
      const content = pattern(300_000);
      const sockets = await sourceLink();
      sockets.writer.write(content);
      const error = await failed(transfer(sockets.source, '/dev/full', { backend: 'auto' }));
      expect(error).toMatchObject({ code: 'ENOSPC', transferred: 0 });
      expectWhole(error, await restOf(sockets), content);
    });

    test('EFBIG: beyond RLIMIT_FSIZE, in a process of its own', async () => {
      const target = path.join(scratchFolder(), 'target');
      const args = [target, '--bytes', String(3 * MIB), '--backend', backend];
      const { code, stdout, stderr } = await runNode('receive.mjs', args, {
        wrapper: ['prlimit', '--fsize=1000000'],
      });
      expect(stderr).toBe('');
      expect(code).toBe(0);
      const report = JSON.parse(stdout);
      expect(report).toMatchObject({ code: 'EFBIG', whole: true, right: true });
      expect(report.transferred).toBeLessThanOrEqual(1_000_000);
      expect(report.transferred + report.residual + report.rest).toBe(3 * MIB);
    });
  });

  // Of native code: test/native/splice_transfer_test.cc.
  test.runIf(backend === 'stream')('EIO: a file that takes nothing and says nothing', async () => {
    const content = pattern(200_000);
    const sockets = await sourceLink();
    const target = path.join(scratchFolder(), 'target');
    const { write } = nodesFs;
    let writes = 0;
    const stubborn = vi.spyOn(nodesFs, 'write').mockImplementation(((...args: unknown[]) => {
      if (++writes === 1) return Reflect.apply(write, nodesFs, args);
      (args.at(-1) as (error: null, bytes: number) => void)(null, 0);
    }) as typeof fs.write);
    onTestFinished(() => stubborn.mockRestore());
    sockets.writer.write(content);
    const error = await failed(transfer(sockets.source, target, { backend }));
    expect(error).toMatchObject({ code: 'EIO', errno: -5, syscall: 'write' });
    expect(error.transferred).toBeGreaterThan(0);
    expectWhole(error, await restOf(sockets), content, fs.readFileSync(target));
  });

  describe('a source that fails', () => {
    test('the peer resets a TCP socket in mid-transfer', async () => {
      const { source, writer } = await sourceLink();
      const { sink } = await fileTarget('path');
      const errors: NodeJS.ErrnoException[] = [];
      source.on('error', (error) => errors.push(error));
      const result = failed(transfer(source, sink, { backend }));
      writer.write(Buffer.alloc(MIB));
      // libuv takes a reset that comes behind bytes which are still to be read for an end.
      const least = backend === 'stream' ? MIB : 1;
      await until(() => source.bytesRead >= least, 'it moves');
      writer.resetAndDestroy();
      const error = await result;
      expect(error).toMatchObject({ code: 'ECONNRESET', errno: -104 });
      expect(error.transferred).toBeLessThanOrEqual(MIB);
      await until(() => source.closed, 'it has closed');
      expect(errors.map(({ code }) => code)).toEqual(['ECONNRESET']);
    });

    test('the peer closes a Unix socket with bytes unread', async () => {
      const { source, writer } = await sourceLink({ kind: 'unix' });
      const { sink } = await fileTarget('path');
      source.write('never read'); // the writer was paused before it was connected
      const result = failed(transfer(source, sink, { backend }));
      await sleep(20);
      writer.destroy();
      expect(await result).toMatchObject({ code: 'ECONNRESET', transferred: 0 });
      await until(() => source.closed, 'it has closed');
    });

    test.each([undefined, new Error('mine')])('destroyed by JavaScript: %s', async (cause) => {
      const { source, writer } = await sourceLink();
      const { sink, path } = await fileTarget('path');
      const events = countEvents(source, 'end', 'close');
      const result = failed(transfer(source, sink, { backend }));
      writer.write(Buffer.alloc(100_000));
      await until(() => source.bytesRead === 100_000, 'it has moved');
      await sleep(20);
      source.destroy(cause);
      const error = await result;
      expect(error.code).toBe('ERR_STREAM_PREMATURE_CLOSE');
      if (cause) expect(error.cause).toBe(cause);
      expect(error.transferred).toBeLessThanOrEqual(100_000);
      expect(fs.statSync(path).size).toBeGreaterThanOrEqual(error.transferred);
      await sleep(10);
      expect(events).toEqual({ end: 0, close: 1 });
    });

    test('destroyed while it waits for its turn on the sink', async () => {
      const first = await sourceLink();
      const second = await sourceLink();
      const { sink, peer } = await link();
      const one = transfer(first.source, sink, { backend });
      const two = failed(transfer(second.source, sink, { backend }));
      second.source.destroy();
      first.writer.end('one');
      expectSpliced(await one, backend, 3);
      expect(await two).toMatchObject({ code: 'ERR_STREAM_PREMATURE_CLOSE', transferred: 0 });
      sink.end();
      expect((await receive(peer)).toString()).toBe('one');
    });

    test('nothing is sent to who has the descriptor of a source that is gone', async () => {
      const { source, writer } = await sourceLink();
      const { sink, path: target } = await fileTarget('path');
      const fd = fdOf(source);
      const result = failed(transfer(source, sink, { backend }));
      await sleep(20);
      source.destroy();
      await result;
      await until(() => source.closed, 'it has closed');
      // Another one takes its number, and has bytes that are nobody else's. A pipe, whose ends get the
      // lowest numbers there are: of a connection, its server might get this one.
      const others = [pipeEnds()];
      const numbers = () => others.flatMap((other) => [fdOf(other.source), fdOf(other.writer)]);
      while (!numbers().includes(fd) && others.length < 10) others.push(pipeEnds());
      expect(numbers()).toContain(fd);
      for (const other of others) other.writer.write('secret');
      for (const other of others) {
        expect((await receiveBytes(other.source, 6)).toString()).toBe('secret');
      }
      writer.destroy();
      expect(fs.statSync(target).size).toBe(0);
    });
  });

  describe('an abort', () => {
    test.each(kinds)('%s → file, in mid-transfer: it goes on at the next byte', async (kind) => {
      const content = pattern(16 * MIB);
      const sockets = await sourceLink({ kind });
      const { sink, path } = await fileTarget('path');
      const controller = new AbortController();
      const result = failed(transfer(sockets.source, sink, { backend, signal: controller.signal }));
      sockets.writer.write(content);
      await until(() => sockets.source.bytesRead > MIB, 'it moves');
      const reason = new Error('enough');
      controller.abort(reason);
      const error = await result;
      expect(error).toMatchObject({ name: 'AbortError', code: 'ABORT_ERR', cause: reason });
      expectWhole(error, await restOf(sockets), content, fs.readFileSync(path));
    });

    test.each(kinds)('%s → a sink that is stuck', async (kind) => {
      const content = pattern(4 * MIB);
      const sockets = await sourceLink({ kind });
      const { sink, peer } = await link({ kind: 'unix', buffers: 4096 });
      const controller = new AbortController();
      const result = failed(transfer(sockets.source, sink, { backend, signal: controller.signal }));
      sockets.writer.write(content);
      await sleep(200);
      controller.abort();
      const error = await result;
      expect(error.code).toBe('ABORT_ERR');
      expect(sink.destroyed).toBe(false);
      const rest = await restOf(sockets);
      expect(error.transferred + (error.residual?.length ?? 0) + rest.length).toBe(4 * MIB);
      const all = Buffer.concat([error.residual ?? Buffer.alloc(0), rest]);
      expect(all.equals(content.subarray(error.transferred))).toBe(true);
      // And the sink goes on: over streams behind the chunk that it had been given.
      sink.end('!');
      const received = await receive(peer);
      expect(received.subarray(-1).toString()).toBe('!');
      const body = received.subarray(0, -1);
      expect(body.equals(content.subarray(0, body.length))).toBe(true);
      if (backend === 'native') expect(body.length).toBe(error.transferred);
    });

    test('a source that is idle for ever', async () => {
      const sockets = await sourceLink();
      const { sink } = await fileTarget('path');
      const controller = new AbortController();
      const result = failed(transfer(sockets.source, sink, { backend, signal: controller.signal }));
      await sleep(100);
      const began = performance.now();
      controller.abort();
      expect(await result).toMatchObject({ code: 'ABORT_ERR', transferred: 0 });
      expect(performance.now() - began).toBeLessThan(1000);
      sockets.writer.write('after');
      expect((await restOf(sockets)).toString()).toBe('after');
    });

    test('before the start, and in the same tick: nothing is taken', async () => {
      const sockets = await sourceLink();
      const { sink, path } = await fileTarget('path', Buffer.from('as it was'));
      sockets.writer.write('whole');
      await once(sockets.source, 'readable');
      const signal = AbortSignal.abort();
      expect(await failed(transfer(sockets.source, sink, { backend, signal }))).toMatchObject({
        code: 'ABORT_ERR',
        transferred: 0,
      });
      const controller = new AbortController();
      const options = { backend, signal: controller.signal };
      const result = failed(transfer(sockets.source, sink, options));
      controller.abort();
      const error = await result;
      expect(error).toMatchObject({ code: 'ABORT_ERR', transferred: 0 });
      expectWhole(error, await restOf(sockets), Buffer.from('whole'));
      expect(fs.readFileSync(path, 'utf8')).toBe('as it was');
    });

    test('100 times over, at every moment: the whole stream comes through', async () => {
      const content = pattern(8 * MIB);
      const { source, writer } = await sourceLink();
      const { sink, path } = await fileTarget('fd');
      writer.end(content);
      let at = 0;
      for (let i = 0; !source.readableEnded && i < 100; i++) {
        const controller = new AbortController();
        const options = { backend, signal: controller.signal, sinkOffset: at };
        const result = transfer(source, sink, options);
        const stop = () => controller.abort();
        if (i % 3 === 0) setImmediate(stop);
        else setTimeout(stop, i % 3);
        const error = await result.then(
          ({ transferred }) => ({ transferred, residual: undefined }),
          (error) => error,
        );
        at += error.transferred;
        const residual: Buffer = error.residual ?? Buffer.alloc(0);
        fs.writeSync(sink as number, residual, 0, residual.length, at);
        at += residual.length;
      }
      if (!source.readableEnded)
        at += (await transfer(source, sink, { sinkOffset: at })).transferred;
      expect(at).toBe(content.length);
      expect(fs.readFileSync(path).equals(content)).toBe(true);
    });
  });

  describe('a sink socket that goes', () => {
    test.each([
      ['is closed', 'unix', 'destroy'],
      ['is reset', 'tcp', 'resetAndDestroy'],
    ] as const)('its peer %s with bytes on the way: they come back', async (_how, kind, leave) => {
      const content = pattern(4 * MIB);
      const sockets = await sourceLink();
      const { sink, peer } = await link({ kind, buffers: 4096 });
      const errors: NodeJS.ErrnoException[] = [];
      sink.on('error', (error) => errors.push(error));
      const result = failed(transfer(sockets.source, sink, { backend }));
      sockets.writer.write(content);
      const start = await receiveBytes(peer, 100_000);
      expect(start.equals(content.subarray(0, 100_000))).toBe(true);
      await sleep(50);
      peer[leave]();
      const error = await result;
      expect(['EPIPE', 'ECONNRESET']).toContain(error.code);
      expect(error.transferred).toBeGreaterThanOrEqual(backend === 'native' ? 100_000 : 0);
      expect(error.residual?.length).toBeGreaterThan(0);
      expect(sockets.source.destroyed).toBe(false);
      expectWhole(error, await restOf(sockets), content);
      await until(() => sink.closed, 'the sink has closed');
      expect(errors.map(({ code }) => code)).toEqual([error.code]);
    });

    test('it is destroyed by JavaScript', async () => {
      const content = pattern(4 * MIB);
      const sockets = await sourceLink();
      const { sink, peer } = await link({ kind: 'unix', buffers: 4096 });
      const result = failed(transfer(sockets.source, sink, { backend }));
      sockets.writer.write(content);
      await receiveBytes(peer, 100_000);
      await sleep(50);
      sink.destroy();
      const error = await result;
      expect(error.code).toBe('ERR_STREAM_PREMATURE_CLOSE');
      expectWhole(error, await restOf(sockets), content);
    });

    test('it was ended, or destroyed, before: nothing is taken', async () => {
      for (const end of ['end', 'destroy'] as const) {
        const sockets = await sourceLink();
        const { sink } = await link();
        sink[end]();
        sockets.writer.write('whole');
        const error = await failed(transfer(sockets.source, sink, { backend: 'auto' }));
        expect(error.code).toMatch(/^ERR_STREAM_(WRITE_AFTER_END|PREMATURE_CLOSE)$/);
        expect(error.transferred).toBe(0);
        expectWhole(error, await restOf(sockets), Buffer.from('whole'));
      }
    });

    test('the sink is idle while the source is, and its peer goes: at once', async () => {
      const { source } = await sourceLink();
      const { sink, peer } = await link({ kind: 'tcp' });
      sink.on('error', () => {});
      const result = failed(transfer(source, sink, { backend }));
      await sleep(50);
      peer.resetAndDestroy();
      const error = await result;
      expect(error.transferred).toBe(0);
      expect(['EPIPE', 'ECONNRESET']).toContain(error.code);
    });
  });

  test('descriptors are back after every kind of end', async () => {
    const ends = [
      async () => {
        const { source, writer } = await sourceLink();
        const result = transfer(source, (await fileTarget('path')).sink, { backend });
        writer.end(Buffer.alloc(MIB));
        await result;
        return [source, writer];
      },
      async () => {
        const { source, writer } = await sourceLink();
        const { sink, peer } = await link({ kind: 'unix', buffers: 4096 });
        const { signal, abort } = aborter();
        const result = failed(transfer(source, sink, { backend, signal }));
        writer.write(Buffer.alloc(4 * MIB));
        await sleep(50);
        abort();
        await result;
        return [source, writer, sink, peer];
      },
      async () => {
        const { source, writer } = await sourceLink();
        const { sink, peer } = await link({ kind: 'unix', buffers: 4096 });
        sink.on('error', () => {});
        const result = failed(transfer(source, sink, { backend }));
        writer.write(Buffer.alloc(4 * MIB));
        await receiveBytes(peer, 1000);
        peer.destroy();
        await result;
        return [source, writer, sink, peer];
      },
      async () => {
        const { source, writer } = await sourceLink();
        const result = failed(transfer(source, (await fileTarget('path')).sink, { backend }));
        writer.write(Buffer.alloc(MIB));
        await sleep(20);
        source.destroy();
        await result;
        return [source, writer];
      },
      async () => {
        const { source, writer } = await sourceLink();
        await failed(transfer(source, '/nowhere/at/all', { backend }));
        return [source, writer];
      },
      async () => {
        const { source, writer } = pipeEnds();
        const { sink, peer } = await link();
        const { signal, abort } = aborter();
        const result = failed(transfer(source, sink, { backend, signal }));
        writer.write(Buffer.alloc(1000));
        await receiveBytes(peer, 1000);
        abort();
        await result;
        return [source, writer, sink, peer];
      },
    ];
    for (const end of ends) for (const socket of await end()) socket.destroy();
    await sleep(50);
    for (const end of ends) {
      const before = openDescriptors();
      for (const socket of await end()) socket.destroy();
      await descriptorsBack(before);
    }
  });
});

function aborter() {
  const controller = new AbortController();
  return { signal: controller.signal, abort: () => controller.abort() };
}

// What the kernel tells of a reset it tells once. Of streams there is one thread, which hears of its
// writes before it reads.
describe('an end that follows a failed write', () => {
  test('is a reset', async () => {
    const { source, writer } = await sourceLink();
    const { sink } = await fileTarget('path');
    stopReading(source);
    writer.write(Buffer.alloc(100_000));
    await resetUnseen(source, writer);
    const error = await failed(transfer(source, sink, { backend: 'native' }));
    expect(error).toMatchObject({ code: 'ECONNRESET', errno: -104, syscall: 'splice' });
    await until(() => source.closed, 'it has closed');
  });

  test('is one, where the peer had sent it before', async () => {
    const content = pattern(100_000);
    const { source, writer } = await sourceLink();
    const { sink, path } = await fileTarget('path');
    stopReading(source);
    writer.end(content);
    writer.once('finish', () => writer.destroy());
    await once(writer, 'close');
    fs.writeSync(fdOf(source), 'x'); // which is answered by a reset
    await sleep(20);
    const result = await transfer(source, sink, { backend: 'native' });
    expect(result).toEqual({ transferred: 100_000, backend: 'splice' });
    expect(fs.readFileSync(path).equals(content)).toBe(true);
  });
});
