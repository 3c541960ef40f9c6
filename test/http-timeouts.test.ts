// Timeouts: a client that is stuck meets one, a client that is only slow does not.
import { once } from 'node:events';
import * as http from 'node:http';
import { describe, expect, onTestFinished, test } from 'vitest';
import { createReadStream, type TransferError, transfer } from 'zerocopy';
import { testFile } from './helpers/files';
import {
  connectTo,
  expectNative,
  expectSame,
  get,
  listenHttp,
  serve,
  stuckClient,
} from './helpers/http';
import { sleep, until, withResolvers } from './helpers/process';
import { receiveBytes } from './helpers/sockets';

const TIMEOUT_MS = 200;
const SIZE = 8 * 1024 * 1024;

type SetUp = (request: http.IncomingMessage, response: http.ServerResponse) => void;

const timeouts: [name: string, setUp: SetUp][] = [
  ['server.timeout', () => {}],
  ['request.setTimeout', (request) => request.setTimeout(TIMEOUT_MS)],
  ['response.setTimeout', (_request, response) => response.setTimeout(TIMEOUT_MS)],
  ['socket.setTimeout', (request) => request.socket.setTimeout(TIMEOUT_MS)],
  [
    'a callback for it, which destroys',
    (_request, response) => response.setTimeout(TIMEOUT_MS, () => response.destroy()),
  ],
];

const framings = ['chunked', 'with a Content-Length'] as const;

async function begin(name: string, setUp: SetUp, framing: (typeof framings)[number]) {
  const file = testFile(SIZE);
  const begun = withResolvers<ReturnType<typeof createReadStream>>();
  const { server, address } = await serve(
    (request, response) => {
      setUp(request, response);
      if (framing !== 'chunked') response.setHeader('Content-Length', SIZE);
      const stream = createReadStream(file.path);
      stream.pipe(response);
      begun.resolve(stream);
    },
    { kind: 'unix' },
  );
  // As it is given to a connection when that is made.
  if (name === 'server.timeout') server.timeout = TIMEOUT_MS;
  const { sink, peer } = await connectTo(server, address, 16 * 1024);
  const closed = once(sink, 'close').then(() => performance.now());
  const start = performance.now();
  peer.write(get());
  const stream = await begun.promise;
  return { file, sink, peer, stream, closed, start };
}

describe.each(timeouts)('%s', (name, setUp) => {
  test.each(framings)('a stuck client: %s', async (framing) => {
    const { sink, stream, closed, start } = await begin(name, setUp, framing);
    const took = (await closed) - start;
    expect(took).toBeGreaterThan(TIMEOUT_MS - 20);
    expect(took).toBeLessThan(TIMEOUT_MS * 10);
    expect(sink.bytesWritten).toBeLessThan(SIZE);
    await until(() => stream.closed, 'the stream is closed');
    expect(stream.readableEnded).toBe(false);
  });
});

describe.each(framings)('%s', (framing) => {
  test.each(timeouts.slice(0, 4))('a slow client: %s', async (name, setUp) => {
    const { file, sink, peer, stream, start } = await begin(name, setUp, framing);
    const chunks: Buffer[] = [];
    // Slow for four times as long as the timeout.
    while (performance.now() - start < TIMEOUT_MS * 4) {
      chunks.push(await receiveBytes(peer, 30_000));
      await sleep(TIMEOUT_MS / 8);
      expect(sink.destroyed).toBe(false);
    }
    expect(stream.bytesRead).toBeLessThan(SIZE);
    peer.on('data', (chunk) => chunks.push(chunk)).resume();
    await once(stream, 'close');
    expectNative(stream);
    const tail = Buffer.from('0\r\n\r\n');
    const last = framing === 'chunked' ? tail : file.content.subarray(-5);
    await until(() => Buffer.concat(chunks.slice(-2)).subarray(-5).equals(last), 'all is there');
    if (framing !== 'chunked') expectSame(Buffer.concat(chunks).subarray(-SIZE), file.content);
  });
});

test("a 'timeout' listener that does nothing: the answer goes on when the client does", async () => {
  const file = testFile(SIZE);
  let timedOut = 0;
  const { peer } = await stuckClient((request, response) => {
    request.socket.setTimeout(50);
    response.on('timeout', () => {
      timedOut += 1;
    });
    response.setHeader('Content-Length', SIZE);
    createReadStream(file.path).pipe(response);
  });
  peer.write(get());
  await until(() => timedOut > 0, 'it has timed out');
  const head = await receiveBytes(peer, 1000);
  const length = head.indexOf('\r\n\r\n') + 4 + SIZE - 1000;
  const rest = await receiveBytes(peer, length);
  expectSame(Buffer.concat([head, rest]).subarray(-SIZE), file.content);
});

test('transfer() to a stuck client', async () => {
  const failed = withResolvers<TransferError>();
  const file = testFile(SIZE);
  const { peer } = await stuckClient((request, response) => {
    request.setTimeout(TIMEOUT_MS);
    response.setHeader('Content-Length', SIZE);
    transfer(file.path, response).catch(failed.resolve);
  });
  peer.write(get());
  const error = await failed.promise;
  expect(error).toMatchObject({ code: 'ERR_STREAM_PREMATURE_CLOSE', backend: 'sendfile' });
  expect(error.transferred).toBeGreaterThan(0);
  expect(error.transferred).toBeLessThan(SIZE);
});

test('a request to a server that is stuck: request.setTimeout', async () => {
  const file = testFile(SIZE);
  const { address } = await listenHttp(
    http.createServer(() => {}),
    'unix',
  );
  const socketPath = 'path' in address ? address.path : '';
  const request = http.request({ socketPath, method: 'POST', agent: false });
  onTestFinished(() => {
    request.destroy();
  });
  const stream = createReadStream(file.path);
  stream.pipe(request);
  const failed = once(request, 'error');
  request.setTimeout(TIMEOUT_MS);
  await once(request, 'timeout');
  expect(stream.bytesRead).toBeGreaterThan(0);
  expect(stream.bytesRead).toBeLessThan(SIZE);
  request.destroy();
  expect(await failed).toMatchObject([{ code: 'ECONNRESET' }]);
  await until(() => stream.closed, 'the stream is closed');
});
