// Bodies of requests: a ClientRequest as the sink.
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as http from 'node:http';
import * as net from 'node:net';
import { pipeline } from 'node:stream/promises';
import { describe, expect, onTestFinished, test } from 'vitest';
import { createReadStream, transfer } from 'zerocopy';
import { type TestFile, testFile } from './helpers/files';
import {
  expectFallback,
  expectNative,
  expectSame,
  type Open,
  requestTo,
  serve,
} from './helpers/http';
import { openDescriptors, until } from './helpers/process';
import { type Address, listenOnPort, receive, type SocketKind } from './helpers/sockets';

/** A server that answers each request with what it was sent. */
const echo = (kind: SocketKind) =>
  serve(
    (request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk) => chunks.push(chunk));
      request.on('end', () => {
        const { headers } = request;
        response.setHeader('X-Length', headers['content-length'] ?? 'none');
        response.setHeader('X-Encoding', headers['transfer-encoding'] ?? 'none');
        response.end(Buffer.concat(chunks));
      });
    },
    { kind },
  );

async function answerTo(request: http.ClientRequest) {
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  return { headers: response.headers, body: await receive(response) };
}

/** What arrives at a server that is not HTTP's, and never answers. */
async function rawUpload(open: Open, file: string, headers: http.OutgoingHttpHeaders) {
  const chunks: Buffer[] = [];
  const server = net.createServer((socket) => {
    socket.on('data', (chunk) => {
      chunks.push(chunk);
      if (chunk.subarray(-4).toString() === 'END!') socket.end('HTTP/1.1 204 Done\r\n\r\n');
    });
  });
  const port = await listenOnPort(server);
  const request = http.request({ port, method: 'POST', headers: { Host: 'h', ...headers } });
  const stream = open(file);
  stream.on('end', () => request.end('END!'));
  stream.pipe(request, { end: false });
  const chunked = headers['Content-Length'] === undefined;
  if (chunked) stream.on('end', () => setImmediate(() => request.socket?.write('END!')));
  await once(request, 'response');
  server.close();
  return Buffer.concat(chunks);
}

const sizes = [1, 1000, 64 * 1024 + 1, 3 * 1024 * 1024 + 5];

test.each(sizes)("%d bytes: on the wire as with fs's", async (size) => {
  const file = testFile(size);
  for (const headers of [{}, { 'Content-Length': size + 4 }]) {
    const wanted = await rawUpload((path) => fs.createReadStream(path), file.path, headers);
    const streams: ReturnType<typeof createReadStream>[] = [];
    const bytes = await rawUpload(
      (path) => {
        const stream = createReadStream(path);
        streams.push(stream);
        return stream;
      },
      file.path,
      headers,
    );
    expectSame(bytes, wanted);
    await until(() => streams[0]?.closed === true, 'the stream is closed');
    expectNative(streams[0]);
  }
});

const kinds: SocketKind[] = ['tcp', 'unix'];

describe.each(kinds)('%s', (kind) => {
  const post = (address: Address, options: http.RequestOptions = {}) =>
    http.request({ ...requestTo(address), method: 'POST', ...options });

  test.each(sizes)('%d bytes, with a Content-Length and chunked', async (size) => {
    const file = testFile(size);
    const { address } = await echo(kind);
    for (const known of [true, false]) {
      const request = post(address);
      if (known) request.setHeader('Content-Length', size);
      const stream = createReadStream(file.path);
      const closed = once(stream, 'close');
      stream.pipe(request);
      const [{ headers, body }] = await Promise.all([answerTo(request), closed]);
      expectSame(body, file.content);
      expectNative(stream);
      expect(headers['x-length']).toBe(known ? String(size) : 'none');
      expect(headers['x-encoding']).toBe(known ? 'none' : 'chunked');
    }
  });

  test('30 requests of an agent that keeps one connection', async () => {
    const files: TestFile[] = [10, 5000, 300_000].map((size) => testFile(size));
    const { server, address } = await echo(kind);
    let connections = 0;
    server.on('connection', () => {
      connections += 1;
    });
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    onTestFinished(() => agent.destroy());
    // All at once: they wait for the connection, and have no socket yet when they are piped to.
    const uploads = Array.from({ length: 30 }, async (_, i) => {
      const file = files[i % files.length] as TestFile;
      const request = post(address, { agent });
      if (i % 2) request.setHeader('Content-Length', file.content.length);
      const stream = createReadStream(file.path);
      // The answer may come before what tells that all has gone.
      const closed = once(stream, 'close');
      stream.pipe(request);
      const [{ body }] = await Promise.all([answerTo(request), closed]);
      expectSame(body, file.content);
      expectNative(stream);
    });
    await Promise.all(uploads);
    expect(connections).toBe(1);
    const [file] = files;
    const before = openDescriptors();
    const request = post(address, { agent });
    await Promise.all([answerTo(request), pipeline(createReadStream(file?.path ?? ''), request)]);
    await until(() => openDescriptors() === before, 'descriptors are back');
  });

  test('Expect: 100-continue', async () => {
    const file = testFile(500_000);
    const { server, address } = await echo(kind);
    let asked = 0;
    server.on('checkContinue', (request, response) => {
      asked += 1;
      response.writeContinue();
      server.emit('request', request, response);
    });
    const request = post(address, { headers: { Expect: '100-continue' } });
    request.flushHeaders();
    const answer = answerTo(request);
    await once(request, 'continue');
    const stream = createReadStream(file.path);
    stream.pipe(request);
    expectSame((await answer).body, file.content);
    expect(asked).toBe(1);
    await until(() => stream.closed, 'the stream is closed');
    expectNative(stream);
  });

  test('transfer()', async () => {
    const file = testFile(700_000);
    const { address } = await echo(kind);
    for (const known of [true, false]) {
      const request = post(address);
      if (known) request.setHeader('Content-Length', 700_008);
      const answer = answerTo(request);
      const list = [Buffer.from('head'), { file: file.path }, Buffer.from('tail')];
      const result = await transfer(list, request, { backend: 'native' });
      expect(result).toEqual({ transferred: 700_008, backend: 'sendfile' });
      expect(request.writableEnded).toBe(true);
      const { body, headers } = await answer;
      expect(headers['x-length']).toBe(known ? '700008' : 'none');
      expectSame(body.subarray(4, -4), file.content);
      expect(body.toString('latin1', 0, 4) + body.toString('latin1', 700_004)).toBe('headtail');
    }
  });
});

test('a request whose write is its own', async () => {
  const file = testFile(200_000);
  const { address } = await echo('tcp');
  const request = http.request({ ...requestTo(address), method: 'POST' });
  const { write } = request;
  let seen = 0;
  request.write = function (this: http.ClientRequest, ...args: never[]) {
    seen += (args[0] as unknown as Buffer).length;
    return (write as (...args: never[]) => boolean).apply(this, args);
  } as typeof write;
  const stream = createReadStream(file.path);
  stream.pipe(request);
  expectSame((await answerTo(request)).body, file.content);
  expect(seen).toBe(200_000);
  expectFallback(stream, 'SINK_OVERRIDDEN');
});

test('a GET, to which nothing is piped by right', async () => {
  const file = testFile(1000);
  const { address } = await echo('tcp');
  const request = http.request({ ...requestTo(address), method: 'GET' });
  request.setHeader('Content-Length', 1000);
  const stream = createReadStream(file.path);
  stream.pipe(request);
  expectSame((await answerTo(request)).body, file.content);
  await until(() => stream.closed, 'the stream is closed');
  expectNative(stream);
});
