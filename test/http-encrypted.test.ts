// Servers whose bytes the kernel can't send as they are: HTTPS and HTTP/2.
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import * as http2 from 'node:http2';
import * as https from 'node:https';
import type { Server } from 'node:net';
import { describe, expect, onTestFinished, test } from 'vitest';
import { createReadStream, type ReadStream, type TransferResult, transfer } from 'zerocopy';
import { type TestFile, testFile } from './helpers/files';
import { expectFallback, expectSame } from './helpers/http';
import { listenOnPort, receive } from './helpers/sockets';
import { certificate } from './helpers/tls';

async function portOf(server: Server): Promise<number> {
  onTestFinished(() => {
    server.close();
  });
  return listenOnPort(server);
}

type Response = ServerResponse | http2.Http2ServerResponse;

/** Answers /stream with a stream, /transfer with transfer(), /native with a refusal. */
function answering(file: TestFile) {
  const streams: ReadStream[] = [];
  const results: TransferResult[] = [];
  const listener = async ({ url }: { url?: string | undefined }, response: Response) => {
    if (url === '/stream') {
      const stream = createReadStream(file.path);
      streams.push(stream);
      stream.pipe(response);
    } else if (url === '/transfer') {
      results.push(await transfer(file.path, response as ServerResponse));
    } else {
      const sink = response as ServerResponse;
      const error = await transfer(file.path, sink, { backend: 'native' }).catch((error) => error);
      sink.end(`${error.code} ${error.cause.code} ${sink.headersSent}`);
    }
  };
  return { streams, results, listener };
}

describe('https', () => {
  test('a server', async () => {
    const file = testFile(300_000);
    const { streams, results, listener } = answering(file);
    const server = https.createServer(certificate(), listener);
    const port = await portOf(server);
    const get = async (target: string) => {
      const options = { host: '127.0.0.1', port, path: target, rejectUnauthorized: false };
      const request = https.get({ ...options, agent: false });
      const [response] = (await once(request, 'response')) as [IncomingMessage];
      return receive(response);
    };
    expectSame(await get('/stream'), file.content);
    expectFallback(streams[0], 'TLS');
    expectSame(await get('/transfer'), file.content);
    expect(results).toMatchObject([
      { transferred: 300_000, backend: 'stream', fallback: { code: 'TLS', at: 0 } },
    ]);
    expect((await get('/native')).toString()).toBe('ERR_NOT_NATIVE TLS false');
  });

  test('a request', async () => {
    const file = testFile(300_000);
    const bodies: Buffer[] = [];
    const server = https.createServer(certificate(), async (request, response) => {
      bodies.push(await receive(request));
      response.end();
    });
    const port = await portOf(server);
    const options = { host: '127.0.0.1', port, method: 'POST', rejectUnauthorized: false };
    for (const way of ['stream', 'transfer']) {
      const request = https.request({ ...options, agent: false });
      const answered = once(request, 'response') as Promise<[IncomingMessage]>;
      if (way === 'transfer') {
        const { backend, fallback } = await transfer(file.path, request);
        expect([backend, fallback?.code]).toEqual(['stream', 'TLS']);
      } else {
        const stream = createReadStream(file.path);
        stream.pipe(request);
        await once(stream, 'close');
        expectFallback(stream, 'TLS');
      }
      const [response] = await answered;
      response.resume();
    }
    expect(bodies).toHaveLength(2);
    for (const body of bodies) expectSame(body, file.content);
  });
});

describe.each(['h2', 'h2c'])('%s', (kind) => {
  test('a compatible response, and a stream', async () => {
    const file = testFile(300_000);
    const { streams, results, listener } = answering(file);
    const server = kind === 'h2c' ? http2.createServer() : http2.createSecureServer(certificate());
    server.on('request', listener);
    const port = await portOf(server);
    const scheme = kind === 'h2c' ? 'http' : 'https';
    const client = http2.connect(`${scheme}://127.0.0.1:${port}`, { rejectUnauthorized: false });
    onTestFinished(() => client.close());
    const get = (target: string) => receive(client.request({ ':path': target }).end());
    expectSame(await get('/stream'), file.content);
    expectFallback(streams[0], 'SINK_TYPE');
    expectSame(await get('/transfer'), file.content);
    expect(results).toMatchObject([
      { transferred: 300_000, backend: 'stream', fallback: { code: 'SINK_TYPE', at: 0 } },
    ]);
    expect((await get('/native')).toString()).toBe('ERR_NOT_NATIVE SINK_TYPE false');

    server.removeAllListeners('request');
    server.on('stream', (stream: http2.ServerHttp2Stream) => {
      stream.respond({ ':status': 200 });
      const source = createReadStream(file.path);
      streams.push(source);
      source.pipe(stream);
    });
    expectSame(await get('/'), file.content);
    expectFallback(streams[1], 'SINK_TYPE');
    await new Promise<void>((resolve) => client.close(resolve));
  });
});
