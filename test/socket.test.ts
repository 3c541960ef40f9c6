// What a socket does beside carrying bytes: idle timeouts, counters, half-open connections, context.
import { AsyncLocalStorage } from 'node:async_hooks';
import { once } from 'node:events';
import { describe, expect, test } from 'vitest';
import { transfer } from 'zerocopy';
import { backends } from './helpers/backends';
import { testFile } from './helpers/files';
import { sleep, until } from './helpers/process';
import { link, receive, receiveBytes } from './helpers/sockets';

const MIB = 1024 * 1024;

describe.each(backends)('%s', (backend) => {
  test.each(['before', 'during'])('idle timeout set %s: moving outlives it', async (when) => {
    const file = testFile(4 * MIB);
    const { sink, peer } = await link({ kind: 'unix', buffers: 4096 });
    let timeouts = 0;
    sink.on('timeout', () => {
      timeouts += 1;
    });
    if (when === 'before') sink.setTimeout(150);
    const result = transfer(file.path, sink, { backend });
    if (when === 'during') sink.setTimeout(150);
    // Slowly: 64 KiB every 30 ms, for well over a second.
    const chunks: Buffer[] = [];
    for (let i = 0; i < 40; i++) {
      chunks.push(await receiveBytes(peer, 64 * 1024));
      await sleep(30);
    }
    expect(timeouts).toBe(0);
    const rest = receive(peer);
    expect((await result).transferred).toBe(4 * MIB);
    sink.end();
    expect(Buffer.concat([...chunks, await rest]).equals(file.content)).toBe(true);
  });

  test.each(['before', 'during'])('idle timeout set %s: stuck does not', async (when) => {
    const file = testFile(4 * MIB);
    const { sink } = await link({ kind: 'unix', buffers: 4096 });
    sink.setTimeout(when === 'before' ? 150 : 0);
    const failed = transfer(file.path, sink, { backend }).catch((error) => error);
    if (when === 'during') sink.setTimeout(150);
    await once(sink, 'timeout');
    sink.destroy();
    expect((await failed).code).toBe('ERR_STREAM_PREMATURE_CLOSE');
  });

  test('the idle clock starts anew when a transfer ends', async () => {
    const file = testFile(100_000);
    const { sink, peer } = await link();
    peer.resume();
    let timeouts = 0;
    sink.on('timeout', () => {
      timeouts += 1;
    });
    sink.setTimeout(200);
    for (let i = 0; i < 4; i++) {
      await sleep(100);
      await transfer(file.path, sink, { backend });
    }
    expect(timeouts).toBe(0);
    await once(sink, 'timeout');
  });

  test('bytesWritten counts what has been moved, at every moment', async () => {
    const file = testFile(2 * MIB);
    const { sink, peer } = await link({ kind: 'unix', buffers: 4096 });
    sink.write('head');
    expect(sink.bytesWritten).toBe(4);
    const result = transfer(file.path, sink, { backend });
    sink.write('tail');
    await receiveBytes(peer, 4 + 200_000);
    await until(() => sink.bytesWritten >= 8 + 200_000, 'the bytes are counted');
    expect(sink.bytesWritten).toBeLessThan(8 + 2 * MIB);
    const rest = receive(peer);
    await result;
    sink.end();
    await rest;
    expect(sink.bytesWritten).toBe(8 + 2 * MIB);
    sink.destroy();
    if (!sink.closed) await once(sink, 'close');
    expect(sink.bytesWritten).toBe(8 + 2 * MIB);
  });

  test('bytesWritten of what waits in one batch with a transfer', async () => {
    const file = testFile(2 * MIB);
    const { sink, peer } = await link({ kind: 'unix', buffers: 4096 });
    sink.cork();
    sink.write('head');
    const result = transfer(file.path, sink, { backend });
    sink.write('täil');
    sink.write(Buffer.from('end'));
    expect(sink.bytesWritten).toBe(12);
    sink.uncork();
    const moved = sink.bytesWritten - 12;
    expect(moved).toBeGreaterThanOrEqual(0);
    expect(moved).toBeLessThan(2 * MIB);
    const rest = receive(peer);
    await result;
    sink.end();
    expect((await rest).length).toBe(12 + 2 * MIB);
    expect(sink.bytesWritten).toBe(12 + 2 * MIB);
  });

  test('the peer ends its side and reads on', async () => {
    const file = testFile(2 * MIB);
    const { sink, peer } = await link({ kind: 'unix', buffers: 4096 });
    const received = receive(peer);
    const result = transfer(file.path, sink, { backend });
    peer.end('done');
    sink.resume();
    expect((await result).transferred).toBe(2 * MIB);
    sink.end();
    expect((await received).equals(file.content)).toBe(true);
  });

  test('reading goes on while a transfer writes', async () => {
    const file = testFile(2 * MIB);
    const { sink, peer } = await link({ kind: 'unix', buffers: 4096 });
    const result = transfer(file.path, sink, { backend });
    for (const word of ['ping', 'pong']) {
      peer.write(word);
      const [chunk] = await once(sink, 'data');
      expect(chunk.toString()).toBe(word);
    }
    expect(sink.bytesRead).toBe(8);
    const received = receive(peer);
    await result;
    sink.end();
    expect((await received).equals(file.content)).toBe(true);
  });

  test('whoever hears of the end finds their AsyncLocalStorage', async () => {
    const storage = new AsyncLocalStorage<string>();
    const file = testFile(MIB);
    const { sink, peer } = await link();
    peer.resume();
    const seen = await storage.run('mine', () =>
      transfer(file.path, sink, { backend }).then(() => storage.getStore()),
    );
    expect(seen).toBe('mine');
    const written = new Promise((resolve) => {
      storage.run('theirs', () => {
        transfer(file.path, sink, { backend });
        sink.write('x', () => resolve(storage.getStore()));
      });
    });
    expect(await written).toBe('theirs');
  });

  test('progress: at most every 100 ms, and at the end', async () => {
    const file = testFile(4 * MIB);
    const { sink, peer } = await link({ kind: 'unix', buffers: 4096 });
    const seen: { transferred: number; total: number | undefined; at: number }[] = [];
    const result = transfer(file.path, sink, {
      backend,
      onProgress: (progress) => seen.push({ ...progress, at: performance.now() }),
    });
    for (let i = 0; i < 10; i++) {
      await receiveBytes(peer, 100_000);
      await sleep(40);
    }
    peer.resume();
    await result;
    await sleep(0);
    expect(seen.length).toBeGreaterThan(2);
    expect(seen.every(({ total }) => total === 4 * MIB)).toBe(true);
    const counts = seen.map(({ transferred }) => transferred);
    expect(counts).toEqual([...counts].sort((a, b) => a - b));
    expect(counts.at(-1)).toBe(4 * MIB);
    for (let i = 1; i < seen.length - 1; i++) {
      expect((seen[i]?.at ?? 0) - (seen[i - 1]?.at ?? 0)).toBeGreaterThan(80);
    }
  });

  test('endSink', async () => {
    const file = testFile(100_000);
    const { sink, peer } = await link();
    const received = receive(peer);
    await transfer(file.path, sink, { backend, endSink: true });
    expect(sink.writableEnded).toBe(true);
    expect((await received).equals(file.content)).toBe(true);
  });
});
