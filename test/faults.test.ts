// The cases of CPython's test_sendfile.py, with small buffers, and what else can go wrong midway.
import { once } from 'node:events';
import * as fs from 'node:fs';
import type * as net from 'node:net';
import { describe, expect, test, vi } from 'vitest';
import { TransferError, transfer } from 'zerocopy';
import { backends, counted, type TestedBackend } from './helpers/backends';
import { fails } from './helpers/failures';
import { pattern, testFile } from './helpers/files';
import { openDescriptors, sleep, threads, until, warmers } from './helpers/process';
import { hasSanitizers, noMeasuring } from './helpers/sanitizers';
import { type Link, link, receive, receiveBytes } from './helpers/sockets';

const MIB = 1024 * 1024;
/** Far more than the buffers of both ends take. */
const LARGE = 8 * MIB;

/** A link whose peer has to read for the transfer to come on. */
async function narrowLink(): Promise<Link> {
  const sockets = await link({ kind: 'unix', buffers: 4096 });
  sockets.sink.on('error', () => {});
  return sockets;
}

function expectError(error: TransferError, backend: TestedBackend, code: string) {
  expect(error).toBeInstanceOf(TransferError);
  expect(error.code).toBe(code);
  expect(error.backend === 'stream').toBe(backend === 'stream');
}

describe.each(backends)('%s', (backend) => {
  test('the peer closes after the last byte', async () => {
    const file = testFile(100_000);
    const { sink, peer } = await link();
    const result = transfer(file.path, sink, { backend });
    expect((await receiveBytes(peer, 100_000)).equals(file.content)).toBe(true);
    peer.destroy();
    expect((await result).transferred).toBe(100_000);
  });

  test.each([
    ['closes', narrowLink, (peer: net.Socket) => peer.destroy()],
    ['resets', link, (peer: net.Socket) => peer.resetAndDestroy()],
  ])(
    'the peer %s midway: right count, and the socket fails with the same error',
    async (_how, connect, leave) => {
      const file = testFile(LARGE);
      const { sink, peer } = await connect();
      const errors: NodeJS.ErrnoException[] = [];
      sink.on('error', (error) => errors.push(error));
      const failed = fails(transfer(file.path, sink, { backend }));
      await receiveBytes(peer, 300_000);
      leave(peer);
      const error = await failed;
      expectError(error, backend, error.code);
      expect(['EPIPE', 'ECONNRESET']).toContain(error.code);
      expect(error.errno).toBeLessThan(0);
      expect(error.transferred).toBeGreaterThanOrEqual(counted(backend, 300_000));
      expect(error.transferred).toBeLessThan(LARGE);
      if (!sink.closed) await once(sink, 'close');
      expect(errors.map(({ code }) => code)).toEqual([error.code]);
    },
  );

  test('aborted midway: the count is what has arrived, and the socket goes on', async () => {
    const file = testFile(LARGE);
    const { sink, peer } = await narrowLink();
    const controller = new AbortController();
    const failed = fails(transfer(file.path, sink, { backend, signal: controller.signal }));
    const start = await receiveBytes(peer, 100_000);
    const reason = new Error('enough');
    controller.abort(reason);
    const error = await failed;
    expectError(error, backend, 'ABORT_ERR');
    expect(error.name).toBe('AbortError');
    expect(error.cause).toBe(reason);
    sink.end('goes on');
    const bytes = Buffer.concat([start, await receive(peer)]);
    const body = bytes.subarray(0, -'goes on'.length);
    expect(bytes.subarray(-'goes on'.length).toString()).toBe('goes on');
    expect(body.equals(file.content.subarray(0, body.length))).toBe(true);
    // Over streams a chunk whose write hasn't called back is on its way all the same.
    if (backend === 'native') expect(body.length).toBe(error.transferred);
    else expect(body.length).toBeGreaterThanOrEqual(error.transferred);
  });

  test('aborted before the start: nothing is opened, nothing sent', async () => {
    const { sink, peer } = await link();
    const signal = AbortSignal.abort();
    const error = await fails(transfer('/nowhere', sink, { backend, signal }));
    expectError(error, backend, 'ABORT_ERR');
    expect(error.transferred).toBe(0);
    sink.end('x');
    expect((await receive(peer)).toString()).toBe('x');
  });

  test('aborted while it waits for its turn', async () => {
    const file = testFile(MIB);
    const { sink, peer } = await narrowLink();
    const controller = new AbortController();
    const first = transfer(file.path, sink, { backend });
    const second = fails(transfer(file.path, sink, { backend, signal: controller.signal }));
    sink.end('end');
    controller.abort();
    expectError(await second, backend, 'ABORT_ERR');
    const bytes = await receive(peer);
    expect((await first).transferred).toBe(MIB);
    expect(bytes.equals(Buffer.concat([file.content, Buffer.from('end')]))).toBe(true);
  });

  test('a reader that stops for 2 s', async () => {
    const file = testFile(LARGE);
    const { sink, peer } = await narrowLink();
    const result = transfer(file.path, sink, { backend });
    const start = await receiveBytes(peer, MIB);
    await sleep(2000);
    const rest = receive(peer);
    expect((await result).transferred).toBe(LARGE);
    sink.end();
    expect(Buffer.concat([start, await rest]).equals(file.content)).toBe(true);
  });

  test('a reader that never reads: an abort settles within 50 ms', async () => {
    const file = testFile(LARGE);
    const { sink } = await narrowLink();
    const controller = new AbortController();
    const failed = fails(transfer(file.path, sink, { backend, signal: controller.signal }));
    await sleep(100);
    const began = performance.now();
    controller.abort();
    const error = await failed;
    expect(performance.now() - began).toBeLessThan(50);
    expectError(error, backend, 'ABORT_ERR');
    expect(error.transferred).toBeLessThan(LARGE);
  });

  test('the file is truncated midway', async () => {
    const file = testFile(LARGE);
    const { sink, peer } = await narrowLink();
    const failed = fails(transfer(file.path, sink, { backend }));
    const start = await receiveBytes(peer, 100_000);
    fs.truncateSync(file.path, 4 * MIB);
    peer.on('data', () => {});
    peer.resume();
    const error = await failed;
    expectError(error, backend, 'ERR_SOURCE_TRUNCATED');
    expect(start.length).toBe(100_000);
    expect(error.transferred).toBeLessThanOrEqual(4 * MIB);
    if (backend === 'native') expect(error.transferred).toBe(4 * MIB);
    // What the socket is told is the protocol's affair: it stays open.
    expect(sink.destroyed).toBe(false);
    expect(sink.write('x')).toBe(true);
  });

  test('the file grows midway: what was promised at the start is sent', async () => {
    const file = testFile(2 * MIB);
    const { sink, peer } = await narrowLink();
    const result = transfer(file.path, sink, { backend });
    const start = await receiveBytes(peer, 100_000);
    fs.appendFileSync(file.path, Buffer.alloc(MIB));
    const rest = receive(peer);
    expect((await result).transferred).toBe(2 * MIB);
    sink.end();
    expect(Buffer.concat([start, await rest]).equals(file.content)).toBe(true);
  });

  test('a file that is deleted midway is sent to its end', async () => {
    const file = testFile(2 * MIB);
    const { sink, peer } = await narrowLink();
    const result = transfer(file.path, sink, { backend });
    const start = await receiveBytes(peer, 100_000);
    fs.unlinkSync(file.path);
    const rest = receive(peer);
    expect((await result).transferred).toBe(2 * MIB);
    sink.end();
    expect(Buffer.concat([start, await rest]).equals(file.content)).toBe(true);
  });

  test('descriptors are back after every kind of end', async () => {
    const file = testFile(LARGE);
    const prepared = async () => {
      const sockets = await narrowLink();
      return { ...sockets, descriptors: openDescriptors() };
    };
    await transfer(testFile(100_000).path, (await link()).sink, { backend }); // starts the engine
    const settled = (descriptors: number) =>
      until(() => openDescriptors() === descriptors, 'descriptors are back');

    const aborted = await prepared();
    const controller = new AbortController();
    const abort = fails(transfer(file.path, aborted.sink, { backend, signal: controller.signal }));
    await receiveBytes(aborted.peer, 1000);
    controller.abort();
    await abort;
    await settled(aborted.descriptors);

    const destroyed = await prepared();
    const destroy = fails(transfer(file.path, destroyed.sink, { backend }));
    await receiveBytes(destroyed.peer, 1000);
    destroyed.sink.destroy();
    await destroy;
    await settled(destroyed.descriptors - 1);

    const refused = await prepared();
    await fails(transfer([{ file: file.path }, { file: '/nowhere' }], refused.sink, { backend }));
    await settled(refused.descriptors);

    const done = await prepared();
    done.peer.resume();
    await transfer(file.path, done.sink, { backend });
    await settled(done.descriptors);
  });

  test('an unhandled socket error is an uncaught exception, as after any write', async () => {
    const file = testFile(LARGE);
    const { sink, peer } = await link({ kind: 'unix', buffers: 4096 });
    const uncaught = vi.fn();
    const listeners = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException').once('uncaughtException', uncaught);
    try {
      const failed = fails(transfer(file.path, sink, { backend }));
      await receiveBytes(peer, 1000);
      peer.destroy();
      const error = await failed;
      await until(() => uncaught.mock.calls.length > 0, 'the exception is caught');
      expect(uncaught.mock.calls[0]?.[0].code).toBe(error.code);
    } finally {
      process.removeAllListeners('uncaughtException');
      for (const listener of listeners) process.on('uncaughtException', listener);
    }
  });
});

describe('1,000 transfers at once to slow readers', () => {
  const file = pattern(MIB);

  /** All of them, from the first byte to the last. */
  async function round(path: string) {
    const before = openDescriptors();
    let correct = 0;
    const links = await Promise.all(
      Array.from({ length: 1000 }, () => {
        let at = 0;
        // Compared as it comes: the memory of this test must not hide that of the transfers.
        const onData = (bytes: Uint8Array) => {
          const equal = file.compare(bytes, 0, bytes.length, at, at + bytes.length) === 0;
          at = equal ? at + bytes.length : Number.NaN;
          if (at === MIB) correct += 1;
        };
        return link({ kind: 'unix', buffers: 4096, onData });
      }),
    );
    const descriptors = openDescriptors();
    const results = links.map(({ sink }) =>
      transfer(path, sink, { backend: 'native', endSink: true }),
    );
    await sleep(100);
    // One descriptor of each socket, and one of the file that they share.
    expect(openDescriptors() - descriptors).toBe(1001);
    for (const { peer } of links) peer.resume();
    await Promise.all(results);
    await until(() => correct === 1000, 'all has arrived');
    await until(() => openDescriptors() === before, 'descriptors are back');
    await until(() => warmers() === 0, 'the warmers are gone');
    globalThis.gc?.();
    return { threads: threads().length, rss: process.memoryUsage().rss };
  }

  test(`leave nothing behind${noMeasuring}`, async () => {
    const { path } = testFile(MIB);
    const { sink, peer } = await link();
    peer.resume();
    await transfer(path, sink, { backend: 'native' }); // starts the engine
    const first = await round(path);
    const second = await round(path);
    expect(second.threads).toBe(first.threads);
    if (!hasSanitizers) expect(second.rss - first.rss).toBeLessThan(32 * MIB);
  }, 60_000);
});
