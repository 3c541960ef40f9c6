// transfer() to HTTP messages.
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as http from 'node:http';
import * as path from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { createReadStream, type TransferError, type TransferResult, transfer } from 'zerocopy';
import { backends } from './helpers/backends';
import { openingLater, scratchFolder, testFile } from './helpers/files';
import {
  answerOf,
  answersOf,
  connectTo,
  expectSame,
  get,
  receiveAll,
  requestTo,
  sameOnTheWire,
  serve,
} from './helpers/http';
import { until, warningsOfNode } from './helpers/process';
import { onTestFinished } from './helpers/scope';
import { link, receive } from './helpers/sockets';
import { failed } from './helpers/sources';

const SIZE = 500_009;
const framings = ['chunked', 'with a Content-Length'] as const;

type Listener = (request: http.IncomingMessage, response: http.ServerResponse) => unknown;

/** What a raw client gets for its request. */
async function wireOf(listener: Listener, request = get('/', 'Connection: close')) {
  const { server, address } = await serve((request, response) => {
    listener(request, response);
  });
  const { peer } = await connectTo(server, address);
  peer.write(request);
  return receiveAll(peer);
}

const sendfile = (transferred: number): TransferResult => ({ transferred, backend: 'sendfile' });

describe.each(backends)('%s: before there is a socket', (backend) => {
  describe.each(framings)('%s', (framing) => {
    const file = () => testFile(100_000);
    const wantedOf = ({ content }: { content: Buffer }) =>
      Buffer.concat([
        Buffer.from('before '),
        content,
        Buffer.from(' between '),
        content,
        Buffer.from(' after'),
      ]);

    /** Writes and transfers, none of which waits for another. */
    function writeAll(message: http.OutgoingMessage, { path }: { path: string }) {
      if (framing !== 'chunked') message.setHeader('Content-Length', 200_022);
      message.write('before ');
      const first = transfer(path, message, { backend, endSink: false });
      message.write(' between ');
      const second = transfer(path, message, { backend, endSink: false });
      message.end(' after');
      return Promise.all([first, second]);
    }

    test('a pipelined response: writes and end() keep their places', async () => {
      const sent = file();
      const answered: Promise<TransferResult[]>[] = [];
      let first: http.ServerResponse | undefined;
      const wire = wireOf((request, response) => {
        if (request.url === '/first') {
          first = response;
          return;
        }
        answered.push(writeAll(response, sent));
        expect(response.socket).toBe(null);
        setImmediate(() => first?.end('one'));
      }, get('/first') + get('/second', 'Connection: close'));
      const [one, two] = answersOf(await wire);
      expect(one?.body.toString()).toBe('one');
      expectSame(two?.body ?? Buffer.alloc(0), wantedOf(sent));
      expect(two?.whole).toBe(true);
      for (const result of (await answered[0]) ?? []) {
        expect(result).toMatchObject({
          transferred: 100_000,
          backend: backend === 'native' ? 'sendfile' : 'stream',
        });
      }
    });

    test('a request: writes and end() keep their places', async () => {
      const sent = file();
      const bodies: Promise<Buffer>[] = [];
      const { address } = await serve((request, response) => {
        bodies.push(receive(request));
        request.once('end', () => response.end());
      });
      const request = http.request({ ...requestTo(address), method: 'POST' });
      const results = writeAll(request, sent);
      expect(request.socket).toBe(null);
      const [response] = (await once(request, 'response')) as [http.IncomingMessage];
      response.resume();
      expectSame((await bodies[0]) ?? Buffer.alloc(0), wantedOf(sent));
      for (const result of await results) {
        expect(result).toMatchObject({
          transferred: 100_000,
          backend: backend === 'native' ? 'sendfile' : 'stream',
        });
      }
    });
  });

  test('many to one request, of which Node warns nobody', async () => {
    const warnings = warningsOfNode();
    const { address } = await serve((request, response) => request.pipe(response));
    const request = http.request({ ...requestTo(address), method: 'POST' });
    const files = Array.from({ length: 20 }, (_, i) => testFile(1000 + i));
    const transfers = files.map(({ path }) => transfer(path, request, { backend, endSink: false }));
    request.end();
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    const body = await receive(response);
    expectSame(body, Buffer.concat(files.map(({ content }) => content)));
    await Promise.all(transfers);
    expect(warnings).toEqual([]);
  });
});

describe.each(framings)('%s', (framing) => {
  const frame = (response: http.ServerResponse, length: number) => {
    if (framing !== 'chunked') response.setHeader('Content-Length', length);
  };

  test.each([1, 1000, 64 * 1024, SIZE])("%d bytes: as fs's stream on the wire", async (size) => {
    const file = testFile(size);
    let result: Promise<TransferResult> | undefined;
    const { wire } = await sameOnTheWire((open, _request, response) => {
      frame(response, size);
      const stream = open(file.path);
      if (stream.constructor === fs.ReadStream) {
        stream.pipe(response);
      } else {
        stream.destroy();
        result = transfer(file.path, response, { backend: 'native' });
      }
    }, get());
    expectSame(answerOf(wire).body, file.content);
    expect(await result).toEqual(
      size <= 1000 ? { transferred: size, backend: 'read' } : sendfile(size),
    );
  });

  test('a gather list, ended after it', async () => {
    const file = testFile(SIZE);
    const list = [
      Buffer.from('head'),
      { file: file.path, offset: 100, length: 300_000 },
      Buffer.from('tail'),
    ];
    const wanted = ['head', file.content.subarray(100, 300_100), 'tail'].map((b) => Buffer.from(b));
    let result: Promise<TransferResult> | undefined;
    const wire = await wireOf((_request, response) => {
      frame(response, 300_008);
      result = transfer(list, response, { backend: 'native' });
    });
    const { body, whole } = answerOf(wire);
    expect(whole).toBe(true);
    expectSame(body, Buffer.concat(wanted));
    expect(await result).toEqual(sendfile(300_008));
  });

  test('corked, with writes before and after it', async () => {
    const file = testFile(SIZE);
    const wire = await wireOf(async (_request, response) => {
      frame(response, 6 + SIZE + 5);
      response.cork();
      response.write('bef');
      response.write('ore');
      const sent = transfer(file.path, response, { endSink: false, backend: 'native' });
      response.write('after');
      process.nextTick(() => response.uncork());
      await sent;
      response.end();
    });
    const { body, whole } = answerOf(wire);
    expectSame(body, Buffer.concat([Buffer.from('before'), file.content, Buffer.from('after')]));
    expect(whole).toBe(true);
  });

  test('endSink: false, and more after it', async () => {
    const file = testFile(SIZE);
    const wire = await wireOf(async (_request, response) => {
      frame(response, 6 + SIZE + 5 + SIZE + 4);
      response.write('before');
      const first = transfer(file.path, response, { endSink: false, backend: 'native' });
      response.write('after');
      expect(await first).toEqual(sendfile(SIZE));
      expect(response.writableEnded).toBe(false);
      const list = [{ file: file.path }, Buffer.from('last')];
      await transfer(list, response, { backend: 'native' });
      expect(response.writableEnded).toBe(true);
    });
    const { body, whole } = answerOf(wire);
    const parts = ['before', file.content, 'after', file.content, 'last'];
    expectSame(body, Buffer.concat(parts.map((part) => Buffer.from(part))));
    expect(whole).toBe(true);
  });

  test('two at once, in order', async () => {
    const files = [testFile(SIZE), testFile(1000), testFile(70_000)];
    const results: Promise<TransferResult>[] = [];
    const wire = await wireOf((_request, response) => {
      frame(response, SIZE + 71_000);
      for (const [i, file] of files.entries()) {
        const endSink = i === files.length - 1;
        results.push(transfer(file.path, response, { endSink, backend: 'native' }));
      }
    });
    expectSame(answerOf(wire).body, Buffer.concat(files.map(({ content }) => content)));
    expect(await Promise.all(results)).toEqual([
      sendfile(SIZE),
      { transferred: 1000, backend: 'read' },
      sendfile(70_000),
    ]);
  });

  test('without a native way: the same bytes', async () => {
    const file = testFile(SIZE);
    let result: Promise<TransferResult> | undefined;
    const wire = await wireOf((_request, response) => {
      frame(response, SIZE);
      result = transfer(file.path, response, { backend: 'stream' });
    });
    expectSame(answerOf(wire).body, file.content);
    expect(await result).toMatchObject({ transferred: SIZE, fallback: { code: 'REQUESTED' } });
  });
});

/** From now on, and to the end of the test, Node's own fs takes its time to open a file. */
function openSlowly(file: string) {
  const { default: module } = fs as unknown as { default: typeof fs };
  const { open } = module;
  const spy = vi.spyOn(module, 'open').mockImplementation(((...args: Parameters<typeof open>) => {
    if (args[0] === file) setTimeout(() => open(...args), 20);
    else open(...args);
  }) as typeof open);
  onTestFinished(() => spy.mockRestore());
}

describe.each(backends)('%s: before its file is open', (backend) => {
  const file = () => testFile(SIZE);
  const AFTER = Buffer.from(' after');

  /** All that may come behind a transfer in the same turn of the event loop. */
  const continuations: [string, (response: http.ServerResponse, after: string) => unknown][] = [
    ['end() with a chunk', (response) => response.end(AFTER)],
    [
      'write()',
      (response) => {
        response.write(AFTER);
        setImmediate(() => response.end());
      },
    ],
    [
      'writeHead()',
      (response) => {
        response.writeHead(200);
        response.end(AFTER);
      },
    ],
    [
      'flushHeaders()',
      (response) => {
        response.flushHeaders();
        response.end(AFTER);
      },
    ],
    ['a transfer, open at once', (response, after) => transfer(after, response, { backend })],
    [
      'transfers, open later',
      (response, after) =>
        openingLater(() => {
          transfer(after, response, { backend, endSink: false, length: 2 });
          transfer(after, response, { backend, offset: 2 });
        }),
    ],
    ['pipe()', (response, after) => createReadStream(after).pipe(response)],
  ];

  describe.each(framings)('%s', (framing) => {
    test.each(continuations)(
      'endSink: false, and %s: what comes next goes behind it',
      async (_name, goOn) => {
        const sent = file();
        const after = path.join(scratchFolder(), 'after');
        fs.writeFileSync(after, AFTER);
        openSlowly(sent.path);
        let result: Promise<TransferResult> | undefined;
        const wire = await wireOf((_request, response) => {
          if (framing !== 'chunked') response.setHeader('Content-Length', SIZE + AFTER.length);
          const options = { backend, endSink: false };
          result = openingLater(() => transfer(sent.path, response, options));
          expect(response.headersSent).toBe(false);
          goOn(response, after);
        });
        const { body, whole } = answerOf(wire);
        expectSame(body, Buffer.concat([sent.content, AFTER]));
        expect(whole).toBe(true);
        expect((await result)?.transferred).toBe(SIZE);
      },
    );
  });

  test('endSink: false, and it is not there: what comes next goes all the same', async () => {
    let error: Promise<TransferError> | undefined;
    const wire = await wireOf((_request, response) => {
      const options = { backend, endSink: false };
      error = failed(transfer('/nowhere', response, options));
      response.end(AFTER);
    });
    expect(answerOf(wire)).toMatchObject({ body: AFTER, whole: true });
    expect(await error).toMatchObject({ code: 'ENOENT', transferred: 0 });
  });

  test('one that is to end the message gives way to another answer', async () => {
    const sent = file();
    let error: Promise<TransferError> | undefined;
    const wire = await wireOf((_request, response) => {
      error = failed(openingLater(() => transfer(sent.path, response, { backend })));
      response.statusCode = 503;
      response.end('busy');
    });
    const { head, body } = answerOf(wire);
    expect(head).toMatch(/^HTTP\/1\.1 503 [\s\S]*\r\nContent-Length: 4$/);
    expect(body.toString()).toBe('busy');
    const code = expect.stringMatching(/^ERR_STREAM_(WRITE_AFTER_END|PREMATURE_CLOSE)$/);
    expect(await error).toMatchObject({ code, transferred: 0 });
  });

  test('one that has failed leaves the message as it was', async () => {
    const wire = await wireOf(async (_request, response) => {
      const options = { backend, endSink: false };
      await transfer('/nowhere', response, options).catch(() => {});
      response.end('not here');
    });
    const { head, body } = answerOf(wire);
    expect(head).toMatch(/\r\nContent-Length: 8$/);
    expect(body.toString()).toBe('not here');
  });

  test('one that is to end the message keeps its place among transfers', async () => {
    const [first, second] = [file(), file()];
    openSlowly(first.path);
    const results: Promise<TransferResult>[] = [];
    const wire = await wireOf((_request, response) => {
      results.push(openingLater(() => transfer(first.path, response, { backend })));
      results.push(transfer(second.path, response, { backend, endSink: false }));
    });
    const { body, whole } = answerOf(wire);
    expectSame(body, Buffer.concat([first.content, second.content]));
    expect(whole).toBe(true);
    for (const { transferred } of await Promise.all(results)) expect(transferred).toBe(SIZE);
  });

  test.each(['write()', 'a transfer'])(
    'from one stream, and %s before: no transfer waits for one behind it',
    async (between) => {
      const { sink: source, peer } = await link();
      const sent = file();
      const results: Promise<TransferResult>[] = [];
      const wire = await wireOf((_request, response) => {
        const target = path.join(scratchFolder(), 'sink');
        results.push(transfer(source, target, { length: 3 }));
        if (between !== 'write()') {
          const options = { backend, endSink: false };
          results.push(openingLater(() => transfer(sent.path, response, options)));
        }
        results.push(transfer(source, response, { length: 4 }));
        if (between === 'write()') response.write(sent.content);
        results.push(transfer(source, response, { length: 5, endSink: false }));
        setTimeout(() => peer.write('123456789abc'), 20);
      });
      const { body, whole } = answerOf(wire);
      expectSame(body, Buffer.concat([sent.content, Buffer.from('456789abc')]));
      expect(whole).toBe(true);
      await Promise.all(results);
    },
  );
});

test('a file that is not there: the headers have not gone, and the answer can be 404', async () => {
  const errors: TransferError[] = [];
  const wire = await wireOf(async (_request, response) => {
    response.setHeader('X-Kept', 'yes');
    const error: TransferError = await transfer('/nowhere', response).catch((error) => error);
    errors.push(error);
    if (response.headersSent) return response.destroy();
    response.statusCode = 404;
    response.end('not here');
  });
  expect(errors).toMatchObject([{ code: 'ENOENT', syscall: 'open', transferred: 0 }]);
  const { head, body } = answerOf(wire);
  expect(head).toMatch(/^HTTP\/1\.1 404 Not Found\r\nX-Kept: yes/);
  expect(body.toString()).toBe('not here');
});

test.each([
  ['HEAD', 'HEAD / HTTP/1.1\r\nHost: h\r\n\r\n', 200],
  ['204', get(), 204],
  ['304', get(), 304],
])('%s: no body, and no native way', async (_name, request, status) => {
  const file = testFile(SIZE);
  const outcomes: unknown[] = [];
  const wire = await wireOf(async (_request, response) => {
    response.statusCode = status;
    response.setHeader('Connection', 'close');
    response.setHeader('Content-Length', SIZE);
    const refused = transfer(file.path, response, { backend: 'native' });
    outcomes.push(await refused.catch((error) => error));
    outcomes.push(await transfer(file.path, response).catch((error) => error));
  }, request);
  expect(wire.indexOf('\r\n\r\n')).toBe(wire.length - 4);
  expect(outcomes).toMatchObject([
    { code: 'ERR_NOT_NATIVE', cause: { code: 'NO_BODY' }, transferred: 0 },
    { transferred: SIZE, backend: 'stream', fallback: { code: 'NO_BODY', at: 0 } },
  ]);
});

test("strictContentLength, and a write of the response's own: refused natively", async () => {
  const file = testFile(SIZE);
  const codes: unknown[] = [];
  const wire = await wireOf(async (_request, response) => {
    const refused = () =>
      transfer(file.path, response, { backend: 'native' }).catch((error) => {
        codes.push(error.code, error.cause.code);
      });
    response.strictContentLength = true;
    await refused();
    response.strictContentLength = false;
    const { write } = response;
    response.write = ((chunk: Buffer) => write.call(response, chunk, 'latin1')) as typeof write;
    await refused();
    response.write = write;
    await transfer(file.path, response, { backend: 'native' });
  });
  expect(codes).toEqual(['ERR_NOT_NATIVE', 'STRICT_LENGTH', 'ERR_NOT_NATIVE', 'SINK_OVERRIDDEN']);
  expectSame(answerOf(wire).body, file.content);
});

test('pipelined: three answers, each by transfer(), in order', async () => {
  const files = [testFile(3_000_000), testFile(100), testFile(300_000)];
  const results: Promise<TransferResult>[] = [];
  const wire = await wireOf(
    (request, response) => {
      const number = Number(request.url?.slice(1));
      if (number === 2) response.setHeader('Connection', 'close');
      results.push(transfer(files[number]?.path ?? '', response, { backend: 'native' }));
    },
    get('/0') + get('/1') + get('/2'),
  );
  const answers = answersOf(wire);
  expect(answers).toHaveLength(3);
  for (const [i, { body, whole }] of answers.entries()) {
    expect(whole).toBe(true);
    expectSame(body, files[i]?.content ?? Buffer.alloc(0));
  }
  expect((await Promise.all(results)).map(({ transferred }) => transferred)).toEqual([
    3_000_000, 100, 300_000,
  ]);
});

test('ServerResponse and ClientRequest: ended after the last byte', async () => {
  const file = testFile(SIZE);
  const results: TransferResult[] = [];
  const { address } = await serve(async (request, response) => {
    const body = await receive(request);
    response.setHeader('Content-Length', body.length + 4);
    response.write('seen');
    const upload = path.join(scratchFolder(), 'upload');
    fs.writeFileSync(upload, body);
    results.push(await transfer(upload, response));
  });
  const request = http.request({ ...requestTo(address), method: 'POST' });
  const answered = once(request, 'response') as Promise<[http.IncomingMessage]>;
  expect(await transfer(file.path, request)).toEqual(sendfile(SIZE));
  const [answer] = await answered;
  const body = await receive(answer);
  expect(body.subarray(0, 4).toString()).toBe('seen');
  expectSame(body.subarray(4), file.content);
  // The receiver may know of the last byte before the sender does.
  await until(() => results.length > 0, 'the answer has been told of');
  expect(results).toEqual([sendfile(SIZE)]);
});
