// Every block of code of the pages is run, or told why it isn't.
import { execFile } from 'node:child_process';
import * as fs from 'node:fs';
import * as http from 'node:http';
import * as net from 'node:net';
import * as path from 'node:path';
import { PassThrough } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { expect, onTestFinished, test, vi } from 'vitest';
import { type ReadStream, type RelayResult, type TransferResult, transfer } from 'zerocopy';
import { complaintsOf, runBlock } from './helpers/blocks';
import { openFor, pattern, scratchFolder, testFile } from './helpers/files';
import { answerOf, expectNative, expectSame, get, receiveAll, serve } from './helpers/http';
import { type Block, pages } from './helpers/markdown';
import { until } from './helpers/process';
import { ends } from './helpers/relay';
import { fdOf, link, listenOnPort, receive, receiveBytes } from './helpers/sockets';
import { sourceLink } from './helpers/sources';

const MIB = 1024 * 1024;
const run = promisify(execFile);
const content = pattern(2 * MIB + 1);

/** Runs a block, or tells why it is not run. */
type Example = string | ((block: Block) => Promise<unknown>);

const examples: Record<string, Record<string, Example>> = {
  'README.md': {
    'npm install zerocopy': 'it is not there yet; test/package.test.ts installs what is packed',

    "import { createServer } from 'node:http';": async (block) => {
      const { listener, createServer } = listened();
      const { path: file, content } = testFile(MIB);
      const modules = { 'node:http': { ...http, createServer } };
      const { streams } = await runBlock(block, { modules, replaced: { '/srv/video.mp4': file } });
      expectSame((await download(await listener())).body, content);
      expect(streams).toHaveLength(1);
      expectNative(streams[0]);
    },

    'node --import zerocopy/register app.js': async ({ text }) => {
      expect(await serveOnce(text)).toEqual({ backend: 'sendfile', length: MIB });
    },

    "import { copyFile, relay, transfer } from 'zerocopy';": async (block) => {
      const log = testFile(100_000);
      const { path: file } = testFile(MIB);
      const { sink: socket, peer } = await link();
      const { source: upload, writer } = await sourceLink();
      const { a: client, aPeer, b: upstream, bPeer } = await ends();
      const [offset, length, header] = [5000, 50_000, Buffer.from('header')];
      const folder = scratchFolder();
      const to = (name: string) => path.join(folder, name);
      writer.write(content.subarray(0, length + 1));
      aPeer.end('there');
      bPeer.end('and back');
      const received = receive(peer);
      const atUpstream = receive(bPeer);
      const atClient = receive(aPeer);
      const { results } = await runBlock(block, {
        names: {
          ...{ socket, upload, client, upstream, file, header, offset, length },
          signal: new AbortController().signal,
        },
        replaced: {
          '/var/log/app.log': log.path,
          '/srv/upload': to('upload'),
          '/srv/disk.img': file,
          '/srv/copy.img': to('copy'),
        },
      });
      const ways = ['sendfile', 'sendfile', 'splice', 'splice', 'copy_file_range'];
      expect(results.map(({ backend }) => backend)).toEqual(ways);
      socket.end();
      const sent = [log.content.subarray(4096), header, content.subarray(offset, offset + length)];
      expectSame(await received, Buffer.concat(sent));
      expectSame(fs.readFileSync(to('upload')), content.subarray(0, length));
      expect([String(await atUpstream), String(await atClient)]).toEqual(['there', 'and back']);
      expectSame(fs.readFileSync(to('copy')), fs.readFileSync(file));
    },

    "const { transferred, backend, fallback } = await transfer('/srv/video.mp4', socket);": async (
      block,
    ) => {
      const log = vi.fn();
      const replaced = { '/srv/video.mp4': testFile(MIB).path };
      const socket = await discarding();
      const native = await runBlock(block, { names: { socket, console: { log } }, replaced });
      expectBackends(native.results, 'sendfile');
      expect(log).not.toHaveBeenCalled();
      const names = { socket: new PassThrough().resume(), console: { log } };
      expectBackends((await runBlock(block, { names, replaced })).results, 'stream');
      expect(log).toHaveBeenCalledWith(
        expect.stringMatching(/^1048576 bytes by streams: SINK_TYPE/),
      );
    },

    'npm ci && npm run demo': 'it installs, moves gigabytes and runs all tests',
  },

  'docs/api.md': {
    '// A frame of a protocol: its header from memory, its body from a file.': async (block) => {
      const { sink: socket, peer } = await link();
      const { path: file, content } = testFile(MIB);
      const header = Buffer.from('header');
      const onProgress = vi.fn();
      const received = receive(peer);
      const { signal } = new AbortController();
      const names = { header, file, socket, signal, onProgress };
      expectBackends((await runBlock(block, { names })).results, 'sendfile');
      socket.end();
      expectSame(await received, Buffer.concat([header, content.subarray(4096, 4096 + 65536)]));
      const total = header.length + 65536;
      await until(() => onProgress.mock.calls.length > 0, 'the end is told');
      expect(onProgress).toHaveBeenLastCalledWith({ transferred: total, total });
    },

    'createServer((request, response) => {': async (block) => {
      const { path: file, content } = testFile(MIB);
      for (const [name, status, body] of [
        [file, 200, content],
        [`${file}.not`, 404, Buffer.alloc(0)],
      ] as const) {
        const { listener, createServer } = listened();
        const { results } = await runBlock(block, { names: { createServer, file: name } });
        const answer = await download(await listener());
        expect(answer.head).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
        expectSame(answer.body, body);
        expectBackends(results, ...(status === 200 ? ['sendfile'] : []));
      }
    },

    'async function append(socket: Socket, log: number, position: number) {': async (block) => {
      const names = { readExactly: receiveBytes };
      const { values, results } = await runBlock(block, { names, declared: ['append'] });
      const append = values.append as (...args: unknown[]) => Promise<void>;
      const head = Buffer.alloc(8);
      head.writeUInt32BE(100_000, 4);
      const { path: log, content: before } = testFile(4096);
      const whole = await sourceLink();
      whole.writer.write(Buffer.concat([head, content.subarray(0, 100_000), Buffer.from('next')]));
      await append(whole.source, openFor(log, 'r+'), 4096);
      expectBackends(results, 'splice');
      expectSame(fs.readFileSync(log), Buffer.concat([before, content.subarray(0, 100_000)]));
      expect(String(await receiveBytes(whole.source, 4))).toBe('next');
      const half = await sourceLink();
      half.writer.end(Buffer.concat([head, content.subarray(0, 50_000)]));
      await expect(append(half.source, openFor(log, 'r+'), 0)).rejects.toThrow('has gone');
    },

    'const stream = createReadStream(file, { start: 4096 });': async (block) => {
      const { path: file, content } = testFile(MIB);
      const { sink: socket, peer } = await link();
      const log = vi.fn();
      const received = receive(peer);
      const { streams } = await runBlock(block, {
        names: { file, pipeline, socket, console: { log } },
      });
      expectSame(await received, content.subarray(4096));
      expectNative(streams[0]);
      expect(log).toHaveBeenCalledWith('sendfile', undefined);
    },

    "import 'zerocopy/register'; // first": async ({ text }) => {
      const proof = `
        import * as zerocopy from 'zerocopy';
        console.log(createReadStream === zerocopy.createReadStream);`;
      const cwd = project({ 'app.mjs': text + proof });
      expect((await run(process.execPath, ['app.mjs'], { cwd })).stdout).toBe('true\n');
    },

    "server.on('connect', async (request, client, head) => {": async (block) => {
      const { server, address } = await serve(() => {});
      const echo = net.createServer((socket) => socket.pipe(socket));
      onTestFinished(() => void echo.close());
      const port = await listenOnPort(echo);
      const hostOf = () => '127.0.0.1';
      const connect = (asked: number, host: string) => {
        expect(asked).toBe(443);
        return net.connect(port, host);
      };
      const { results } = await runBlock(block, { names: { server, connect, hostOf } });
      const client = net.connect(address as net.NetConnectOpts);
      const received = receiveAll(client);
      client.write('CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\nearly, and ');
      client.end('late');
      const [head, tunneled] = String(await received).split('\r\n\r\n');
      expect(head).toMatch(/^HTTP\/1.1 200 /);
      expect(tunneled).toBe('early, and late');
      await until(() => results.length > 0, 'the relay has ended');
      expect(results).toEqual([{ aToB: 15, bToA: 15, backend: 'splice' }]);
    },

    "const { transferred } = await copyFile('/srv/disk.img', '/srv/copy.img', {": async (block) => {
      const { path: file, content } = testFile(MIB);
      const log = vi.fn();
      const options = {
        names: { signal: new AbortController().signal, console: { log } },
        replaced: { '/srv/disk.img': file, '/srv/copy.img': `${file}.copy` },
      };
      expectBackends((await runBlock(block, options)).results, 'copy_file_range');
      expectSame(fs.readFileSync(`${file}.copy`), content);
      await until(() => log.mock.calls.length > 0, 'the end is told');
      expect(log).toHaveBeenLastCalledWith(`${MIB} of ${MIB}`);
      await expect(runBlock(block, options)).rejects.toMatchObject({ code: 'EEXIST' });
    },

    'const { readFd, writeFd } = await pipe();': async (block) => {
      const { path: file, content } = testFile(MIB);
      const { sink: socket, peer } = await link();
      const { values } = await runBlock(block, {
        names: { fileFd: openFor(file, 'r'), socketFd: fdOf(socket) },
        declared: ['readFd', 'writeFd', 'moved', 'sent'],
      });
      const { readFd, writeFd, moved, sent } = values as Record<string, number>;
      const page = Buffer.alloc(8192);
      const read = fs.readSync(readFd as number, page);
      for (const fd of [readFd, writeFd]) fs.closeSync(fd as number);
      expect([moved, read]).toEqual([4096, 4096]);
      expectSame(page.subarray(0, 4096), content.subarray(0, 4096));
      expect(sent).toBeGreaterThan(0);
      const arrived = await receiveBytes(peer, sent as number);
      expectSame(arrived, content.subarray(4096, 4096 + (sent as number)));
    },
  },

  'docs/files-in-flight.md': {
    "import { rename, writeFile } from 'node:fs/promises';": async (block) => {
      const { path: file, content: old } = testFile(4 * MIB);
      const { sink, peer } = await link({ buffers: 64 * 1024 });
      const sent = transfer(file, sink, { endSink: true });
      await until(() => sink.bytesWritten > 0, 'it is on its way');
      await runBlock(block, { names: { file, content } });
      expectSame(await receive(peer), old);
      expect(await sent).toEqual({ transferred: old.length, backend: 'sendfile' });
      expectSame(fs.readFileSync(file), content);
    },
  },

  'docs/operating.md': {
    'ZEROCOPY_BACKEND=stream node --import zerocopy/register app.js': async ({ text }) => {
      const code = 'DISABLED';
      expect(await serveOnce(text)).toEqual({ backend: 'stream', code, length: MIB });
    },

    "import { capabilities } from 'zerocopy';": async ({ text }) => {
      const cwd = project({ 'app.mjs': text });
      const start = (env: NodeJS.ProcessEnv) =>
        run(process.execPath, ['app.mjs'], { cwd, env: { ...process.env, ...env } });
      expect(await start({})).toEqual({ stdout: '', stderr: '' });
      await expect(start({ ZEROCOPY_BACKEND: 'stream' })).rejects.toThrow(
        /zerocopy goes by streams on \S+: ZEROCOPY_BACKEND=stream/,
      );
    },
  },

  'docs/why-not-native.md': {
    'try {': async (block) => {
      const log = vi.fn();
      const { path: file } = testFile(MIB);
      const names = { file, socket: await discarding(), console: { log } };
      expectBackends((await runBlock(block, { names })).results, 'sendfile');
      expect(log).not.toHaveBeenCalled();
      await runBlock(block, { names: { ...names, socket: new PassThrough() } });
      expect(log).toHaveBeenCalledWith('SINK_TYPE');
      const missing = runBlock(block, { names: { ...names, file: `${file}.not` } });
      await expect(missing).rejects.toMatchObject({ code: 'ENOENT' });
    },
  },

  'docs/how-it-works.md': {
    'transfer(source, sink)': 'a drawing',
  },

  'docs/bundlers.md': {
    'esbuild main.mjs --bundle --platform=node --external:zerocopy --outfile=out/main.cjs':
      'test/bundlers.test.ts runs it',
    'esbuild main.mjs --bundle --platform=node --outfile=out/app/main.cjs':
      'test/bundlers.test.ts runs it',
    '// webpack.config.cjs': 'test/bundlers.test.ts runs it',
  },

  'docs/observability.md': {
    "import { Counter, Gauge, register } from 'prom-client';":
      'test/observability-docs.test.ts runs it',
    "import { tracingChannel } from 'node:diagnostics_channel';":
      'test/observability-docs.test.ts runs it',
  },

  'CONTRIBUTING.md': {
    'native/   the engine in C++, and the Node-API edge: environment, binding': async ({
      text,
    }) => {
      for (const folder of text.match(/^\w+\//gm) ?? []) expect(fs.existsSync(folder)).toBe(true);
    },
    'CXXFLAGS=-g npx node-gyp rebuild': 'it compiles the addon anew and asks for a debugger',
  },

  'bench/README.md': {
    'npm run bench': 'it takes minutes',
    'npm run bench -- --json > results.json':
      'it takes minutes; test/bench-report.test.ts draws reports',
    'series: [{': async (block) => {
      const literal = { ...block, text: `const result = {\n${block.text}\n};` };
      const [median, min, max] = [2, 1, 3];
      const declared = ['result'];
      const { values } = await runBlock(literal, { names: { median, min, max }, declared });
      const { series } = values.result as { series: unknown[] };
      const { lines } = await import(pathToFileURL('bench/report/lines.mjs').href);
      expect(JSON.stringify(lines(series[0]))).toContain('by size');
    },
  },

  'examples/README.md': {
    'node examples/connect-proxy.mjs 8080 --verbose':
      'it goes to the internet; test/connect-proxy.test.ts runs the program',
    'npm run example:kafka': 'it is a server that goes on; test/kafka-log.test.ts runs the program',
  },
};

const blocks = pages().flatMap((page) => page.blocks);

for (const block of blocks) {
  const example = examples[block.page]?.[block.name];
  const title = `${block.page}:${block.line}: ${block.name}`;
  if (typeof example === 'string') test.skip(`${title} (not run: ${example})`, () => {});
  else test(title, () => example?.(block) ?? expect.unreachable('nobody runs this block'));
}

test('whatever runs a block in the place of these tests is there', () => {
  const reasons = Object.values(examples)
    .flatMap((of) => Object.values(of))
    .filter((example) => typeof example === 'string');
  const named = reasons.flatMap((reason) => reason.match(/\btest\/[\w-]+\.test\.ts/g) ?? []);
  expect(named.filter((file) => !fs.existsSync(file))).toEqual([]);
});

test('no example is of a block that is gone', () => {
  const names = Object.entries(examples).flatMap(([page, of]) =>
    Object.keys(of).map((name) => `${page}: ${name}`),
  );
  expect(names.toSorted()).toEqual(blocks.map(({ page, name }) => `${page}: ${name}`).toSorted());
});

test('every block of TypeScript compiles', () => {
  expect(complaintsOf(blocks.filter(({ language }) => language === 'ts'))).toEqual([]);
});

test('what is to be typed into a shell names scripts and programs that are there', () => {
  const { scripts } = JSON.parse(fs.readFileSync('package.json', 'utf8'));
  const commands = blocks
    .filter(({ language }) => language === 'sh')
    .flatMap(({ text }) => text.replaceAll(/#.*$/gm, '').split(/&&|\n/))
    .map((command) => command.trim().split(/\s+/));
  expect(commands.length).toBeGreaterThan(10);
  for (const [program, ...args] of commands) {
    const [first, second = ''] = args.filter((arg) => !arg.startsWith('--'));
    if (program === 'npm' && first === 'run') expect(scripts).toHaveProperty([second]);
    for (const file of args.filter((arg) => /\/.*\.m?js$/.test(arg))) {
      expect(fs.existsSync(file), file).toBe(true);
    }
  }
});

function expectBackends(results: (TransferResult | RelayResult)[], ...backends: string[]): void {
  expect(results.map(({ backend }) => backend)).toEqual(backends);
}

/** A socket whose other end reads, and forgets, all that comes. */
async function discarding(): Promise<net.Socket> {
  const { sink, peer } = await link();
  peer.resume();
  return sink;
}

/** What stands in for http.createServer: takes the listener, and has it served on a port that is free. */
function listened() {
  let given: http.RequestListener | undefined;
  const createServer = (listener: http.RequestListener) => {
    given = listener;
    return { listen: () => {} };
  };
  const listener = async () => (await serve(given as http.RequestListener)).address;
  return { createServer, listener };
}

async function download(address: Awaited<ReturnType<typeof serve>>['address']) {
  const client = net.connect(address as net.NetConnectOpts);
  const received = receiveAll(client);
  client.write(get('/', 'Connection: close'));
  return answerOf(await received);
}

/** A folder in which the package is installed. */
function project(files: Record<string, string>): string {
  const folder = scratchFolder();
  fs.mkdirSync(path.join(folder, 'node_modules'));
  fs.symlinkSync(path.resolve('.'), path.join(folder, 'node_modules/zerocopy'));
  for (const [name, text] of Object.entries(files)) {
    fs.writeFileSync(path.join(folder, name), text);
  }
  return folder;
}

/** Has a command run an app.js that serves a file by fs once, and tells how it went. */
async function serveOnce(command: string): Promise<Partial<ReadStream>> {
  const program = `
    const fs = require('node:fs');
    const http = require('node:http');
    let stream;
    const server = http.createServer((request, response) => {
      stream = fs.createReadStream('body');
      stream.pipe(response);
    });
    server.listen(0, '127.0.0.1', () => {
      http.get({ port: server.address().port, agent: false }, async (answer) => {
        let length = 0;
        for await (const chunk of answer) length += chunk.length;
        const { backend, fallback } = stream;
        console.log(JSON.stringify({ backend, code: fallback?.code, length }));
        server.close();
      });
    });`;
  const cwd = project({ 'app.js': program, body: 'x'.repeat(MIB) });
  const PATH = `${path.dirname(process.execPath)}:${process.env.PATH}`;
  const { stdout } = await run('sh', ['-c', command], { cwd, env: { ...process.env, PATH } });
  return JSON.parse(stdout);
}
