// What a handler puts on the wire is what it puts there with fs.createReadStream, byte by byte; and
// which way it goes.
import { pipeline } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { pattern, type TestFile, testFile } from './helpers/files';
import {
  answerOf,
  answersOf,
  expectNative,
  expectSame,
  get,
  type Handler,
  sameOnTheWire,
} from './helpers/http';

type Answer = (
  response: Parameters<Handler>[2],
  open: Parameters<Handler>[0],
  file: TestFile,
) => void;

const withLength = (response: Parameters<Handler>[2], length: number) =>
  response.setHeader('Content-Length', length);

const sizes = [1, 1000, 64 * 1024 - 1, 64 * 1024, 64 * 1024 + 1, 3 * 1024 * 1024 + 5];
const waterMarks = [undefined, 1000, 16 * 1024, 1024 * 1024];

describe.each(sizes)('%d bytes', (size) => {
  test.each(waterMarks)('chunked, with a highWaterMark of %s', async (highWaterMark) => {
    const file = testFile(size);
    const options = highWaterMark === undefined ? {} : { highWaterMark };
    const { wire, streams } = await sameOnTheWire((open, _request, response) => {
      open(file.path, options).pipe(response);
    }, get());
    expectNative(streams[0]);
    const { body, whole } = answerOf(wire);
    expect(whole).toBe(true);
    expectSame(body, file.content);
  });

  test('with a Content-Length, by pipe() and pipeline()', async () => {
    const file = testFile(size);
    const { wire, streams } = await sameOnTheWire(
      (open, request, response) => {
        withLength(response, size);
        if (request.url === '/pipe') open(file.path).pipe(response);
        else pipeline(open(file.path), response, () => {});
      },
      get('/pipe') + get('/pipeline'),
      { requests: 2 },
    );
    expect(streams).toHaveLength(2);
    for (const stream of streams) expectNative(stream);
    const answers = answersOf(wire);
    expect(answers).toHaveLength(2);
    for (const { body } of answers) expectSame(body, file.content);
  });

  test('a part of it', async () => {
    const file = testFile(size);
    const [start, end] = [Math.floor(size / 3), Math.floor(size / 2)];
    const { wire, streams } = await sameOnTheWire((open, _request, response) => {
      withLength(response, end - start + 1);
      open(file.path, { start, end }).pipe(response);
    }, get());
    expectNative(streams[0]);
    expectSame(answerOf(wire).body, file.content.subarray(start, end + 1));
  });
});

test('an empty file', async () => {
  const file = testFile(0);
  const { wire, streams } = await sameOnTheWire((open, _request, response) => {
    open(file.path).pipe(response);
  }, get());
  expect(streams[0]?.backend).toBeUndefined(); // no byte went any way
  expect(answerOf(wire)).toMatchObject({ whole: true, body: Buffer.alloc(0) });
});

const SIZE = 200_003;
const large = pattern(100_000, 7);
/** How often the file is in the answer, and what is before and after it. */
type Around = { times?: number; before?: Buffer | string; after?: Buffer | string };

const answers: [name: string, answer: Answer, around?: Around][] = [
  [
    'a small write before',
    (response, open, file) => {
      response.write('before');
      open(file.path).pipe(response);
    },
    { before: 'before' },
  ],
  [
    'a large write before',
    (response, open, file) => {
      response.write(large);
      open(file.path).pipe(response);
    },
    { before: large },
  ],
  [
    'three writes before',
    (response, open, file) => {
      for (const word of ['a', 'b', 'ü']) response.write(word);
      open(file.path).pipe(response);
    },
    { before: 'abü' },
  ],
  [
    '{ end: false }, and a write and an end with bytes',
    (response, open, file) => {
      const stream = open(file.path);
      stream.pipe(response, { end: false });
      stream.on('end', () => {
        response.write('more');
        response.end('tail');
      });
    },
    { after: 'moretail' },
  ],
  [
    '{ end: false }, and a large write and a bare end',
    (response, open, file) => {
      const stream = open(file.path);
      stream.pipe(response, { end: false });
      stream.on('end', () => {
        response.write(large);
        response.end();
      });
    },
    { after: large },
  ],
  [
    'two files, one after the other',
    (response, open, file) => {
      const first = open(file.path);
      first.pipe(response, { end: false });
      first.on('end', () => open(file.path).pipe(response));
    },
    { times: 2 },
  ],
  [
    'two files, the second one opened before the first one ended',
    (response, open, file) => {
      const [first, second] = [open(file.path), open(file.path)];
      first.pipe(response, { end: false });
      first.on('end', () => second.pipe(response));
    },
    { times: 2 },
  ],
  [
    'an explicit writeHead',
    (response, open, file) => {
      response.writeHead(206, 'Some of It', { 'X-Head': 'written' });
      open(file.path).pipe(response);
    },
  ],
  [
    'flushHeaders before',
    (response, open, file) => {
      response.flushHeaders();
      open(file.path).pipe(response);
    },
  ],
  [
    'flushHeaders long before',
    (response, open, file) => {
      response.flushHeaders();
      setImmediate(() => setImmediate(() => open(file.path).pipe(response)));
    },
  ],
  [
    'a writeHead of its own, as of on-headers',
    (response, open, file) => {
      const { writeHead } = response;
      response.writeHead = function (this: typeof response, ...args: never[]) {
        this.setHeader('X-Late', 'set');
        return (writeHead as (...args: never[]) => typeof response).apply(this, args);
      } as typeof writeHead;
      open(file.path).pipe(response);
    },
  ],
  [
    'an end of its own',
    (response, open, file) => {
      const { end } = response;
      response.end = function (this: typeof response, ...args: never[]) {
        this.write('last');
        return (end as (...args: never[]) => typeof response).apply(this, args);
      } as typeof end;
      open(file.path).pipe(response);
    },
    { after: 'last' },
  ],
  [
    'corked for a tick, over a write',
    (response, open, file) => {
      response.cork();
      response.write('before');
      open(file.path).pipe(response);
      process.nextTick(() => response.uncork());
    },
    { before: 'before' },
  ],
  [
    'waited with: piped later than opened',
    (response, open, file) => {
      const stream = open(file.path);
      stream.on('ready', () => setImmediate(() => stream.pipe(response)));
    },
  ],
  [
    'paused and resumed before the first byte',
    (response, open, file) => {
      const stream = open(file.path);
      stream.pipe(response);
      stream.pause();
      setImmediate(() => stream.resume());
    },
  ],
];

describe.each(answers)('%s', (_name, answer, { times = 1, before = '', after = '' } = {}) => {
  const bodyFor = ({ content }: TestFile) =>
    Buffer.concat([
      Buffer.from(before as string),
      ...Array.from({ length: times }, () => content),
      Buffer.from(after as string),
    ]);

  test.each(['chunked', 'with a Content-Length'])('%s', async (framing) => {
    const file = testFile(SIZE);
    const { wire, streams } = await sameOnTheWire((open, _request, response) => {
      if (framing !== 'chunked') withLength(response, bodyFor(file).length);
      answer(response, open, file);
    }, get());
    expect(streams).toHaveLength(times);
    for (const stream of streams) expectNative(stream);
    const { body, whole } = answerOf(wire);
    expect(whole).toBe(true);
    expectSame(body, bodyFor(file));
  });
});

test.each([100, 10_000])('%d bytes, corked until the end', async (size) => {
  const file = testFile(size);
  const { wire, streams } = await sameOnTheWire((open, _request, response) => {
    // Only end() uncorks it. A large file would wait for 'drain' in vain with Node's own, too.
    response.cork();
    open(file.path).pipe(response);
  }, get());
  expectSame(answerOf(wire).body, file.content);
  expect(streams.map(({ fallback }) => fallback?.code)).toEqual(['SINK_CORKED']);
});
