// What interrupts an answer midway, in the middle of a chunk: the chunk is brought to its end, and
// what is written then goes in chunks of its own.
import { once } from 'node:events';
import * as http from 'node:http';
import { describe, expect, onTestFinished, test } from 'vitest';
import { createReadStream, type ReadStream, type TransferError, transfer } from 'zerocopy';
import { type TestFile, testFile } from './helpers/files';
import { answerOf, expectSame, get, receiveAll, serve, stuckClient } from './helpers/http';
import { until } from './helpers/process';
import { receive } from './helpers/sockets';

const SIZE = 4 * 1024 * 1024 + 3;
const CHUNK = 64 * 1024;

interface Stuck {
  file: TestFile;
  stream: ReadStream;
  response: http.ServerResponse;
  receive: () => Promise<ReturnType<typeof answerOf>>;
}

/** A chunked answer whose client is stuck in its middle. */
async function stuck(open = createReadStream): Promise<Stuck> {
  const file = testFile(SIZE);
  let stream: ReadStream | undefined;
  let response: http.ServerResponse | undefined;
  const { peer } = await stuckClient((_request, itsResponse) => {
    response = itsResponse;
    response.setHeader('Connection', 'close');
    stream = open(file.path);
    stream.pipe(response);
  });
  peer.write(get());
  await until(() => (response?.socket?.bytesWritten ?? 0) > 5000, 'the answer has begun');
  return {
    file,
    stream: stream as ReadStream,
    response: response as http.ServerResponse,
    receive: async () => answerOf(await receiveAll(peer)),
  };
}

/** The body is the file as far as it goes, in whole chunks, and then `tail`. */
function expectPrefix(body: Buffer, { content }: TestFile, tail: string, least = 1) {
  const file = body.subarray(0, body.length - tail.length);
  expectSame(file, content.subarray(0, file.length));
  expect(body.subarray(file.length).toString()).toBe(tail);
  expect(file.length % CHUNK).toBe(0);
  expect(file.length).toBeGreaterThanOrEqual(least);
  expect(file.length).toBeLessThan(SIZE);
}

describe('chunked, stuck, and then', () => {
  test('unpipe, and an end with bytes', async () => {
    const { file, stream, response, receive } = await stuck();
    stream.unpipe(response);
    response.end('tail');
    const { body, whole } = await receive();
    expect(whole).toBe(true);
    expectPrefix(body, file, 'tail');
    stream.destroy();
    await until(() => stream.closed, 'the stream is closed');
  });

  test('destroy of the stream, and an end with bytes', async () => {
    const { file, stream, response, receive } = await stuck();
    stream.destroy();
    response.end('tail');
    const { body, whole } = await receive();
    expect(whole).toBe(true);
    expectPrefix(body, file, 'tail');
    await until(() => stream.closed, 'the stream is closed');
  });

  test('unpipe, other writes, and the pipe again: all of the file', async () => {
    const { file, stream, response, receive } = await stuck();
    stream.unpipe(response);
    response.write('between');
    stream.pipe(response);
    const { body, whole } = await receive();
    expect(whole).toBe(true);
    const at = body.indexOf('between');
    expect(at % CHUNK).toBe(0);
    expect(at).toBeGreaterThan(0);
    expect(at).toBeLessThan(SIZE);
    expectSame(Buffer.concat([body.subarray(0, at), body.subarray(at + 7)]), file.content);
  });

  test('unpipe, and another reader: it gets the very next byte', async () => {
    const { file, stream, response, receive } = await stuck();
    stream.unpipe(response);
    response.end();
    const chunks: Buffer[] = [];
    stream.on('data', (chunk) => chunks.push(chunk as Buffer)).resume();
    const [{ body, whole }] = await Promise.all([receive(), once(stream, 'end')]);
    expect(whole).toBe(true);
    expectPrefix(body, file, '');
    expectSame(Buffer.concat([body, ...chunks]), file.content);
    expect(stream.bytesRead).toBe(SIZE);
    expect(stream.fallback).toMatchObject({ code: 'READERS', at: body.length });
  });

  test.each([0, 1, 10])('pause and resume, %d turns of the loop later', async (turns) => {
    const { file, stream, receive } = await stuck();
    stream.pause();
    for (let i = 0; i < turns; i++) await new Promise((resolve) => setImmediate(resolve));
    stream.resume();
    const { body, whole } = await receive();
    expect(whole).toBe(true);
    expectSame(body, file.content);
  });

  test("a 'data' listener: it sees what is left", async () => {
    const { file, stream, receive } = await stuck();
    const chunks: Buffer[] = [];
    stream.on('data', (chunk) => chunks.push(chunk as Buffer));
    const { body, whole } = await receive();
    expect(whole).toBe(true);
    expectSame(body, file.content);
    const seen = Buffer.concat(chunks);
    expect(seen.length).toBe(SIZE - (stream.fallback?.at ?? 0));
    expectSame(seen, file.content.subarray(SIZE - seen.length));
  });

  test('the end of the response alone', async () => {
    const { stream, response, receive } = await stuck();
    const errors: NodeJS.ErrnoException[] = [];
    response.on('error', (error) => errors.push(error));
    response.end('tail');
    await receive().then(
      // What was queued before end() goes before it, as of any write.
      ({ body }) => expect(body.subarray(-4).toString()).toBe('tail'),
    );
    for (const { code } of errors) expect(code).toBe('ERR_STREAM_WRITE_AFTER_END');
    stream.destroy();
  });

  test("Node's own client parses it without an error", async () => {
    const file = testFile(SIZE);
    const streams: ReadStream[] = [];
    const { address } = await serve(
      (_request, response) => {
        const stream = createReadStream(file.path);
        streams.push(stream);
        stream.pipe(response);
        response.on('pipe', () => {});
        until(() => stream.bytesRead > 100_000, 'some has gone').then(() => {
          stream.unpipe(response);
          response.end('tail');
          stream.destroy();
        });
      },
      { kind: 'unix' },
    );
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    onTestFinished(() => agent.destroy());
    const socketPath = 'path' in address ? address.path : '';
    for (let i = 0; i < 5; i++) {
      const request = http.get({ socketPath, agent });
      const [answer] = (await once(request, 'response')) as [http.IncomingMessage];
      await until(() => streams[i]?.destroyed === true, 'it has been interrupted');
      const body = await receive(answer);
      expect(answer.complete).toBe(true);
      expectPrefix(body, file, 'tail', 100_000);
    }
  });
});

describe('transfer()', () => {
  test.each(['chunked', 'with a Content-Length'])('aborted while stuck: %s', async (framing) => {
    const file = testFile(SIZE);
    const controller = new AbortController();
    let failed: Promise<TransferError> | undefined;
    let response: http.ServerResponse | undefined;
    const { peer } = await stuckClient((_request, itsResponse) => {
      response = itsResponse;
      response.setHeader('Connection', 'close');
      if (framing !== 'chunked') response.setHeader('Content-Length', SIZE);
      const { signal } = controller;
      failed = transfer(file.path, response, { signal }).then(
        () => {
          throw new Error('It was not aborted');
        },
        (error) => error,
      );
    });
    peer.write(get());
    await until(() => (response?.socket?.bytesWritten ?? 0) > 5000, 'the answer has begun');
    controller.abort();
    const received = receiveAll(peer);
    const error = (await failed) as TransferError;
    expect(error).toMatchObject({ name: 'AbortError', code: 'ABORT_ERR', backend: 'sendfile' });
    expect(response?.writableEnded).toBe(false);
    response?.end('tail');
    const { body, whole } = answerOf(await received);
    const sent = body.length - 4;
    expect(body.subarray(-4).toString()).toBe('tail');
    expect(error.transferred).toBe(sent);
    expectSame(body.subarray(0, sent), file.content.subarray(0, sent));
    expect(sent).toBeGreaterThan(0);
    expect(sent).toBeLessThan(SIZE);
    // The length that was promised has not come, and the client can tell.
    expect(whole).toBe(framing === 'chunked');
    if (framing === 'chunked') expect(sent % CHUNK).toBe(0);
  });

  test('a pipelined one, aborted before its turn: nothing of it goes', async () => {
    const file = testFile(SIZE);
    const controller = new AbortController();
    const ends: unknown[] = [];
    const { peer } = await stuckClient((request, response) => {
      if (request.url === '/first') {
        createReadStream(file.path).pipe(response);
        return;
      }
      const { signal } = controller;
      response.setHeader('Connection', 'close');
      transfer(file.path, response, { signal }).catch((error) => {
        ends.push(error.code, error.transferred);
        response.end('instead');
      });
    });
    peer.write(get('/first') + get('/second'));
    const received = receiveAll(peer);
    controller.abort();
    const wire = await received;
    const end = wire.indexOf('HTTP/1.1', 10);
    expectSame(answerOf(wire.subarray(0, end)).body, file.content);
    expect(ends).toEqual(['ABORT_ERR', 0]);
    expect(answerOf(wire.subarray(end)).body.toString()).toBe('instead');
  });
});
