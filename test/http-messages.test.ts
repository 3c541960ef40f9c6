// Lengths, trailers, versions, and messages that have no body or whose write is watched: on the wire
// as with fs.createReadStream, and which way each goes.
import { expect, test } from 'vitest';
import { testFile } from './helpers/files';
import {
  answerOf,
  answersOf,
  expectFallback,
  expectNative,
  expectSame,
  get,
  sameOnTheWire,
} from './helpers/http';

const SIZE = 200_003;

test.each([
  ['too short', -1000],
  ['too long', 1000],
])('a Content-Length that is %s', async (_name, difference) => {
  const file = testFile(SIZE);
  const { wire, streams } = await sameOnTheWire((open, _request, response) => {
    response.setHeader('Content-Length', SIZE + difference);
    open(file.path).pipe(response);
  }, get());
  expectNative(streams[0]);
  expect(wire.includes(file.content)).toBe(true);
});

test('trailers, known before and at the end', async () => {
  const file = testFile(SIZE);
  const { wire, streams } = await sameOnTheWire(
    (open, request, response) => {
      response.setHeader('Trailer', 'X-Sum');
      const stream = open(file.path);
      if (request.url === '/before') response.addTrailers({ 'X-Sum': '1234' });
      else stream.on('end', () => response.addTrailers({ 'X-Sum': '1234' }));
      stream.pipe(response);
    },
    get('/before') + get('/end'),
    { requests: 2 },
  );
  for (const stream of streams) expectNative(stream);
  const answers = answersOf(wire);
  expect(answers).toHaveLength(2);
  for (const { body, trailer } of answers) {
    expect(trailer).toBe('X-Sum: 1234');
    expectSame(body, file.content);
  }
});

test.each([
  ['HTTP/1.0', 'GET / HTTP/1.0\r\n\r\n', /^Connection: close/m],
  ['HTTP/1.0 with keep-alive', 'GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n', /./],
  ['HTTP/1.1 with close', get('/', 'Connection: close'), /^Connection: close/m],
])('%s, with a Content-Length and without', async (_name, request, head) => {
  const file = testFile(SIZE);
  for (const known of [true, false]) {
    const { wire, streams } = await sameOnTheWire((open, _request, response) => {
      if (known) response.setHeader('Content-Length', SIZE);
      open(file.path).pipe(response);
    }, request);
    expectNative(streams[0]);
    const answer = answerOf(wire);
    expect(answer.head).toMatch(head);
    expectSame(answer.body, file.content);
  }
});

test.each([
  ['HEAD', 'HEAD / HTTP/1.1\r\nHost: h\r\n\r\n', 200],
  ['204', get(), 204],
  ['304', get(), 304],
])('%s has no body', async (_name, request, status) => {
  const file = testFile(SIZE);
  for (const known of [true, false]) {
    const { wire, streams } = await sameOnTheWire((open, _request, response) => {
      response.statusCode = status;
      if (known) response.setHeader('Content-Length', SIZE);
      open(file.path).pipe(response);
    }, request);
    expect(wire.subarray(-4).toString()).toBe('\r\n\r\n');
    expect(wire.indexOf('\r\n\r\n')).toBe(wire.length - 4);
    expectFallback(streams[0], 'NO_BODY');
    expect(streams[0]?.bytesRead).toBe(SIZE);
  }
});

test('strictContentLength', async () => {
  const file = testFile(SIZE);
  const { wire, streams } = await sameOnTheWire((open, _request, response) => {
    response.strictContentLength = true;
    response.setHeader('Content-Length', SIZE);
    open(file.path).pipe(response);
  }, get());
  expectFallback(streams[0], 'STRICT_LENGTH');
  expectSame(answerOf(wire).body, file.content);
});

test("a write of the response's own", async () => {
  const file = testFile(SIZE);
  const { wire, streams } = await sameOnTheWire((open, _request, response) => {
    const { write } = response;
    response.write = function (this: typeof response, chunk: Buffer) {
      return write.call(this, Buffer.from(chunk.map((byte) => byte ^ 1)), 'latin1', () => {});
    } as typeof write;
    open(file.path).pipe(response);
  }, get());
  expectFallback(streams[0], 'SINK_OVERRIDDEN');
  expectSame(answerOf(wire).body, Buffer.from(file.content.map((byte) => byte ^ 1)));
});

test('a second reader: what it sees is what goes', async () => {
  const file = testFile(SIZE);
  const { wire, streams } = await sameOnTheWire((open, _request, response) => {
    const stream = open(file.path);
    let seen = 0;
    stream.on('data', (chunk) => {
      seen += chunk.length;
    });
    response.setHeader('Trailer', 'X-Seen');
    stream.on('end', () => response.addTrailers({ 'X-Seen': String(seen) }));
    stream.pipe(response);
  }, get());
  expectFallback(streams[0], 'READERS');
  const { body, trailer } = answerOf(wire);
  expect(trailer).toBe(`X-Seen: ${SIZE}`);
  expectSame(body, file.content);
});
