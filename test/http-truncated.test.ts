// A file that shrinks while it is sent: the bytes that were promised can't come, and nothing else may
// come in their place.
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as http from 'node:http';
import { pipeline } from 'node:stream';
import { beforeAll, describe, expect, test } from 'vitest';
import { createReadStream, type ReadStream, type TransferError, transfer } from 'zerocopy';
import { type TestFile, testFile } from './helpers/files';
import { answerOf, expectSame, get, receiveAll, serve, stuckClient, warmUp } from './helpers/http';
import { openDescriptors, until, withResolvers } from './helpers/process';

beforeAll(warmUp);

const SIZE = 8 * 1024 * 1024;
const LEFT = 2 * 1024 * 1024 + 77;

const framings = ['chunked', 'with a Content-Length'] as const;
type Begin = (response: http.ServerResponse, file: TestFile) => void;

/** Shrinks a file while its client is stuck, lets that read on, and returns what it gets. */
async function shrunk(framing: (typeof framings)[number], begin: Begin) {
  const file = testFile(SIZE);
  const descriptors = openDescriptors();
  let requests = 0;
  const { sink, peer } = await stuckClient((request, response) => {
    requests += 1;
    if (request.url === '/second') return response.end('the second answer');
    if (framing !== 'chunked') response.setHeader('Content-Length', SIZE);
    begin(response, file);
  });
  // Two at once: the second one's answer would come in the place of the missing bytes.
  peer.write(get('/first') + get('/second'));
  await until(() => requests === 2 && sink.bytesWritten > 1000, 'the first answer has begun');
  fs.truncateSync(file.path, LEFT);
  const wire = await receiveAll(peer);
  const answer = answerOf(wire); // one, and not two
  expect(answer.whole).toBe(false);
  expect(answer.body.length).toBeGreaterThan(0);
  expect(answer.body.length).toBeLessThanOrEqual(SIZE);
  // A page of the file that is on its way when it is cut off has zeros from there on.
  const sound = answer.body.subarray(0, LEFT);
  expectSame(sound, file.content.subarray(0, sound.length));
  expect(sink.destroyed).toBe(true);
  await until(() => openDescriptors() === descriptors + 1, "all but the server's are back");
  return answer;
}

describe.each(framings)('%s', (framing) => {
  test('transfer() tells how much of the body has gone', async () => {
    let failed: Promise<TransferError> | undefined;
    const answer = await shrunk(framing, (response, { path }) => {
      failed = transfer(path, response).catch((error) => error);
    });
    const error = await failed;
    expect(error).toMatchObject({ code: 'ERR_SOURCE_TRUNCATED', backend: 'sendfile' });
    expect(error?.transferred).toBe(answer.body.length);
  });

  test("without an 'error' listener nothing is thrown", async () => {
    const thrown: unknown[] = [];
    const note = (error: unknown) => thrown.push(error);
    process.on('uncaughtExceptionMonitor', note);
    const streams: ReadStream[] = [];
    await shrunk(framing, (response, { path }) => {
      const stream = createReadStream(path);
      streams.push(stream);
      stream.pipe(response);
    });
    await until(() => streams.every((stream) => stream.closed), 'streams are closed');
    process.off('uncaughtExceptionMonitor', note);
    expect(thrown).toEqual([]);
    expect(streams[0]?.bytesRead).toBeLessThanOrEqual(SIZE);
    expect(streams[0]?.readableEnded).toBe(false);
  });

  test("an 'error' listener gets ERR_SOURCE_TRUNCATED", async () => {
    const errors: NodeJS.ErrnoException[] = [];
    let ended = 0;
    await shrunk(framing, (response, { path }) => {
      createReadStream(path)
        .on('error', (error) => errors.push(error))
        .on('end', () => {
          ended += 1;
        })
        .pipe(response);
    });
    await until(() => errors.length > 0, 'an error is there');
    expect(errors).toMatchObject([{ code: 'ERR_SOURCE_TRUNCATED' }]);
    expect(ended).toBe(0);
  });

  test("pipeline()'s callback gets ERR_SOURCE_TRUNCATED", async () => {
    const ends: (NodeJS.ErrnoException | null)[] = [];
    await shrunk(framing, (response, { path }) => {
      pipeline(createReadStream(path), response, (error) => ends.push(error));
    });
    await until(() => ends.length > 0, 'the pipeline has ended');
    expect(ends).toMatchObject([{ code: 'ERR_SOURCE_TRUNCATED' }]);
  });

  test('transfer() rejects with ERR_SOURCE_TRUNCATED', async () => {
    const errors: TransferError[] = [];
    const { body } = await shrunk(framing, (response, { path }) => {
      transfer(path, response).catch((error) => errors.push(error));
    });
    await until(() => errors.length > 0, 'the transfer has failed');
    expect(errors).toMatchObject([
      { name: 'TransferError', code: 'ERR_SOURCE_TRUNCATED', backend: 'sendfile' },
    ]);
    // Of a body in chunks, the whole ones.
    const least = framing === 'chunked' ? body.length - 64 * 1024 : body.length;
    expect(errors[0]?.transferred).toBeGreaterThanOrEqual(least);
    expect(errors[0]?.transferred).toBeLessThanOrEqual(body.length);
  });

  test('a request: it fails, and so does nothing else', async () => {
    const file = testFile(SIZE);
    const arrived = withResolvers<http.IncomingMessage>();
    const { address } = await serve((request) => arrived.resolve(request), { kind: 'unix' });
    const socketPath = 'path' in address ? address.path : '';
    const request = http.request({ socketPath, method: 'POST', agent: false });
    if (framing !== 'chunked') request.setHeader('Content-Length', SIZE);
    const failed = once(request, 'error');
    const stream = createReadStream(file.path);
    stream.pipe(request);
    const incoming = await arrived.promise;
    await until(() => stream.bytesRead > 0, 'bytes have gone');
    fs.truncateSync(file.path, LEFT);
    const aborted = once(incoming, 'error');
    incoming.resume();
    expect(await failed).toMatchObject([{ code: 'ERR_SOURCE_TRUNCATED' }]);
    expect(await aborted).toMatchObject([{ code: 'ECONNRESET' }]);
    expect(incoming.complete).toBe(false);
    await until(() => stream.closed, 'the stream is closed');
  });
});

test('a file that grows: what it had at first, or more where that was not promised', async () => {
  const file = testFile(SIZE);
  const more = Buffer.from('more at the end');
  const { peer, sink } = await stuckClient((request, response) => {
    response.setHeader('Connection', 'close');
    if (request.url === '/transfer') transfer(file.path, response);
    else createReadStream(file.path).pipe(response);
  });
  peer.write(get('/stream'));
  await until(() => sink.bytesWritten > 1000, 'the answer has begun');
  fs.appendFileSync(file.path, more);
  const { body, whole } = answerOf(await receiveAll(peer));
  expect(whole).toBe(true);
  expectSame(body, Buffer.concat([file.content, more]));
});

test("before an answer's turn: its connection goes with it, after the answers before it", async () => {
  const file = testFile(1024 * 1024);
  const responses: http.ServerResponse[] = [];
  let failed: Promise<TransferError> | undefined;
  const listener = (_request: http.IncomingMessage, response: http.ServerResponse) => {
    responses.push(response);
    const [first, second] = responses;
    if (!first || !second) return;
    const { write } = second;
    // One with a write of its own doesn't wait for its turn.
    second.write = ((chunk: Buffer) => {
      fs.truncateSync(file.path, 10);
      return write.call(second, chunk, 'latin1');
    }) as typeof write;
    failed = transfer(file.path, second).catch((error) => error);
    failed.then(() => first.end('the first answer'));
  };
  const { sink, peer } = await stuckClient(listener, { highWaterMark: 4 * 1024 * 1024 });
  peer.write(get() + get());
  const wire = await receiveAll(peer);
  expect(await failed).toMatchObject({ code: 'ERR_SOURCE_TRUNCATED', backend: 'stream' });
  expect(answerOf(wire).body.toString()).toBe('the first answer');
  expect(sink.destroyed).toBe(true);
});
