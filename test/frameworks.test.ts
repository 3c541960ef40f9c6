// Unmodified apps serve the same with `--import zerocopy/register` as without it, and natively.
import * as fs from 'node:fs';
import * as http from 'node:http';
import * as path from 'node:path';
import { brotliDecompressSync, gunzipSync, inflateSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { sha256 } from './helpers/files';
import {
  type Answer,
  comparable,
  curl,
  makeSite,
  request,
  SECRET,
  type Served,
  type Server,
  type Site,
  sizes,
  startServer,
} from './helpers/servers';

let site: Site;
beforeAll(() => {
  site = makeSite();
  return site.remove;
});

const contentOf = (name: string) => site.files.get(name) ?? Buffer.from('no such file');
const BIG = `${3 * 1024 * 1024}.bin`;
const MIDDLE = `${64 * 1024 + 1}.bin`;

/** The app with register, and the same without. */
function servers(program: string, mode: string[] = []): { ours: Server; nodes: Server } {
  const both = {} as { ours: Server; nodes: Server };
  beforeAll(async () => {
    both.ours = await startServer(program, [site.root, ...mode]);
    both.nodes = await startServer(program, [site.root, ...mode], { register: false });
    // serve-handler reads a file once more, when it is first asked for it, for its ETag.
    for (const name of site.files.keys()) await ask(both, `/${name}`, { method: 'HEAD' });
  });
  afterAll(() => both.ours.stop());
  afterAll(() => both.nodes.stop());
  return both;
}

/** The answer of the app with register, which must be that without, and the streams it came by. */
async function ask(
  { ours, nodes }: { ours: Server; nodes: Server },
  url: string,
  options: Parameters<typeof request>[2] = {},
): Promise<Answer & { streams: Served[] }> {
  const answer = await request(ours, url, options);
  expect(comparable(answer)).toEqual(comparable(await request(nodes, url, options)));
  const streams = await ours.streams();
  for (const { backend } of await nodes.streams()) expect(backend).toBeUndefined();
  return { ...answer, streams };
}

/** Of an answer with a body: that it came by one stream, natively. */
function expectNative(streams: Served[], bytes: number) {
  expect(streams).toHaveLength(1);
  const [stream] = streams;
  expect(stream?.bytesRead).toBe(bytes);
  if (bytes === 0) return;
  expect(stream?.fallback).toBeUndefined();
  expect(stream?.backend).toBe(bytes <= 24 * 1024 ? 'read' : 'sendfile');
}

interface App {
  name: string;
  program: string;
  mode?: string[];
  /** Paths below which the files are. */
  prefixes?: string[];
  /** What it answers without a body when the client has the file, and what it does of ranges. */
  notModified: { etag: boolean; date: boolean };
  ranges: { answers: boolean; ifRange: boolean };
  /** What its ranges are wrong about. */
  misses?: string[];
}

const likeSend = {
  notModified: { etag: true, date: true },
  ranges: { answers: true, ifRange: true },
};
const likeSirv = {
  notModified: { etag: true, date: false },
  ranges: { answers: true, ifRange: false },
  misses: ['bytes=-100', 'bytes=0-0'],
};

const apps: App[] = [
  { name: 'express', program: 'express.mjs', prefixes: ['/', '/file/', '/download/'], ...likeSend },
  { name: 'express with a session and cookies', program: 'express-session.mjs', ...likeSend },
  { name: 'fastify', program: 'fastify.mjs', prefixes: ['/', '/file/', '/download/'], ...likeSend },
  {
    name: 'koa-send',
    program: 'koa.mjs',
    notModified: { etag: false, date: false },
    ranges: { answers: false, ifRange: false },
  },
  { name: 'sirv', program: 'sirv.mjs', ...likeSirv },
  { name: 'sirv in dev mode', program: 'sirv.mjs', mode: ['dev'], ...likeSirv },
  {
    name: 'serve-handler',
    program: 'serve-handler.mjs',
    notModified: { etag: true, date: false },
    ranges: { answers: true, ifRange: false },
  },
  { name: 'send', program: 'send.mjs', ...likeSend },
];

describe.each(apps)(
  '$name',
  ({ program, mode, prefixes = ['/'], misses = [], notModified, ranges }) => {
    const both = servers(program, mode);

    describe.each(prefixes)('%s', (prefix) => {
      test.each(sizes)('a whole file of %i bytes', async (size) => {
        const content = contentOf(`${size}.bin`);
        const { status, headers, body, streams } = await ask(both, `${prefix}${size}.bin`);
        expect(status).toBe(200);
        expect(headers['content-length']).toBe(String(size));
        expect(sha256(body)).toBe(sha256(content));
        expectNative(streams, size);
      });

      test.each([
        ['bytes=0-0', 0, 1],
        ['bytes=10-99', 10, 100],
        ['bytes=-100', 65_437, 65_537],
        ['bytes=5-', 5, 65_537],
        ['bytes=65000-99999', 65_000, 65_537],
      ])('the range %s', async (range, start, end) => {
        const { status, headers, body, streams } = await ask(both, `${prefix}${MIDDLE}`, {
          headers: { range },
        });
        const content = contentOf(MIDDLE);
        if (!ranges.answers) {
          expect({ status, hash: sha256(body) }).toEqual({ status: 200, hash: sha256(content) });
        } else if (!misses.includes(range)) {
          const part = sha256(content.subarray(start, end));
          expect({ status, hash: sha256(body) }).toEqual({ status: 206, hash: part });
          expect(headers['content-range']).toBe(`bytes ${start}-${end - 1}/${content.length}`);
        }
        expectNative(streams, body.length);
      });

      test('a range that lies behind the end, and one that is none', async () => {
        const beyond = await ask(both, `${prefix}${MIDDLE}`, {
          headers: { range: 'bytes=70000-' },
        });
        expect(beyond.status).toBe(ranges.answers ? 416 : 200);
        await ask(both, `${prefix}${MIDDLE}`, { headers: { range: 'lines=1-2' } });
      });

      test('two ranges at once', async () => {
        const headers = { range: 'bytes=0-9,100-119' };
        const { body, streams } = await ask(both, `${prefix}${MIDDLE}`, { headers });
        expectNative(streams, body.length);
      });

      test('what the client has already', async () => {
        const url = `${prefix}${MIDDLE}`;
        const { headers } = await ask(both, url);
        const { etag, 'last-modified': date } = headers;
        if (notModified.etag) {
          const known = await ask(both, url, { headers: { 'if-none-match': etag } });
          expect(known).toMatchObject({ status: 304, streams: [] });
          expect(known.body).toHaveLength(0);
        }
        const other = await ask(both, url, { headers: { 'if-none-match': '"other"' } });
        expect(sha256(other.body)).toBe(sha256(contentOf(MIDDLE)));
        expectNative(other.streams, other.body.length);

        if (date === undefined) return expect(notModified.date).toBe(false);
        const since = await ask(both, url, { headers: { 'if-modified-since': date } });
        expect(since.status).toBe(notModified.date ? 304 : 200);
        if (!notModified.date) expectNative(since.streams, contentOf(MIDDLE).length);
      });

      test('If-Range', async () => {
        const url = `${prefix}${MIDDLE}`;
        const { headers } = await ask(both, url);
        const range = 'bytes=10-40000';
        const whole = { status: 200, hash: sha256(contentOf(MIDDLE)) };
        const part = { status: 206, hash: sha256(contentOf(MIDDLE).subarray(10, 40_001)) };
        const of = async (validator: string) => {
          const options = { headers: { range, 'if-range': validator } };
          const { status, body, streams } = await ask(both, url, options);
          expectNative(streams, body.length);
          return { status, hash: sha256(body) };
        };
        const date = headers['last-modified'] ?? 'Thu, 01 Jan 2026 00:00:00 GMT';
        expect(await of(date)).toEqual(ranges.answers ? part : whole);
        expect(await of('"other"')).toEqual(ranges.answers && !ranges.ifRange ? part : whole);
      });

      test.each(sizes)('HEAD of %i bytes', async (size) => {
        const options = { method: 'HEAD' };
        const { status, headers, body, streams } = await ask(both, `${prefix}${size}.bin`, options);
        expect({ status, length: headers['content-length'] }).toEqual({
          status: 200,
          length: String(size),
        });
        expect(body).toHaveLength(0);
        // Some read the file, and have Node drop what they write.
        const reasons = streams.filter(({ bytesRead }) => bytesRead > 0);
        for (const { fallback } of reasons) expect(fallback?.code).toBe('NO_BODY');
      });

      test.each([
        'missing.bin',
        'deep/missing/file',
        '../secret',
        '../../../../../../../../../etc/passwd',
        '%2e%2e/secret',
        '%2e%2e%2fsecret',
        '..%2f..%2f..%2f..%2f..%2fetc%2fpasswd',
        '..%5csecret',
        '%00',
        '%ff%fe',
      ])('%s is refused as before', async (name) => {
        const { status, body, streams } = await ask(both, prefix + name);
        expect(status).toBeGreaterThanOrEqual(400);
        expect(body.toString()).not.toContain(SECRET);
        expect(body.toString()).not.toContain('root:x:0:0');
        expect(streams).toEqual([]);
      });
    });

    test('by fetch, all at once', async () => {
      const names = [...site.files.keys(), ...site.files.keys()];
      const got = await Promise.all(
        names.map(async (name) => {
          const response = await fetch(`${both.ours.origin}/${name}`);
          return [response.status, name, sha256(Buffer.from(await response.arrayBuffer()))];
        }),
      );
      expect(got).toEqual(names.map((name) => [200, name, sha256(contentOf(name))]));
      const streams = (await both.ours.streams()).filter(({ bytesRead }) => bytesRead > 0);
      expect(streams).toHaveLength(names.length - 2); // without the empty ones
      for (const { backend } of streams) expect(['read', 'sendfile']).toContain(backend);
    });

    test('by one connection, one after the other', async () => {
      const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
      const ports = new Set<number>();
      agent.on('free', (socket) => ports.add(socket.localPort));
      for (let round = 0; round < 4; round++) {
        for (const [name, content] of site.files) {
          const { status, body } = await request(both.ours, `/${name}`, { agent });
          expect({ status, hash: sha256(body) }).toEqual({ status: 200, hash: sha256(content) });
        }
      }
      agent.destroy();
      expect(ports.size).toBe(1);
      const streams = (await both.ours.streams()).filter(({ bytesRead }) => bytesRead > 0);
      expect(streams).toHaveLength(4 * (sizes.length - 1));
      for (const { backend } of streams) expect(['read', 'sendfile']).toContain(backend);
    });

    test('by curl: several URLs on one connection', async () => {
      const urls = [...site.files.keys()].map((name) => `${both.ours.origin}/${name}`);
      const got = await curl('--fail', ...urls);
      expect(sha256(got)).toBe(sha256(Buffer.concat([...site.files.values()])));
      const connects = await curl('--fail', '-w', '\n%{num_connects} %{http_code}\n', ...urls);
      const ends = connects.toString('latin1').match(/\n[01] [0-9]{3}\n/g);
      expect(ends).toEqual(urls.map((_, i) => (i === 0 ? '\n1 200\n' : '\n0 200\n')));
      const streams = (await both.ours.streams()).filter(({ bytesRead }) => bytesRead > 0);
      expect(streams).toHaveLength(2 * (sizes.length - 1));
      for (const { backend } of streams) expect(['read', 'sendfile']).toContain(backend);
    });

    test('by curl: -I, --range, and both with a whole file on one connection', async () => {
      const url = `${both.ours.origin}/${BIG}`;
      const head = (await curl('-I', url)).toString('latin1');
      expect(head).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
      expect(head).toMatch(new RegExp(`^content-length: ${3 * 1024 * 1024}\r$`, 'im'));
      const range = ranges.answers ? contentOf(BIG).subarray(10, 2_000_000) : contentOf(BIG);
      expect(sha256(await curl('--range', '10-1999999', url))).toBe(sha256(range));
      const all = await curl('-I', url, '--next', '--range', '10-1999999', url, '--next', url);
      const bodies = all.subarray(all.indexOf('\r\n\r\n') + 4);
      expect(sha256(bodies)).toBe(sha256(Buffer.concat([range, contentOf(BIG)])));
      const native = (await both.ours.streams()).filter(({ backend }) => backend === 'sendfile');
      expect(native).toHaveLength(3);
    });
  },
);

describe('express with a session and cookies', () => {
  const both = servers('express-session.mjs');

  test('the cookies come with a body that went natively', async () => {
    const first = await request(both.ours, `/${MIDDLE}`);
    const cookies = first.headers['set-cookie'] ?? [];
    expect(cookies.map((cookie) => cookie.split('=')[0])).toEqual(['views', 'sid']);
    const sid = cookies[1]?.split(';')[0];
    const second = await request(both.ours, `/${MIDDLE}`, { headers: { cookie: sid } });
    expect(second.headers['set-cookie']).toEqual(['views=2; Path=/']);
    for (const { body } of [first, second]) expect(sha256(body)).toBe(sha256(contentOf(MIDDLE)));
    const streams = await both.ours.streams();
    expect(streams.map(({ backend }) => backend)).toEqual(['sendfile', 'sendfile']);
  });
});

describe('express with compression', () => {
  const both = servers('express-compression.mjs');
  const decoders = {
    gzip: gunzipSync,
    deflate: inflateSync,
    br: brotliDecompressSync,
    identity: (body: Buffer) => body,
  };
  const text = (size: number) => Buffer.alloc(size, 'What is sent again and again, shrinks. ');
  const textSizes = [1000, 64 * 1024 + 1, 3 * 1024 * 1024];
  beforeAll(() => {
    for (const size of textSizes) fs.writeFileSync(path.join(site.root, `${size}.txt`), text(size));
  });

  test.each(Object.entries(decoders))('%s', async (encoding, decode) => {
    for (const size of textSizes) {
      const { status, headers, body, streams } = await ask(both, `/${size}.txt`, {
        headers: { 'accept-encoding': encoding },
      });
      expect(status).toBe(200);
      const compressed = encoding !== 'identity' && size >= 1024;
      expect(headers['content-encoding']).toBe(compressed ? encoding : undefined);
      expect(sha256(compressed ? decode(body) : body)).toBe(sha256(text(size)));
      expect(streams).toMatchObject([
        { bytesRead: size, backend: 'stream', fallback: { code: 'SINK_OVERRIDDEN', at: 0 } },
      ]);
    }
  });
});
