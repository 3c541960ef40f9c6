// The same scenario by fs.createReadStream, by ours, and by ours without the addon: what could be
// seen of it must be equal.
import { createHash } from 'node:crypto';
import type { EventEmitter } from 'node:events';
import * as fs from 'node:fs';
import * as http from 'node:http';
import { createRequire } from 'node:module';
import * as net from 'node:net';
import * as path from 'node:path';
import type { Writable } from 'node:stream';
import { expect, onTestFinished } from 'vitest';
import { type Backend, createReadStream, type ReadStream } from 'zerocopy';
import { pattern, type TestFile, testFile } from './files';
import { until } from './process';
import { link, listen, listenOnPort, receive, receiveBytes } from './sockets';

export type Options = Parameters<typeof fs.createReadStream>[1];
export type Create = (path: fs.PathLike, options?: Options) => fs.ReadStream;
export type Way = 'fs' | 'native' | 'ordinary';
export const ways: Way[] = ['fs', 'native', 'ordinary'];

const creators: Record<Way, Create> = {
  fs: fs.createReadStream,
  native: createReadStream,
  ordinary: withoutAddon(),
};

/** Ours, from a second copy of the library that was told not to load its addon. */
function withoutAddon(): Create {
  const require = createRequire(import.meta.url);
  const { ZEROCOPY_BACKEND } = process.env;
  const before = { ...require.cache };
  const forget = () => {
    for (const name in require.cache) {
      if (name.startsWith(path.resolve('dist'))) delete require.cache[name];
    }
  };
  forget();
  process.env.ZEROCOPY_BACKEND = 'stream';
  try {
    return (require('../../dist/index.js') as { createReadStream: Create }).createReadStream;
  } finally {
    if (ZEROCOPY_BACKEND === undefined) delete process.env.ZEROCOPY_BACKEND;
    else process.env.ZEROCOPY_BACKEND = ZEROCOPY_BACKEND;
    forget();
    Object.assign(require.cache, before);
  }
}

/** What can be seen of a scenario. */
export interface Seen {
  /** Of each emitter, what it has emitted, in order. */
  events: Record<string, string[]>;
  facts: Record<string, unknown>;
}

/** One way through a scenario. */
export class Run {
  readonly way: Way;
  readonly create: Create;
  readonly seen: Seen = { events: {}, facts: {} };
  readonly #closing = new Map<EventEmitter, Promise<void>>();

  constructor(way: Way) {
    this.way = way;
    this.create = creators[way];
  }

  /** Creates a stream and records what it emits. */
  open(path: fs.PathLike, options?: Options, name = 'stream'): fs.ReadStream {
    const stream = this.create(path, options);
    const events = this.#eventsOf(name);
    const { autoClose, emitClose } = { ...(typeof options === 'object' && options) };
    if (autoClose !== false && emitClose !== false) this.#closing.set(stream, closed(stream));
    for (const event of ['open', 'ready', 'end', 'error', 'close']) {
      stream.on(event, (value?: unknown) => {
        const error = value instanceof Error ? ` ${JSON.stringify(errorFacts(value))}` : '';
        events.push(`${event}${error} ${stateOf(stream)}`);
      });
    }
    return stream;
  }

  /** Records what a sink emits. */
  watch<T extends EventEmitter>(sink: T, name = 'sink'): T {
    const events = this.#eventsOf(name);
    this.#closing.set(sink, closed(sink));
    for (const event of ['pipe', 'unpipe', 'prefinish', 'finish', 'end', 'error', 'close']) {
      sink.on(event, (value?: unknown) => {
        const error = value instanceof Error ? ` ${(value as NodeJS.ErrnoException).code}` : '';
        events.push(event + error);
      });
    }
    return sink;
  }

  /** Of an emitter that stays open. */
  leave(emitter: EventEmitter): void {
    this.#closing.delete(emitter);
  }

  /** Waits until all that has been opened and watched is closed, and has told so. */
  async settle(): Promise<void> {
    await Promise.all(this.#closing.values());
    await new Promise(setImmediate);
  }

  note(name: string, value: unknown): void {
    this.seen.facts[name] = value;
  }

  /** Notes bytes by what tells them from others. */
  noteBytes(name: string, bytes: Buffer, wanted: Buffer): void {
    this.note(name, { length: bytes.length, right: bytes.equals(wanted) });
  }

  /** Notes bytes of which nothing is known but that they are the same. */
  noteHash(name: string, bytes: Buffer): void {
    const sha1 = createHash('sha1').update(bytes).digest('hex');
    this.note(name, { length: bytes.length, sha1 });
  }

  #eventsOf(name: string): string[] {
    const events = this.seen.events[name] ?? [];
    this.seen.events[name] = events;
    return events;
  }
}

function stateOf(stream: fs.ReadStream): string {
  const { pending, destroyed, readableEnded, closed, bytesRead, readableEncoding } = stream;
  const words = { pending, destroyed, readableEnded, closed };
  const true_ = Object.entries(words).flatMap(([word, holds]) => (holds ? [word] : []));
  const bytes = readableEnded ? `${bytesRead} bytes` : '';
  return [`[${true_.join(' ')}]`, bytes, readableEncoding ?? ''].join(' ').trim();
}

export function errorFacts(error: unknown) {
  const { name, message, code, syscall, errno, path } = error as NodeJS.ErrnoException;
  return { name, message, code, syscall, errno, path };
}

/** How ours went: `null` where no byte did. */
export interface Went {
  backend: Backend | null;
  fallback?: string;
  /** It began natively. */
  midway?: true;
}

export const sendfile: Went = { backend: 'sendfile' };
export const nothing: Went = { backend: null };
export const switched: Went = { backend: 'stream', fallback: 'READERS', midway: true };
export const fellBack = (fallback: string): Went => ({ backend: 'stream', fallback });

/** Up to here resident bytes go by one read and one write. */
export const nativeWent = (bytes: number): Went =>
  bytes === 0 ? nothing : { backend: bytes <= 24 * 1024 ? 'read' : 'sendfile' };

/** How ours goes natively where it can, without the addon. */
export function wentOf(stream: fs.ReadStream): Went {
  const { backend, fallback } = stream as ReadStream;
  return {
    backend: backend ?? null,
    ...(fallback && { fallback: fallback.code }),
    ...(fallback && fallback.at > 0 && { midway: true }),
  };
}

export type Scenario = (run: Run) => Promise<fs.ReadStream>;

/** Runs a scenario in all ways; `unlike` changes what fs is seen to do where we mean to differ. */
export async function sameAsFs(
  scenario: Scenario,
  went: Went | 'either way',
  unlike: (seen: Seen) => void = () => {},
): Promise<void> {
  const original = new Run('fs');
  await scenario(original);
  await original.settle();
  unlike(original.seen);
  for (const way of ['native', 'ordinary'] as const) {
    const run = new Run(way);
    const stream = await scenario(run);
    await run.settle();
    expect(run.seen, `seen, ${way}`).toEqual(original.seen);
    if (went === 'either way') continue;
    if (way === 'native') expect(wentOf(stream), 'the way it went').toEqual(went);
    else if (went.backend !== null) expect(wentOf(stream)).toEqual(fellBack('DISABLED'));
  }
}

const closings = new WeakMap<EventEmitter, Promise<void>>();

/** Waits until a stream or socket has told that it is closed: `closed` is true before that. */
export async function closed(stream: EventEmitter & { closed?: boolean }): Promise<void> {
  const closing = closings.get(stream) ?? nextClose(stream);
  closings.set(stream, closing);
  await closing;
}

async function nextClose(stream: EventEmitter & { closed?: boolean }): Promise<void> {
  if (!stream.closed) await new Promise((resolve) => stream.once('close', resolve));
}

/** Descriptors of this process that are open for a file. */
export function descriptorsOf(path: string): number {
  return fs.readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return fs.readlinkSync(`/proc/self/fd/${fd}`) === fs.realpathSync(path);
    } catch {
      return false; // closed since: the one that lists them
    }
  }).length;
}

export const MIB = 1024 * 1024;

export interface Wire {
  sink: Writable;
  /** The other end, paused. */
  peer: net.Socket;
}

type ResponseKind = 'response' | 'chunked response' | 'HTTP/1.0 response' | 'HEAD response';
type RequestKind = 'request' | 'chunked request';
export type SinkKind = 'tcp' | 'unix' | ResponseKind | RequestKind;

/** A sink and its peer; the length of its body, where it is one of known length. */
export async function wireTo(kind: SinkKind, length: number, buffers?: number): Promise<Wire> {
  if (kind === 'tcp' || kind === 'unix') {
    const { sink, peer } = await link({ kind, ...(buffers && { buffers }) });
    sink.resume(); // or it would never see the peer's end
    return { sink, peer };
  }
  if (kind === 'request' || kind === 'chunked request') return requestTo(kind, length);
  return responseTo(kind, length);
}

async function responseTo(kind: ResponseKind, length: number): Promise<Wire> {
  const responses: http.ServerResponse[] = [];
  const server = http.createServer((_request, response) => responses.push(response));
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  const peer = net.connect(await listenOnPort(server), '127.0.0.1');
  onTestFinished(() => {
    peer.destroy();
  });
  peer.pause();
  const version = kind === 'HTTP/1.0 response' ? '1.0' : '1.1';
  const method = kind === 'HEAD response' ? 'HEAD' : 'GET';
  peer.write(`${method} / HTTP/${version}\r\nHost: x\r\nConnection: close\r\n\r\n`);
  await until(() => responses.length > 0, 'the request has arrived');
  const [sink] = responses as [http.ServerResponse];
  sink.setHeader('X-Test', 'yes');
  if (kind === 'response') sink.setHeader('Content-Length', length);
  return { sink, peer };
}

async function requestTo(kind: RequestKind, length: number): Promise<Wire> {
  const sockets: net.Socket[] = [];
  const { address } = await listen('tcp', (socket) => sockets.push(socket.pause()));
  const body = kind === 'request' ? { 'Content-Length': length } : {};
  const sink = http.request({
    ...(address as { host: string; port: number }),
    method: 'PUT',
    path: '/file',
    headers: { Host: 'x', ...body },
    agent: false,
  });
  sink.on('response', (response) => response.resume());
  onTestFinished(() => {
    sink.destroy();
  });
  await until(() => sockets.length > 0, 'the client has connected');
  const [peer] = sockets as [net.Socket];
  onTestFinished(() => {
    peer.destroy();
  });
  sink.once('finish', () => peer.end('HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n'));
  return { sink, peer };
}

/** All that a peer gets, without the one header that differs between runs. */
export async function wholeWire(peer: net.Socket): Promise<Buffer> {
  const bytes = await receive(peer);
  const end = bytes.indexOf('\r\n\r\n');
  const head = bytes.subarray(0, Math.max(0, end)).toString('latin1');
  if (!/^(HTTP|PUT|GET)/.test(head)) return bytes;
  const dateless = head.replace(/\r\nDate: [^\r]*/, '');
  return Buffer.concat([Buffer.from(dateless, 'latin1'), bytes.subarray(end)]);
}

/** What is left of a file of which `taken` bytes have arrived at a peer that reads no more. */
export interface Stuck extends Wire {
  sink: net.Socket;
  file: TestFile;
  stream: fs.ReadStream;
  taken: Buffer;
}

export const LARGE = 3 * MIB + 1;

/** A stream that is stuck half-way to a socket. `send` has it read. */
export async function stuckHalfWay(
  run: Run,
  options: Options = {},
  send: (stream: fs.ReadStream, sink: net.Socket) => void = (stream, sink) => stream.pipe(sink),
  kind: 'tcp' | 'unix' = 'unix',
  file: TestFile = testFile(LARGE),
): Promise<Stuck> {
  const { sink, peer } = (await wireTo(kind, LARGE, kind === 'unix' ? 4096 : 65_536)) as Wire & {
    sink: net.Socket;
  };
  run.watch(sink);
  const stream = run.open(file.path, options);
  send(stream, sink);
  const taken = await receiveBytes(peer, 300_000);
  return { sink, peer, file, stream, taken };
}

/** All that a peer gets, with what it has taken before; until it is ended or reset. */
export async function wholeOf({ taken, peer }: Stuck): Promise<Buffer> {
  const chunks = [taken];
  try {
    for await (const chunk of peer) chunks.push(chunk as Buffer);
  } catch {} // reset: what has arrived by then counts
  return Buffer.concat(chunks);
}

/** Text of `length` bytes, each a character. */
export function asciiFile(length: number): TestFile {
  const file = testFile(0);
  const content = Buffer.from(pattern(length).map((byte) => 97 + (byte % 26)));
  fs.writeFileSync(file.path, content);
  return { path: file.path, content };
}
