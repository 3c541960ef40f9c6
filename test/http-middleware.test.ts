// Middleware that puts itself before a response's methods.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createRequire } from 'node:module';
import { gunzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { transfer } from 'zerocopy';
import { testFile } from './helpers/files';
import {
  answerOf,
  answersOf,
  connectTo,
  expectFallback,
  expectNative,
  expectSame,
  get,
  type Open,
  receiveAll,
  sameOnTheWire,
  serve,
} from './helpers/http';

type Response = ServerResponse<IncomingMessage>;
type Middleware = (request: IncomingMessage, response: Response, next: () => void) => void;
type App = Middleware & {
  use(middleware: Middleware): void;
  get(path: string, handler: (request: IncomingMessage, response: Response) => void): void;
};

const require = createRequire(import.meta.url);
const compression = require('compression') as () => Middleware;
const session = require('express-session') as (options: object) => Middleware;
const express = require('express') as () => App;

const SIZE = 300_007;

test.each([
  ['with a Content-Length', true],
  ['chunked', false],
])('compression that compresses, %s', async (_name, known) => {
  const file = testFile(SIZE);
  const compress = compression();
  const { wire, streams } = await sameOnTheWire(
    (open, request, response) =>
      compress(request, response, () => {
        response.setHeader('Content-Type', 'text/plain');
        if (known) response.setHeader('Content-Length', SIZE);
        open(file.path).pipe(response);
      }),
    get('/', 'Accept-Encoding: gzip'),
  );
  expectFallback(streams[0], 'SINK_OVERRIDDEN');
  const { head, body, whole } = answerOf(wire);
  expect(whole).toBe(true);
  expect(head).toMatch(/^Content-Encoding: gzip$/m);
  expectSame(gunzipSync(body), file.content);
});

test('compression that lets it pass: its write stands between all the same', async () => {
  const file = testFile(SIZE);
  const compress = compression();
  const { wire, streams } = await sameOnTheWire(
    (open, request, response) =>
      compress(request, response, () => {
        response.setHeader('Content-Type', 'image/png');
        response.setHeader('Content-Length', SIZE);
        open(file.path).pipe(response);
      }),
    get('/', 'Accept-Encoding: gzip'),
  );
  expectFallback(streams[0], 'SINK_OVERRIDDEN');
  expectSame(answerOf(wire).body, file.content);
});

test('the same without compression', async () => {
  const file = testFile(SIZE);
  const { wire, streams } = await sameOnTheWire(
    (open, _request, response) => {
      response.setHeader('Content-Type', 'text/plain');
      response.setHeader('Content-Length', SIZE);
      open(file.path).pipe(response);
    },
    get('/', 'Accept-Encoding: gzip'),
  );
  expectNative(streams[0]);
  const { head, body } = answerOf(wire);
  expect(head).not.toMatch(/Content-Encoding/);
  expectSame(body, file.content);
});

/** An app whose sessions have the same cookie each time. Tells of each end(). */
function sessionApp(
  open: Open,
  file: string,
  compressing: boolean,
  known: boolean,
  ended: () => void,
) {
  const app = express();
  app.use((_request, response, next) => {
    const { end } = response;
    // Below the session's own.
    response.end = function (this: Response, ...args: never[]) {
      ended();
      return (end as (...args: never[]) => Response).apply(this, args);
    } as typeof end;
    next();
  });
  if (compressing) app.use(compression());
  app.use(session({ secret: 's', genid: () => 'the-id', resave: true, saveUninitialized: true }));
  app.get('/', (_request, response) => {
    response.setHeader('Content-Type', 'text/plain');
    if (known) response.setHeader('Content-Length', SIZE);
    open(file).pipe(response);
  });
  return app;
}

test.each([
  ['with a Content-Length', true],
  ['chunked', false],
])("express-session's end, on express, %s", async (_name, known) => {
  const file = testFile(SIZE);
  let ends = 0;
  const { wire, streams } = await sameOnTheWire(
    (open, request, response) =>
      sessionApp(open, file.path, false, known, () => {
        ends += 1;
      })(request, response, () => {}),
    get() + get(),
    { requests: 2 },
  );
  expect(streams).toHaveLength(2);
  for (const stream of streams) expectNative(stream);
  expect(ends).toBe(2 * 2); // by either way
  const answers = answersOf(wire);
  expect(answers).toHaveLength(2);
  for (const { head, body, whole } of answers) {
    expect(whole).toBe(true);
    expect(head).toMatch(/^Set-Cookie: connect\.sid=s%3Athe-id\./m);
    expectSame(body, file.content);
  }
});

test("express-session's end above compression", async () => {
  const file = testFile(SIZE);
  let ends = 0;
  const { wire, streams } = await sameOnTheWire(
    (open, request, response) =>
      sessionApp(open, file.path, true, false, () => {
        ends += 1;
      })(request, response, () => {}),
    get('/', 'Accept-Encoding: gzip'),
  );
  expectFallback(streams[0], 'SINK_OVERRIDDEN');
  expect(ends).toBe(2);
  const { head, body } = answerOf(wire);
  expect(head).toMatch(/^Set-Cookie: connect\.sid/m);
  expectSame(gunzipSync(body), file.content);
});

test('transfer() under compression', async () => {
  const file = testFile(SIZE);
  const compress = compression();
  const results: unknown[] = [];
  const { server, address } = await serve((request, response) => {
    compress(request, response, async () => {
      response.setHeader('Content-Type', 'text/plain');
      response.setHeader('Connection', 'close');
      const refused = transfer(file.path, response, { backend: 'native' });
      results.push(await refused.catch((error) => error));
      expect(response.headersSent).toBe(false);
      results.push(await transfer(file.path, response).catch((error) => error));
    });
  });
  const { peer } = await connectTo(server, address);
  peer.write(get('/', 'Accept-Encoding: gzip'));
  const { body, whole } = answerOf(await receiveAll(peer));
  expect(whole).toBe(true);
  expectSame(gunzipSync(body), file.content);
  expect(results).toMatchObject([
    { code: 'ERR_NOT_NATIVE', cause: { code: 'SINK_OVERRIDDEN' }, transferred: 0 },
    { transferred: SIZE, backend: 'stream', fallback: { code: 'SINK_OVERRIDDEN', at: 0 } },
  ]);
});
