// A socket that has been a source is the socket that it was: listeners, pipes, backpressure, counts,
// timeouts; and what is done to it in mid-transfer.
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as net from 'node:net';
import { PassThrough } from 'node:stream';
import { describe, expect, onTestFinished, test } from 'vitest';
import { transfer } from 'zerocopy';
import { backends } from './helpers/backends';
import { pattern } from './helpers/files';
import { sleep, until } from './helpers/process';
import { link, listen, receive, receiveBytes } from './helpers/sockets';
import {
  countEvents,
  expectSpliced,
  fileTarget,
  kinds,
  pipeEnds,
  restOf,
  sides,
  sourceLink,
} from './helpers/sources';

const MIB = 1024 * 1024;

describe.each(backends)('%s', (backend) => {
  /** A socket of which the first `length` bytes have been transferred. */
  async function used(length: number, options: Parameters<typeof sourceLink>[0] = {}) {
    const sockets = await sourceLink(options);
    const { sink } = await fileTarget('path');
    sockets.writer.write(Buffer.alloc(length));
    expectSpliced(await transfer(sockets.source, sink, { backend, length }), backend, length);
    return sockets;
  }

  describe.each(sides)('%s', (side) => {
    test("'data' listeners", async () => {
      const { source, writer } = await used(100_000, { side });
      const content = pattern(3 * MIB);
      const chunks: Buffer[] = [];
      source.on('data', (chunk) => chunks.push(chunk));
      source.resume(); // one side was paused before
      writer.end(content);
      await once(source, 'end');
      expect(Buffer.concat(chunks).equals(content)).toBe(true);
    });

    test('pipe()', async () => {
      const { source, writer } = await used(100_000, { side });
      const content = pattern(3 * MIB);
      const received = receive(source.pipe(new PassThrough()) as never);
      writer.end(content);
      expect((await received).equals(content)).toBe(true);
    });

    test('its highWaterMark, though Node reads ahead and beyond it', async () => {
      const { source, writer } = await used(1, { side });
      const { readableHighWaterMark } = source;
      source.on('readable', () => {});
      writer.end(pattern(4 * MIB));
      for (let i = 0; i < 4; i++) {
        await until(() => source.readableLength > 0, 'Node has read ahead');
        const { sink } = await fileTarget('path');
        expectSpliced(await transfer(source, sink, { backend, length: MIB }), backend, MIB);
        expect(source.readableHighWaterMark).toBe(readableHighWaterMark);
      }
    });

    test('backpressure: what nobody reads stays with the writer', async () => {
      const { source, writer } = await used(100_000, { side, kind: 'unix', buffers: 4096 });
      const content = pattern(MIB);
      writer.end(content);
      await sleep(100);
      expect(source.readableLength).toBeLessThanOrEqual(2 * source.readableHighWaterMark);
      expect(writer.writableLength).toBeGreaterThan(0);
      source.on('data', () => source.pause());
      source.resume();
      await once(source, 'pause');
      await sleep(50);
      expect(writer.writableLength).toBeGreaterThan(0);
      source.removeAllListeners('data');
      const rest = receive(source);
      expect((await rest).length).toBeGreaterThan(0);
      await until(() => writer.writableLength === 0, 'all is written');
    });

    test('close: once, with both ends done', async () => {
      const { source, writer } = await used(1000, { side });
      const events = countEvents(source, 'end', 'close', 'error');
      writer.end();
      writer.resume();
      source.resume();
      await once(source, 'end');
      source.end();
      await until(() => source.closed, 'it has closed');
      await sleep(10);
      expect(events).toEqual({ end: 1, close: 1, error: 0 });
    });
  });

  test('a socket that ends itself when its peer has: after a transfer to the end too', async () => {
    // Made without allowHalfOpen.
    const { source, writer } = await sourceLink({ side: 'connected' });
    const { sink } = await fileTarget('path');
    const events = countEvents(source, 'end', 'finish', 'close', 'error');
    writer.resume();
    writer.end('all');
    expectSpliced(await transfer(source, sink, { backend }), backend, 3);
    await until(() => source.closed, 'it has closed');
    expect(events).toEqual({ end: 1, finish: 1, close: 1, error: 0 });
  });

  test.each(['pipe', 'tcp', 'unix'] as const)(
    '%s: a source that closes of itself when it has ended, with its last bytes on the way',
    async (kind) => {
      for (let round = 0; round < 30; round++) {
        const content = pattern(round * 100, round + 1);
        const { source, writer } =
          kind === 'pipe' ? pipeEnds() : await sourceLink({ kind, side: 'connected' });
        const { sink, peer } = await link({ kind: 'unix', buffers: 4096 });
        // Nothing keeps the source open but what it has to read.
        if (kind !== 'pipe') source.end();
        writer.end(content);
        writer.resume();
        // Some of the rounds find that Node has read all of it, and knows the end.
        if (round % 3 !== 0) source.read(0);
        await sleep(round % 5);
        sink.write(Buffer.alloc(20_000));
        const result = transfer(source, sink, { backend, endSink: true });
        const pieces: Buffer[] = [];
        for (let i = 0; i < 5; i++) {
          pieces.push(await receiveBytes(peer, 4000));
          await sleep(1);
        }
        const rest = receive(peer);
        expectSpliced(await result, backend, content.length);
        pieces.push(await rest);
        expect(Buffer.concat(pieces).subarray(20_000).equals(content)).toBe(true);
      }
    },
  );

  test.each(['pipe', 'tcp', 'unix'] as const)('%s → file: the same', async (kind) => {
    for (let round = 0; round < 30; round++) {
      const content = pattern(round * 100, round + 1);
      const { source, writer } =
        kind === 'pipe' ? pipeEnds() : await sourceLink({ kind, side: 'connected' });
      const { sink, path } = await fileTarget('path');
      if (kind !== 'pipe') source.end();
      writer.end(content);
      writer.resume();
      if (round % 3 !== 0) source.read(0);
      await sleep(round % 5);
      expectSpliced(await transfer(source, sink, { backend }), backend, content.length);
      expect(fs.readFileSync(path).equals(content)).toBe(true);
    }
  });

  test('a paused socket stays paused, a flowing one flows', async () => {
    const { sink } = await fileTarget('path');
    for (const paused of [true, false]) {
      const { source, writer } = await sourceLink();
      let seen = '';
      if (paused) source.pause();
      source.on('data', (chunk) => {
        seen += chunk;
      });
      await sleep(10); // by now it flows, or not
      const body = transfer(source, sink, { backend, length: 4 });
      writer.write('bodytail');
      await body;
      await sleep(50);
      expect(seen).toBe(paused ? '' : 'tail');
      if (paused) source.resume();
      await until(() => seen === 'tail', 'the tail has come');
    }
  });

  test.each(kinds)('%s: bytesRead counts what came, before, during and after', async (kind) => {
    const { source, writer } = await sourceLink({ kind, side: 'connected' });
    const { sink } = await fileTarget('path');
    writer.write(Buffer.alloc(5000));
    await receiveBytes(source, 1000);
    const body = transfer(source, sink, { backend, length: 304_000 });
    writer.write(Buffer.alloc(200_000));
    await until(() => source.bytesRead >= 205_000, 'it has counted what has moved');
    writer.end(Buffer.alloc(100_000));
    expectSpliced(await body, backend, 304_000);
    expect(source.bytesRead).toBe(305_000);
    writer.end();
    await receive(source);
    expect(source.bytesRead).toBe(305_000);
  });

  describe('setTimeout', () => {
    test('a transfer that moves never times out; one that is stuck does, and goes on', async () => {
      const { source, writer } = await sourceLink();
      const { sink, path } = await fileTarget('path');
      const body = transfer(source, sink, { backend });
      const events = countEvents(source, 'timeout');
      source.setTimeout(800);
      for (let i = 0; i < 40; i++) {
        writer.write(Buffer.alloc(1000));
        await sleep(50);
      }
      expect(events.timeout).toBe(0);
      await once(source, 'timeout');
      expect(source.destroyed).toBe(false);
      writer.end('still here');
      expectSpliced(await body, backend, 40_010);
      expect(fs.statSync(path).size).toBe(40_010);
    });

    test('set before, and after the transfer', async () => {
      const { source, writer } = await sourceLink();
      const { sink } = await fileTarget('path');
      source.setTimeout(150);
      const body = transfer(source, sink, { backend, length: 8 });
      writer.write('some');
      await once(source, 'timeout');
      writer.write('more');
      await body;
      // A timeout comes once, and again only after something has moved.
      source.on('timeout', () => source.destroy());
      await once(source, 'close');
    });

    test('a listener that destroys the socket ends the transfer', async () => {
      const { source } = await sourceLink();
      const { sink } = await fileTarget('path');
      source.setTimeout(100, () => source.destroy());
      await expect(transfer(source, sink, { backend })).rejects.toMatchObject({
        code: 'ERR_STREAM_PREMATURE_CLOSE',
        transferred: 0,
      });
    });
  });

  describe('in mid-transfer', () => {
    test.each([
      ['pause', (s: Used) => void s.source.pause()],
      ['resume', (s: Used) => void s.source.resume()],
      ['pause and resume', (s: Used) => void s.source.pause().resume()],
      ['resume and pause', (s: Used) => void s.source.resume().pause()],
      ['ref and unref', (s: Used) => void s.source.unref().ref()],
      ['read(0)', (s: Used) => void s.source.read(0)],
      ['read', (s: Used) => expect(s.source.read()).toBeNull()],
    ])('%s: nothing is lost, and nothing comes twice', async (_what, act) => {
      const content = pattern(600_000);
      const sockets = await sourceLink();
      const { sink, path } = await fileTarget('path', Buffer.alloc(0));
      const options = { backend, length: 500_000, sinkFlags: 'r+' };
      const body = transfer(sockets.source, sink, options);
      for (let i = 0; i < 6; i++) {
        sockets.writer.write(content.subarray(i * 100_000, (i + 1) * 100_000));
        // What the transfer hasn't come to is its own to read, natively or not.
        await expect.poll(() => fs.statSync(path).size).toBe(Math.min(500_000, (i + 1) * 100_000));
        act(sockets);
      }
      expectSpliced(await body, backend, 500_000);
      expect(fs.readFileSync(path).equals(content.subarray(0, 500_000))).toBe(true);
    });

    test('the other direction: writes and transfers to the socket that is read', async () => {
      const content = pattern(2 * MIB);
      const { source, writer } = await sourceLink();
      const { sink, path } = await fileTarget('path', Buffer.alloc(0));
      const back = receive(writer);
      const body = transfer(source, sink, { backend, length: MIB });
      source.write('answer ');
      writer.write(content.subarray(0, 1000));
      const file = await fileTarget('path', content);
      const sent = transfer(file.path, source, { backend });
      source.write(' more');
      writer.write(content.subarray(1000, MIB));
      expectSpliced(await body, backend, MIB);
      await sent;
      source.end(' end');
      const wanted = [Buffer.from('answer '), content, Buffer.from(' more end')];
      expect((await back).equals(Buffer.concat(wanted))).toBe(true);
      expect(fs.readFileSync(path).equals(content.subarray(0, MIB))).toBe(true);
    });

    test('end() of the other direction, and then the whole body', async () => {
      const content = pattern(300_000);
      const { source, writer } = await sourceLink();
      const { sink, path } = await fileTarget('path');
      const body = transfer(source, sink, { backend });
      writer.write(content.subarray(0, 100_000));
      source.end('bye');
      expect((await receive(writer)).toString()).toBe('bye');
      // The writer was made without allowHalfOpen: it has ended itself.
      const result = await body;
      expectSpliced(result, backend, 100_000);
      expect(fs.readFileSync(path).equals(content.subarray(0, 100_000))).toBe(true);
    });

    test('an echo: the same socket is source and sink', async () => {
      const content = pattern(MIB + 1);
      const { source, writer } = await sourceLink();
      const back = receive(writer);
      const echo = transfer(source, source, { backend, endSink: true });
      writer.end(content);
      expectSpliced(await echo, backend, MIB + 1);
      expect((await back).equals(content)).toBe(true);
    });
  });

  test.each(kinds)('%s: a socket that is still connecting', async (kind) => {
    const content = pattern(100_001);
    const { server, address } = await listen(kind);
    const accepted = once(server, 'connection') as Promise<[net.Socket]>;
    const source = net.connect(address);
    onTestFinished(() => void source.destroy());
    const { sink, path } = await fileTarget('path');
    expect(source.connecting).toBe(true);
    const body = transfer(source, sink, { backend, length: 100_000 });
    const [writer] = await accepted;
    writer.write(content);
    expectSpliced(await body, backend, 100_000);
    expect(fs.readFileSync(path).equals(content.subarray(0, 100_000))).toBe(true);
    expect(await restOf({ source, writer })).toEqual(content.subarray(100_000));
  });

  test('a socket that fails to connect', async () => {
    const { server, address } = await listen('tcp');
    server.close();
    await once(server, 'close');
    const source = net.connect(address);
    source.on('error', () => {});
    const { sink } = await fileTarget('path');
    await expect(transfer(source, sink, { backend })).rejects.toMatchObject({
      code: 'ECONNREFUSED',
      transferred: 0,
    });
  });
});

interface Used {
  source: net.Socket;
}
