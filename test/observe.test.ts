// What stats() counts, and what the tracing channel tells: of the same transfers the same.
import { AsyncLocalStorage } from 'node:async_hooks';
import { channel, tracingChannel } from 'node:diagnostics_channel';
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as http from 'node:http';
import { createRequire } from 'node:module';
import * as path from 'node:path';
import { PassThrough, Writable } from 'node:stream';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import {
  copyFile,
  createReadStream,
  relay,
  stats,
  TransferError,
  type TransferTrace,
  transfer,
} from 'zerocopy';
import { backends } from './helpers/backends';
import { pattern, scratchFolder, testFile } from './helpers/files';
import { answerOf, get, receiveAll, requestTo, serve, stuckClient } from './helpers/http';
import { addedSince, errorEvents, FAILED, observed, WELL } from './helpers/observe';
import { runNode, until } from './helpers/process';
import { ends } from './helpers/relay';
import { link, receive, receiveBytes } from './helpers/sockets';
import { pipeEnds } from './helpers/sources';
import { secureLink } from './helpers/tls';

const SIZE = 500_009;
/** What the library calls, and not a copy of its names. */
const nodesFs: typeof fs = createRequire(import.meta.url)('node:fs');
const requested = { code: 'REQUESTED', message: "backend: 'stream' was given", at: 0 };

/** What a transfer that moves `bytes` adds. */
function added(by: string, bytes: number, transfers = 1) {
  const fallbacks = by === 'stream' ? { REQUESTED: transfers } : {};
  return { transfers: { [by]: transfers }, bytes: { [by]: bytes }, fallbacks };
}

const inMilliseconds = expect.toSatisfy((ms: number) => ms > 0 && ms < 10_000);

describe.each(backends)('%s', (backend) => {
  const by = (native: string) => (backend === 'native' ? native : 'stream');
  const went = (native: string) => ({
    backend: by(native),
    durationMs: inMilliseconds,
    ...(backend === 'stream' && { fallback: requested }),
  });

  test('a file to a socket', async () => {
    const all = observed();
    const before = stats();
    const file = testFile(SIZE);
    const { sink, peer } = await link();
    const received = receive(peer);
    const moved = transfer(file.path, sink, { backend, endSink: true });
    expect(addedSince(before)).toMatchObject({ transfers: {}, underWay: 1 });
    await moved;
    expect((await received).equals(file.content)).toBe(true);
    const trace: TransferTrace = {
      source: file.path,
      sink,
      sourceKind: 'file',
      sinkKind: 'socket',
      transferred: SIZE,
      ...went('sendfile'),
    } as TransferTrace;
    expect(all).toEqual([{ trace, events: WELL }]);
    expect(addedSince(before)).toEqual({
      ...added(by('sendfile'), SIZE),
      failures: 0,
      underWay: 0,
    });
  });

  test('a gather list to an HTTP message', async () => {
    const all = observed();
    const before = stats();
    const list = [Buffer.from('head'), { file: testFile(SIZE).path }];
    const { address } = await serve((_request, response) => {
      transfer(list, response, { backend });
    });
    const [response] = (await once(http.get(requestTo(address)), 'response')) as [
      http.IncomingMessage,
    ];
    for await (const _ of response);
    await until(() => stats().underWay === before.underWay, 'it has ended');
    expect(all).toMatchObject([
      {
        trace: { source: list, sourceKind: 'list', sinkKind: 'message', transferred: SIZE + 4 },
        events: WELL,
      },
    ]);
    expect(addedSince(before)).toMatchObject(added(by('sendfile'), SIZE + 4));
  });

  test('both directions of a relay', async () => {
    const all = observed();
    const before = stats();
    const { a, b, aPeer, bPeer } = await ends();
    const relayed = relay(a, b, backend === 'stream' ? { backend } : {});
    aPeer.end('from a to b');
    bPeer.end('back');
    expect(addedSince(before).underWay).toBe(2);
    await Promise.all([relayed, receive(aPeer), receive(bPeer)]);
    expect(all).toMatchObject([
      { trace: { source: a, sink: b, sourceKind: 'socket', sinkKind: 'socket', transferred: 11 } },
      { trace: { source: b, sink: a, sourceKind: 'socket', sinkKind: 'socket', transferred: 4 } },
    ]);
    for (const { trace, events } of all) {
      expect(trace).toMatchObject(went('splice'));
      expect(events).toEqual(WELL);
    }
    expect(addedSince(before)).toEqual({ ...added(by('splice'), 15, 2), failures: 0, underWay: 0 });
  });

  test('a file to a pipe', async () => {
    const all = observed();
    const before = stats();
    const file = testFile(SIZE);
    const { source: reader, writer: sink } = pipeEnds();
    const received = receive(reader);
    await transfer(file.path, sink, { backend, endSink: true });
    expect((await received).equals(file.content)).toBe(true);
    expect(all).toMatchObject([
      { trace: { sink, sourceKind: 'file', sinkKind: 'pipe', transferred: SIZE }, events: WELL },
    ]);
    expect(all[0]?.trace).toMatchObject(went('splice'));
    expect(addedSince(before)).toEqual({ ...added(by('splice'), SIZE), failures: 0, underWay: 0 });
  });

  test('a pipe to a file', async () => {
    const all = observed();
    const before = stats();
    const { source, writer } = pipeEnds();
    const content = pattern(SIZE);
    writer.end(content);
    const sink = path.join(scratchFolder(), 'sink');
    await transfer(source, sink, { backend });
    expect(fs.readFileSync(sink).equals(content)).toBe(true);
    expect(all).toMatchObject([
      { trace: { source, sourceKind: 'pipe', sinkKind: 'file', transferred: SIZE }, events: WELL },
    ]);
    expect(all[0]?.trace).toMatchObject(went('splice'));
    expect(addedSince(before)).toEqual({ ...added(by('splice'), SIZE), failures: 0, underWay: 0 });
  });

  test('a copy of a file is one transfer', async () => {
    const all = observed();
    const before = stats();
    const source = testFile(SIZE).path;
    const sink = path.join(scratchFolder(), 'copy');
    const { backend: way } = await copyFile(source, sink, { backend });
    expect(all).toMatchObject([
      {
        trace: { source, sink, sourceKind: 'file', sinkKind: 'file', transferred: SIZE },
        events: WELL,
      },
    ]);
    expect(all[0]?.trace).toMatchObject(went(way));
    expect(addedSince(before)).toEqual({ ...added(way, SIZE), failures: 0, underWay: 0 });
  });

  test('a copy that fails before a byte has moved', async () => {
    const all = observed();
    const before = stats();
    const source = path.join(scratchFolder(), 'missing');
    const error = await copyFile(source, `${source}-copy`, { backend }).catch((error) => error);
    expect(error).toMatchObject({ code: 'ENOENT' });
    expect(all).toMatchObject([{ trace: { source, transferred: 0, error }, events: FAILED }]);
    expect(addedSince(before)).toMatchObject({
      transfers: { [by('copy_file_range')]: 1 },
      bytes: {},
      failures: 1,
      underWay: 0,
    });
  });

  test('an abort', async () => {
    const all = observed();
    const before = stats();
    const { sink, peer } = await link({ buffers: 4096, kind: 'unix' });
    const controller = new AbortController();
    const moved = transfer(testFile(4_000_000).path, sink, { backend, signal: controller.signal });
    await receiveBytes(peer, 1);
    controller.abort();
    const error = await moved.catch((error) => error);
    expect(error).toBeInstanceOf(TransferError);
    const { transferred } = error as TransferError;
    expect(all).toMatchObject([
      { trace: { transferred, error, ...went('sendfile') }, events: FAILED },
    ]);
    expect(all[0]?.trace.error).toBe(error);
    expect(error.fallback).toEqual(backend === 'stream' ? requested : undefined);
    expect(addedSince(before)).toMatchObject({
      transfers: { [by('sendfile')]: 1 },
      failures: 1,
      underWay: 0,
    });
  });

  test.each(['chunked', 'with a Content-Length'])(
    'a file that is truncated under a message, %s: its error event says how far it came',
    async (framing) => {
      const file = testFile(8_000_000);
      const errors = errorEvents();
      const before = stats();
      let failed: Promise<TransferError> | undefined;
      const { sink, peer } = await stuckClient((_request, response) => {
        if (framing !== 'chunked') response.setHeader('Content-Length', file.content.length);
        failed = transfer(file.path, response, { backend }).catch((error) => error);
      });
      peer.write(get());
      await until(() => sink.bytesWritten > 1000, 'the answer has begun');
      expect(addedSince(before)).toMatchObject({ transfers: {}, underWay: 1 });
      fs.truncateSync(file.path, 2_000_077);
      const { body, whole } = answerOf(await receiveAll(peer));
      const error = await failed;
      expect(whole).toBe(false);
      expect(error).toMatchObject({ code: 'ERR_SOURCE_TRUNCATED', backend: by('sendfile') });
      const { transferred } = error as TransferError;
      expect(transferred).toBeGreaterThan(1000);
      expect(transferred).toBeLessThanOrEqual(body.length);
      expect(errors).toEqual([
        {
          source: file.path,
          sink: expect.any(http.ServerResponse),
          sourceKind: 'file',
          sinkKind: 'message',
          transferred,
          error,
          ...went('sendfile'),
        },
      ]);
      expect(addedSince(before)).toEqual({
        ...added(by('sendfile'), transferred),
        failures: 1,
        underWay: 0,
      });
    },
  );

  test('a failure at once: its events are in order all the same', async () => {
    const all = observed();
    const { sink } = await link();
    sink.destroy();
    await expect(transfer(testFile(10).path, sink, { backend })).rejects.toThrow();
    expect(all).toMatchObject([{ trace: { transferred: 0 }, events: FAILED }]);
  });

  test('a bad argument is no transfer', async () => {
    const all = observed();
    const before = stats();
    await expect(transfer(-1, 'sink', { backend })).rejects.toThrow(RangeError);
    expect(all).toEqual([]);
    expect(addedSince(before)).toMatchObject({ transfers: {}, failures: 0, underWay: 0 });
  });
});

describe('kinds of ends', () => {
  test('by streams, because of what an end is', async () => {
    const all = observed();
    const before = stats();
    const sink = new PassThrough().resume();
    await transfer(testFile(SIZE).path, sink);
    const source = new PassThrough();
    source.end('bytes');
    await transfer(source, new Writable({ write: (_chunk, _encoding, done) => done() }));
    expect(all).toMatchObject([
      { trace: { sourceKind: 'file', sinkKind: 'stream', fallback: { code: 'SINK_TYPE' } } },
      { trace: { sourceKind: 'stream', sinkKind: 'stream', fallback: { code: 'SINK_TYPE' } } },
    ]);
    expect(addedSince(before)).toMatchObject({
      transfers: { stream: 2 },
      bytes: { stream: SIZE + 5 },
      fallbacks: { SINK_TYPE: 2 },
    });
  });

  test('TLS', async () => {
    const all = observed();
    const before = stats();
    const { near, far } = await secureLink();
    const received = receive(far);
    const { path: file, content } = testFile(SIZE);
    await transfer(file, near);
    createReadStream(file).pipe(near);
    expect((await received).equals(Buffer.concat([content, content]))).toBe(true);
    expect(all).toMatchObject([
      { trace: { sinkKind: 'tls', backend: 'stream', fallback: { code: 'TLS' } }, events: WELL },
    ]);
    expect(addedSince(before)).toEqual({
      transfers: { stream: 1 },
      bytes: { stream: SIZE },
      fallbacks: { TLS: 2 },
      failures: 0,
      underWay: 0,
    });
  });

  test('a URL, a descriptor and a FileHandle are files', async () => {
    const all = observed();
    const file = testFile(10).path;
    const fd = fs.openSync(file, 'r');
    onTestFinished(() => fs.closeSync(fd));
    const handle = await fs.promises.open(file);
    onTestFinished(() => handle.close());
    for (const source of [new URL(`file://${file}`), fd, handle]) {
      await transfer(source, path.join(scratchFolder(), 'sink'));
      expect(all.at(-1)?.trace).toMatchObject({ source, sourceKind: 'file', sinkKind: 'file' });
    }
  });
});

describe('createReadStream', () => {
  test('what goes natively to a response is one transfer', async () => {
    const all = observed();
    const before = stats();
    const { path: file, content } = testFile(SIZE);
    const { address } = await serve((_request, response) => {
      createReadStream(file).pipe(response);
    });
    const [response] = (await once(http.get(requestTo(address)), 'response')) as [
      http.IncomingMessage,
    ];
    expect((await receive(response)).equals(content)).toBe(true);
    await until(() => stats().underWay === before.underWay, 'it has ended');
    expect(all).toMatchObject([
      {
        trace: {
          source: { path: file },
          sourceKind: 'file',
          sinkKind: 'message',
          transferred: SIZE,
          backend: 'sendfile',
          durationMs: inMilliseconds,
        },
        events: WELL,
      },
    ]);
    expect(addedSince(before)).toEqual({ ...added('sendfile', SIZE), failures: 0, underWay: 0 });
  });

  test('what JavaScript reads is a fallback of the stream, once, and no transfer', async () => {
    const all = observed();
    const before = stats();
    for await (const _ of createReadStream(testFile(SIZE).path));
    expect(all).toEqual([]);
    expect(addedSince(before)).toEqual({
      transfers: {},
      bytes: {},
      fallbacks: { READERS: 1 },
      failures: 0,
      underWay: 0,
    });
  });

  test('a client that goes away in mid-body is a failure', async () => {
    const all = observed();
    const before = stats();
    let began: http.ServerResponse | undefined;
    const { peer } = await stuckClient((_request, response) => {
      began = response;
      createReadStream(testFile(4_000_000).path).pipe(response);
    });
    peer.write(get());
    await until(() => (began?.socket?.bytesWritten ?? 0) > 5000, 'the answer has begun');
    peer.destroy();
    await until(() => stats().underWay === before.underWay, 'it has ended');
    expect(all).toMatchObject([{ trace: { backend: 'sendfile' }, events: FAILED }]);
    expect(all[0]?.trace.error).toBeInstanceOf(TransferError);
    expect(all[0]?.trace.error).toMatchObject({ transferred: all[0]?.trace.transferred });
    expect(addedSince(before)).toMatchObject({ transfers: { sendfile: 1 }, failures: 1 });
  });

  test('unpipe() in its middle ends a transfer well, and another goes on', async () => {
    const all = observed();
    const before = stats();
    const { path: file, content } = testFile(4_000_000);
    const { sink, peer } = await link({ kind: 'unix', buffers: 4096 });
    const stream = createReadStream(file);
    stream.pipe(sink);
    await receiveBytes(peer, 10);
    stream.unpipe(sink);
    await until(() => all[0]?.events.includes('asyncEnd') === true, 'the first has ended');
    stream.pipe(sink);
    await receiveAll(peer);
    const moved = all.reduce((sum, { trace }) => sum + (trace.transferred ?? 0), 0);
    expect(moved).toBeLessThanOrEqual(content.length);
    expect(all.every(({ events }) => events.join() === WELL.join())).toBe(true);
    expect(addedSince(before)).toMatchObject({ failures: 0, underWay: 0 });
  });
});

describe('subscribers', () => {
  test('one that throws hurts no transfer; the process hears of it, as Node has it', async () => {
    const { code, stdout, stderr } = await runNode('throwing-subscriber.mjs', [
      testFile(SIZE).path,
    ]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(JSON.parse(stdout)).toEqual({ transferred: SIZE, uncaught: 4 });
  });

  test('any one of the five channels is enough', async () => {
    for (const event of ['start', 'end', 'asyncStart', 'asyncEnd', 'error']) {
      const one = channel(`tracing:zerocopy:transfer:${event}`);
      let told = 0;
      const listener = () => {
        told += 1;
      };
      one.subscribe(listener);
      onTestFinished(() => void one.unsubscribe(listener));
      const missing = path.join(scratchFolder(), 'missing');
      await transfer(missing, `${missing}-sink`).catch(() => {});
      one.unsubscribe(listener);
      expect({ event, told }).toEqual({ event, told: 1 });
    }
  });

  test('an AsyncLocalStorage that is bound to it has the trace while a transfer begins', async () => {
    const storage = new AsyncLocalStorage<unknown>();
    const { start } = tracingChannel('zerocopy:transfer');
    start.bindStore(storage);
    onTestFinished(() => void start.unbindStore(storage));
    let seen: unknown;
    const sink = new Writable({
      write: (_chunk, _encoding, done) => {
        seen = storage.getStore();
        done();
      },
    });
    await transfer(testFile(10).path, sink);
    expect(seen).toMatchObject({ sink, transferred: 10 });
    expect(storage.getStore()).toBeUndefined();
  });
});

test('a pipe is told as one, also where nothing goes natively', async () => {
  const file = testFile(SIZE).path;
  const wrapper = ['sh', '-c', '"$@" | wc -c', 'sh'];
  for (const backend of ['', 'stream']) {
    const env = { ZEROCOPY_BACKEND: backend };
    const { stdout, stderr } = await runNode('pipe-kinds.mjs', [file], { env, wrapper });
    expect(JSON.parse(stderr)).toEqual({ sourceKind: 'file', sinkKind: 'pipe' });
    expect(Number(stdout)).toBe(SIZE);
  }
});

test('a trace of a pipe is of a socket where fs tells nothing, and nothing fails', async () => {
  const all = observed();
  const file = testFile(SIZE);
  const { source: reader, writer: sink } = pipeEnds();
  const received = receive(reader);
  const fstat = vi.spyOn(nodesFs, 'fstatSync').mockImplementation(() => {
    throw new Error('mine');
  });
  onTestFinished(() => fstat.mockRestore());
  const sent = transfer(file.path, sink, { endSink: true });
  expect(fstat).toHaveBeenCalled();
  fstat.mockRestore();
  await sent;
  expect((await received).equals(file.content)).toBe(true);
  expect(all).toMatchObject([{ trace: { sinkKind: 'socket' }, events: WELL }]);
});

test('a worker has totals and a channel of its own', async () => {
  const file = testFile(SIZE).path;
  const { code, stdout, stderr } = await runNode('worker-stats.mjs', [file, scratchFolder()]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const told = (copies: number) => ({
    transfers: { sendfile: 0, splice: 0, copy_file_range: copies, read: 0, stream: 0 },
    bytes: { copy_file_range: copies * SIZE },
    failures: 0,
    underWay: 0,
    traced: copies,
  });
  expect(JSON.parse(stdout)).toMatchObject({ main: told(1), worker: told(2) });
});

test('stats() is the caller’s own, and has every key', () => {
  const first = stats();
  first.transfers.sendfile = -1;
  first.failures = -1;
  expect(stats().transfers.sendfile).toBeGreaterThanOrEqual(0);
  expect(stats().failures).toBeGreaterThanOrEqual(0);
  expect(Object.keys(first)).toEqual(['transfers', 'bytes', 'fallbacks', 'failures', 'underWay']);
  expect(Object.keys(first.transfers)).toEqual(Object.keys(first.bytes));
});
