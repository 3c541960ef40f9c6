// Connections that carry more than one answer, and how they end.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import * as http from 'node:http';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { createReadStream, type ReadStream, transfer } from 'zerocopy';
import { testFile } from './helpers/files';
import {
  answerOf,
  answersOf,
  connectTo,
  expectNative,
  expectSame,
  get,
  listenHttp,
  receiveAll,
  requestTo,
  sameOnTheWire,
  serve,
  stuckClient,
  warmUp,
} from './helpers/http';
import { openDescriptors, sleep, until, warningsOfNode } from './helpers/process';
import { receive } from './helpers/sockets';

beforeAll(warmUp);

const sha = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

/** The answer to a request, and which connection it came on. */
async function ask(options: http.RequestOptions) {
  const request = http.get(options);
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  const { localPort } = response.socket;
  return { localPort, response, body: await receive(response) };
}

test('1,000 answers on one connection', async () => {
  const files = [1, 1000, 30_000, 64 * 1024, 200_001].map((size) => testFile(size));
  const hashes = files.map(({ content }) => sha(content));
  const streams: ReadStream[] = [];
  let connections = 0;
  const { server, address } = await serve((request, response) => {
    const number = Number(request.url?.slice(1));
    const file = files[number % files.length];
    if (!file) return;
    if (number % 2 === 0) response.setHeader('Content-Length', file.content.length);
    const stream = createReadStream(file.path);
    streams.push(stream);
    stream.pipe(response);
  });
  server.on('connection', () => {
    connections += 1;
  });
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  onTestFinished(() => agent.destroy());
  const url = { ...requestTo(address), agent };
  await ask({ ...url, path: '/0' });
  const descriptors = openDescriptors();
  for (let i = 0; i < 1000; i++) {
    const { body } = await ask({ ...url, path: `/${i}` });
    expect(sha(body)).toBe(hashes[i % files.length]);
  }
  expect(connections).toBe(1);
  expect(streams).toHaveLength(1001);
  for (const stream of streams) expectNative(stream);
  await until(() => openDescriptors() === descriptors, 'descriptors are back');
});

test('three requests in one packet: answered in order, all of them natively', async () => {
  const sizes = [3_000_000, 100, 300_000];
  const files = sizes.map((size) => testFile(size));
  for (const known of [true, false]) {
    const { wire, streams } = await sameOnTheWire(
      (open, request, response) => {
        const file = files[Number(request.url?.slice(1))];
        if (!file) return;
        if (known) response.setHeader('Content-Length', file.content.length);
        open(file.path).pipe(response);
      },
      get('/0') + get('/1') + get('/2'),
      { requests: 3 },
    );
    expect(streams).toHaveLength(3);
    for (const stream of streams) expectNative(stream);
    const answers = answersOf(wire);
    expect(answers).toHaveLength(3);
    for (const [i, { body }] of answers.entries()) {
      expectSame(body, files[i]?.content ?? Buffer.alloc(0));
    }
  }
});

test('requests in one packet, whose handlers answer in reverse, with writes around', async () => {
  const files = [700_000, 50_000, 10].map((size) => testFile(size));
  const { wire, streams } = await sameOnTheWire(
    (open, request, response) => {
      const number = Number(request.url?.slice(1));
      const file = files[number];
      const answer = () => {
        response.write(`before ${number};`);
        const stream = open(file?.path ?? '');
        stream.on('end', () => response.end(`;after ${number}`));
        stream.pipe(response, { end: false });
      };
      setTimeout(answer, (2 - number) * 20);
    },
    get('/0') + get('/1') + get('/2'),
    { requests: 3 },
  );
  for (const stream of streams) expectNative(stream);
  for (const [i, { body, whole }] of answersOf(wire).entries()) {
    expect(whole).toBe(true);
    const content = files[i]?.content ?? Buffer.alloc(0);
    const wanted = [Buffer.from(`before ${i};`), content, Buffer.from(`;after ${i}`)];
    expectSame(body, Buffer.concat(wanted));
  }
});

test('a client that ends its side after the request gets the whole answer', async () => {
  const file = testFile(8_000_000);
  const streams: ReadStream[] = [];
  const { server, sink, peer } = await stuckClient((_request, response) => {
    const stream = createReadStream(file.path);
    streams.push(stream);
    response.setHeader('Content-Length', file.content.length);
    stream.pipe(response);
  });
  // As documented: without it Node ends the connection at once, as it stands.
  (server as http.Server & { httpAllowHalfOpen: boolean }).httpAllowHalfOpen = true;
  peer.end(get());
  await once(sink, 'end');
  const { body, whole } = answerOf(await receiveAll(peer));
  expect(whole).toBe(true);
  expectSame(body, file.content);
  expectNative(streams[0]);
});

test('by default Node ends its side at once, too: no byte is wrong, the file is closed', async () => {
  const file = testFile(8_000_000);
  const descriptors = openDescriptors();
  let stream: ReadStream | undefined;
  const { peer } = await stuckClient((_request, response) => {
    stream = createReadStream(file.path);
    response.setHeader('Content-Length', file.content.length);
    stream.pipe(response);
  });
  peer.end(get());
  // Whether anything had been queued by then is a matter of time.
  const { body = Buffer.alloc(0) } = answersOf(await receiveAll(peer))[0] ?? {};
  expectSame(body, file.content.subarray(0, body.length));
  await until(() => stream?.closed === true, 'the stream is closed');
  await until(() => openDescriptors() === descriptors + 1, "all but the server's are back");
});

test('an idle connection is closed after keepAliveTimeout, and not before', async () => {
  const file = testFile(500_000);
  const streams: ReadStream[] = [];
  const { server, address } = await serve(
    (_request, response) => {
      const stream = createReadStream(file.path);
      streams.push(stream);
      response.setHeader('Content-Length', file.content.length);
      stream.pipe(response);
    },
    { keepAliveTimeout: 300 },
  );
  const { sink, peer } = await connectTo(server, address);
  let ended = 0;
  const closed = once(sink, 'close').then(() => performance.now());
  peer.on('data', (chunk) => {
    ended += chunk.length;
  });
  peer.resume();
  peer.write(get());
  await until(() => ended > file.content.length, 'the first answer is there');
  peer.write(get());
  await until(() => ended > 2 * file.content.length, 'the second answer is there');
  const answered = performance.now();
  // Newer releases of Node add a second of grace.
  const waited = (await closed) - answered;
  expect(waited).toBeGreaterThan(250);
  expect(waited).toBeLessThan(3000);
  for (const stream of streams) expectNative(stream);
});

test('an Expect: 100-continue that checkContinue answers with a file', async () => {
  const file = testFile(200_000);
  const request = ['POST / HTTP/1.1', 'Host: h', 'Expect: 100-continue', 'Content-Length: 0'];
  const server = http.createServer();
  const streams: ReadStream[] = [];
  server.on('checkContinue', (_request, response: http.ServerResponse) => {
    response.writeContinue();
    response.setHeader('Content-Length', file.content.length);
    response.setHeader('Connection', 'close');
    const stream = createReadStream(file.path);
    streams.push(stream);
    stream.pipe(response);
  });
  const { address } = await listenHttp(server);
  const { peer } = await connectTo(server, address);
  peer.write(`${request.join('\r\n')}\r\n\r\n`);
  const [first, second, ...more] = answersOf(await receiveAll(peer));
  expect(first?.head).toBe('HTTP/1.1 100 Continue');
  expectSame(second?.body ?? Buffer.alloc(0), file.content);
  expect(more).toEqual([]);
  expectNative(streams[0]);
});

test('early hints and processing before the answer', async () => {
  const file = testFile(200_000);
  const { wire, streams } = await sameOnTheWire((open, _request, response) => {
    response.writeProcessing();
    response.writeEarlyHints({ link: '</a.css>; rel=preload' });
    open(file.path).pipe(response);
  }, get());
  expectNative(streams[0]);
  const answers = answersOf(wire);
  expect(answers.map(({ head }) => head.slice(9, 12))).toEqual(['102', '103', '200']);
  expectSame(answers[2]?.body ?? Buffer.alloc(0), file.content);
});

/** Each answers with a file: what waits for its turn has no bytes that Node would count. */
const ways: [string, (file: string, response: http.ServerResponse) => unknown][] = [
  ['createReadStream().pipe()', (file, response) => createReadStream(file).pipe(response)],
  ['transfer(), natively', (file, response) => transfer(file, response, { backend: 'native' })],
  ['transfer(), by streams', (file, response) => transfer(file, response, { backend: 'stream' })],
];

describe.each(ways)('%s', (_way, answer) => {
  test('5,000 requests whose answers nobody reads: most of them are left unread', async () => {
    const REQUESTS = 5_000;
    const file = testFile(1000);
    const warnings = warningsOfNode();
    let asked = 0;
    const errors: unknown[] = [];
    const { peer } = await stuckClient((_request, response) => {
      asked += 1;
      response.setHeader('Content-Length', file.content.length);
      const sent = answer(file.path, response);
      if (sent instanceof Promise) sent.catch((error) => errors.push(error));
    });
    const descriptors = openDescriptors();
    peer.write(get().repeat(REQUESTS));
    let before: number;
    do {
      before = asked;
      await sleep(200);
    } while (asked > before);
    // What Node has read at once, or before the first answers had come to wait, has been asked.
    expect(asked).toBeGreaterThan(100);
    expect(asked).toBeLessThan(REQUESTS / 2);
    expect(openDescriptors() - descriptors).toBeLessThanOrEqual(asked);

    let received = 0;
    const head = /HTTP\/1.1 200 OK/g;
    peer.on('data', (chunk: Buffer) => {
      received += chunk.toString('latin1').match(head)?.length ?? 0;
    });
    peer.resume();
    // A head may lie across two chunks.
    await until(() => received > REQUESTS * 0.9 && asked === REQUESTS, 'all is answered', 30_000);
    await until(() => openDescriptors() === descriptors, 'descriptors are back');
    expect({ warnings, errors }).toEqual({ warnings: [], errors: [] });
  });
});
