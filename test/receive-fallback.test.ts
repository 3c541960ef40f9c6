// Sources and sinks between which the kernel can't, or must not, move bytes: streams do, the result
// says why, and what arrives is the same.
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as http from 'node:http';
import * as net from 'node:net';
import * as path from 'node:path';
import { PassThrough, Writable } from 'node:stream';
import * as tls from 'node:tls';
import { describe, expect, onTestFinished, test } from 'vitest';
import { pipeSync, type Sink, type TransferOptions, type TransferResult, transfer } from 'zerocopy';
import { pattern, scratchFolder } from './helpers/files';
import { sleep, until } from './helpers/process';
import { link, listen, listenOnPort, receive } from './helpers/sockets';
import {
  expectWhole,
  failed,
  fileTarget,
  kinds,
  pipeEnds,
  restOf,
  sourceLink,
} from './helpers/sources';
import { certificate } from './helpers/tls';

function byStreams(result: TransferResult, code: string, transferred: number) {
  expect(result).toMatchObject({ transferred, backend: 'stream', fallback: { code, at: 0 } });
}

/** What `backend: 'native'` says where `'auto'` goes by streams; nothing has been taken then. */
async function expectNotNative(
  source: net.Socket | http.IncomingMessage,
  sink: Sink,
  code: string,
  options: TransferOptions = {},
) {
  const error = await failed(transfer(source, sink, { ...options, backend: 'native' }));
  expect(error).toMatchObject({ code: 'ERR_NOT_NATIVE', transferred: 0, cause: { code } });
  expect(error.residual ?? '').toHaveLength(0);
}

describe('SINK_APPEND: splice(2) refuses a descriptor with O_APPEND', () => {
  test.each(kinds)('%s: opened by its path', async (kind) => {
    const content = pattern(500_000);
    const sockets = await sourceLink({ kind });
    const { sink, path } = await fileTarget('path', Buffer.from('a log: '));
    sockets.writer.write(content);
    const options = { sinkFlags: 'a' };
    await expectNotNative(sockets.source, sink, 'SINK_APPEND', options);
    const result = await transfer(sockets.source, sink, { ...options, length: 400_000 });
    byStreams(result, 'SINK_APPEND', 400_000);
    const wanted = Buffer.concat([Buffer.from('a log: '), content.subarray(0, 400_000)]);
    expect(fs.readFileSync(path).equals(wanted)).toBe(true);
    expect((await restOf(sockets)).equals(content.subarray(400_000))).toBe(true);
  });

  test('a source that has just failed: no byte comes in the place of another', async () => {
    const content = pattern(200_000);
    const { source, writer } = await sourceLink(); // Node reads ahead, and then no more
    const file = path.join(scratchFolder(), 'log');
    const fd = fs.openSync(file, 'a');
    onTestFinished(() => fs.closeSync(fd));
    writer.write(content);
    await until(() => source.readableLength > 50_000, 'Node has read ahead');
    writer.destroy();
    await new Promise((resolve) => source.write('unwanted', resolve)); // answered by a reset
    await sleep(10);
    source.write('refused at once'); // which the source is told of in the next tick
    expect([source.destroyed, source.errored !== null]).toEqual([false, true]);
    const error = await failed(transfer(source, fd, { length: 1000 }));
    const { transferred, residual = Buffer.alloc(0) } = error;
    const sunk = fs.readFileSync(file); // maybe with what was on its way
    expect(sunk.equals(content.subarray(0, sunk.length))).toBe(true);
    expect(sunk.length).toBeGreaterThanOrEqual(transferred);
    expect(residual.equals(content.subarray(transferred, transferred + residual.length))).toBe(
      true,
    );
  });

  test('a descriptor, and others that append meanwhile', async () => {
    const { source, writer } = await sourceLink();
    const { path } = await fileTarget('path', Buffer.from('one '));
    const fd = fs.openSync(path, 'a');
    onTestFinished(() => fs.closeSync(fd));
    await expectNotNative(source, fd, 'SINK_APPEND');
    fs.appendFileSync(path, 'two ');
    writer.end('three');
    byStreams(await transfer(source, fd), 'SINK_APPEND', 5);
    expect(fs.readFileSync(path, 'utf8')).toBe('one two three');
  });

  test('from a pipe', async () => {
    const { source, writer } = pipeEnds();
    const { sink, path } = await fileTarget('path', Buffer.from('one '));
    writer.end('two');
    byStreams(await transfer(source, sink, { sinkFlags: 'a' }), 'SINK_APPEND', 3);
    expect(fs.readFileSync(path, 'utf8')).toBe('one two');
  });
});

describe('SOURCE_PARSED: bodies that HTTP frames', () => {
  /** Sends a body to a server, which answers with what `handle` returns of it. */
  async function upload(
    handle: (request: http.IncomingMessage) => Promise<unknown>,
    body: Buffer,
    headers: http.OutgoingHttpHeaders,
  ) {
    const server = http.createServer((request, response) => {
      handle(request).then(
        (answer) => response.end(JSON.stringify(answer)),
        (error) => response.destroy(error),
      );
    });
    const port = await listenOnPort(server);
    onTestFinished(() => {
      server.closeAllConnections();
      server.close();
    });
    const request = http.request({ host: '127.0.0.1', port, method: 'POST', headers });
    for (let at = 0; at < body.length; at += 70_001) request.write(body.subarray(at, at + 70_001));
    request.end();
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    return JSON.parse((await receive(response)).toString());
  }

  test.each([
    ['of a known length', { 'Content-Length': 500_000 }],
    ['in chunks', {}],
  ])('a request body %s', async (_how, headers) => {
    const content = pattern(500_000);
    const { sink, path } = await fileTarget('path');
    const result = await upload(
      async (request) => {
        await expectNotNative(request, sink, 'SOURCE_PARSED');
        return await transfer(request, sink);
      },
      content,
      headers,
    );
    byStreams(result, 'SOURCE_PARSED', 500_000);
    expect(fs.readFileSync(path).equals(content)).toBe(true);
  });

  test("the socket itself: Node's parser reads it", async () => {
    const { sink, path } = await fileTarget('path');
    await upload(
      async (request) => {
        await expectNotNative(request.socket, sink, 'SOURCE_PARSED');
        for await (const _chunk of request);
        return {};
      },
      Buffer.from('body'),
      {},
    );
    expect(fs.existsSync(path)).toBe(true);
  });

  test('the body of a response', async () => {
    const content = pattern(300_000);
    const server = http.createServer((_request, response) => response.end(content));
    const port = await listenOnPort(server);
    onTestFinished(() => {
      server.close();
    });
    const request = http.get({ host: '127.0.0.1', port, agent: false });
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    const { sink, path } = await fileTarget('path');
    byStreams(await transfer(response, sink), 'SOURCE_PARSED', 300_000);
    expect(fs.readFileSync(path).equals(content)).toBe(true);
  });

  test("an 'upgrade' socket is no longer parsed: its head goes first", async () => {
    const content = pattern(400_000);
    const server = http.createServer();
    const port = await listenOnPort(server);
    onTestFinished(() => {
      server.close();
    });
    const upgrade = once(server, 'upgrade') as Promise<[http.IncomingMessage, net.Socket, Buffer]>;
    const writer = net.connect(port, '127.0.0.1');
    onTestFinished(() => void writer.destroy());
    const request = 'GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n';
    writer.write(Buffer.concat([Buffer.from(request), content.subarray(0, 1000)]));
    writer.end(content.subarray(1000));
    const [, source, head] = await upgrade;
    onTestFinished(() => void source.destroy());
    expect(head.length).toBeGreaterThan(0);
    source.unshift(head);
    const { sink, path } = await fileTarget('path');
    const result = await transfer(source, sink, { backend: 'native' });
    expect(result).toEqual({ transferred: 400_000, backend: 'splice' });
    expect(fs.readFileSync(path).equals(content)).toBe(true);
  });
});

test('SOURCE_ENCODED: setEncoding() makes strings of bytes', async () => {
  const text = 'grüße, 漢字 und 🙂 '.repeat(20_000);
  const { source, writer } = await sourceLink();
  source.setEncoding('utf8');
  const { sink, path } = await fileTarget('path');
  writer.end(text);
  await expectNotNative(source, sink, 'SOURCE_ENCODED');
  byStreams(await transfer(source, sink), 'SOURCE_ENCODED', Buffer.byteLength(text));
  expect(fs.readFileSync(path, 'utf8')).toBe(text);
});

describe('TLS', () => {
  /** What a client has sent to a TLS server, as the server's socket. */
  async function encrypted(content: Buffer): Promise<tls.TLSSocket> {
    const server = tls.createServer(certificate());
    const port = await listenOnPort(server);
    onTestFinished(() => {
      server.close();
    });
    const accepted = once(server, 'secureConnection') as Promise<[tls.TLSSocket]>;
    const writer = tls.connect({ port, host: '127.0.0.1', rejectUnauthorized: false });
    writer.on('error', () => {});
    writer.end(content);
    const [source] = await accepted;
    onTestFinished(() => {
      source.destroy();
      writer.destroy();
    });
    return source;
  }

  test('→ file: what was sent, not what was on the wire', async () => {
    const content = pattern(500_000);
    const source = await encrypted(content);
    const { sink, path } = await fileTarget('path');
    await expectNotNative(source, sink, 'TLS');
    byStreams(await transfer(source, sink, { length: 300_000 }), 'TLS', 300_000);
    expect(fs.readFileSync(path).equals(content.subarray(0, 300_000))).toBe(true);
    byStreams(await transfer(source, sink), 'TLS', 200_000);
    expect(fs.readFileSync(path).equals(content.subarray(300_000))).toBe(true);
  });

  test('→ socket', async () => {
    const content = pattern(500_000);
    const source = await encrypted(content);
    const { sink, peer } = await link();
    const received = receive(peer);
    byStreams(await transfer(source, sink, { endSink: true }), 'TLS', 500_000);
    expect((await received).equals(content)).toBe(true);
  });

  test('the socket below: its bytes are the TLSSocket’s', async () => {
    const raw = await sourceLink();
    const { sink } = await fileTarget('path');
    const wrapped = new tls.TLSSocket(raw.source, { isServer: true });
    wrapped.on('error', () => {});
    onTestFinished(() => void wrapped.destroy());
    const error = await failed(transfer(wrapped, sink, { backend: 'native' }));
    expect(error).toMatchObject({ code: 'ERR_NOT_NATIVE', cause: { code: 'TLS' } });
  });
});

test('SOURCE_OVERRIDDEN: a socket whose reading somebody has replaced', async () => {
  for (const method of ['read', '_read', 'push'] as const) {
    const content = pattern(200_000);
    const { source, writer } = await sourceLink();
    let calls = 0;
    const original = source[method] as (...args: unknown[]) => unknown;
    Object.assign(source, {
      [method](this: net.Socket, ...args: unknown[]) {
        calls += 1;
        return original.apply(this, args);
      },
    });
    const { sink, path } = await fileTarget('path');
    await expectNotNative(source, sink, 'SOURCE_OVERRIDDEN');
    writer.end(content);
    byStreams(await transfer(source, sink), 'SOURCE_OVERRIDDEN', 200_000);
    expect(fs.readFileSync(path).equals(content)).toBe(true);
    expect(calls).toBeGreaterThan(0);
  }
});

test('SOURCE_HANDLE: a socket that has never been connected', async () => {
  const { sink } = await fileTarget('path');
  await expectNotNative(new net.Socket(), sink, 'SOURCE_HANDLE');
});

test('SOURCE_BLOCKING: a thread of ours would wait in such a pipe', async () => {
  const { source, writer } = await pipeEnds();
  const { sink, path } = await fileTarget('path');
  const { _handle: handle } = source as unknown as {
    _handle: { setBlocking(on: boolean): number };
  };
  expect(handle.setBlocking(true)).toBe(0);
  await expectNotNative(source, sink, 'SOURCE_BLOCKING');
  writer.end('there');
  byStreams(await transfer(source, sink), 'SOURCE_BLOCKING', 5);
  expect(fs.readFileSync(path, 'utf8')).toBe('there');
});

test('other Readables and Writables', async () => {
  const through = new PassThrough();
  const { sink, path } = await fileTarget('path');
  through.end('readable');
  byStreams(await transfer(through, sink), 'SOURCE_STREAM', 8);
  expect(fs.readFileSync(path, 'utf8')).toBe('readable');

  const { source, writer } = await sourceLink();
  const chunks: Buffer[] = [];
  const writable = new Writable({
    write: (chunk, _encoding, done) => {
      chunks.push(chunk);
      setImmediate(done);
    },
  });
  writer.end(pattern(300_000));
  byStreams(await transfer(source, writable, { endSink: true }), 'SINK_TYPE', 300_000);
  expect(Buffer.concat(chunks).equals(pattern(300_000))).toBe(true);
});

test('a stream that has been destroyed: what it still has goes, and none of it is lost between', async () => {
  const source = new PassThrough();
  const content = pattern(100);
  source.write(content.subarray(0, 50));
  source.write(content.subarray(50));
  expect(source.readableLength).toBe(100);
  source.destroy();
  const { sink, peer } = await link();
  const received = receive(peer);
  for (const length of [10, 20, 30]) {
    expect((await transfer(source, sink, { length })).transferred).toBe(length);
  }
  expect(source.read(40)?.equals(content.subarray(60))).toBe(true);
  sink.end();
  expect((await received).equals(content.subarray(0, 60))).toBe(true);
});

test('a socket → an HTTP message', async () => {
  const content = pattern(300_000);
  const { source, writer } = await sourceLink();
  const results: Promise<TransferResult>[] = [];
  const server = http.createServer((_request, response) => {
    response.setHeader('Content-Length', content.length);
    results.push(transfer(source, response));
  });
  const port = await listenOnPort(server);
  onTestFinished(() => {
    server.close();
  });
  writer.end(content);
  const request = http.get({ host: '127.0.0.1', port, agent: false });
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  expect((await receive(response)).equals(content)).toBe(true);
  byStreams((await results[0]) as TransferResult, 'SINK_TYPE', 300_000);
});

test('a sink socket with a write of its own', async () => {
  const content = pattern(300_000);
  const { source, writer } = await sourceLink();
  const { sink, peer } = await link();
  let seen = 0;
  const { write } = sink;
  sink.write = function (this: typeof sink, ...args: never[]) {
    seen += (args[0] as unknown as Buffer).length;
    return (write as (...args: never[]) => boolean).apply(this, args);
  } as typeof write;
  writer.end(content);
  const received = receive(peer);
  const result = await transfer(source, sink, { endSink: true });
  byStreams(result, 'SINK_OVERRIDDEN', 300_000);
  expect((await received).equals(content)).toBe(true);
  expect(seen).toBe(300_000);
});

test('a number that is a pipe goes by streams, as before', async () => {
  const { readFd, writeFd } = pipeSync();
  const { sink, path } = await fileTarget('path');
  fs.writeSync(writeFd, 'through a number');
  fs.closeSync(writeFd);
  byStreams(await transfer(readFd, sink), 'SOURCE_TYPE', 16);
  fs.closeSync(readFd);
  expect(fs.readFileSync(path, 'utf8')).toBe('through a number');
});

test('sockets with an `onread` of their own are no streams: a clear error', async () => {
  const { server, address } = await listen('tcp');
  const accepted = once(server, 'connection') as Promise<[net.Socket]>;
  const seen: string[] = [];
  const source = net.connect({
    ...address,
    onread: {
      buffer: Buffer.alloc(1024),
      callback: (count, buffer) => {
        seen.push(Buffer.from(buffer.subarray(0, count)).toString());
        return true;
      },
    },
  });
  onTestFinished(() => void source.destroy());
  const [writer] = await accepted;
  const { sink, path } = await fileTarget('path', Buffer.from('left alone'));
  for (const backend of ['auto', 'native', 'stream'] as const) {
    await expect(transfer(source, sink, { backend })).rejects.toMatchObject({
      name: 'TypeError',
      code: 'ERR_INVALID_ARG_VALUE',
    });
  }
  writer.end('goes on');
  await once(source, 'end');
  expect(seen.join('')).toBe('goes on');
  expect(fs.readFileSync(path, 'utf8')).toBe('left alone');
});

test('what is refused has taken nothing', async () => {
  const sockets = await sourceLink();
  sockets.writer.write('whole');
  const { path } = await fileTarget('path', Buffer.alloc(0));
  const options = { backend: 'native', sinkFlags: 'a' } as const;
  const error = await failed(transfer(sockets.source, path, options));
  expectWhole(error, await restOf(sockets), Buffer.from('whole'));
});
