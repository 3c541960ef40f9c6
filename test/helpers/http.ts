// HTTP servers, and what goes over their wires.
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as http from 'node:http';
import * as net from 'node:net';
import { expect } from 'vitest';
import { createReadStream, type FallbackCode, type ReadStream, transfer } from 'zerocopy';
import { withResolvers } from './process';
import { onTestFinished } from './scope';
import {
  type Address,
  type Link,
  listenOn,
  listenOnPort,
  type SocketKind,
  shrink,
} from './sockets';

type Options = Exclude<Parameters<typeof fs.createReadStream>[1], string>;
/** fs.createReadStream, or what stands in for it. */
export type Open = (file: string, options?: Options) => fs.ReadStream;
type Response = http.ServerResponse<http.IncomingMessage>;
export type Handler = (open: Open, request: http.IncomingMessage, response: Response) => void;

/** A server that goes with the test, on `kind`. */
export async function listenHttp(
  server: http.Server,
  kind: SocketKind = 'tcp',
): Promise<{ server: http.Server; address: Address }> {
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  return { server, address: await listenOn(server, kind) };
}

export const serve = (
  listener: http.RequestListener,
  options: http.ServerOptions & { kind?: SocketKind } = {},
) => listenHttp(http.createServer(options, listener), options.kind);

/** What http.request() calls such an address. */
export const requestTo = (address: Address) =>
  'path' in address ? { socketPath: address.path } : address;

/** Connects to a server; its end is `sink`, and the client's, paused, `peer`. */
export async function connectTo(
  server: http.Server,
  address: Address,
  buffers?: number,
): Promise<Link> {
  const accepted = once(server, 'connection') as Promise<[net.Socket]>;
  const peer = net.connect(address);
  peer.pause();
  peer.on('error', () => {});
  onTestFinished(() => {
    peer.destroy();
  });
  const [sink] = await accepted;
  if (peer.connecting) await once(peer, 'connect');
  if (buffers !== undefined) shrink({ sink, peer }, buffers);
  return { sink, peer };
}

/** A client that is stuck: over small buffers it reads nothing until it is told to. */
export async function stuckClient(
  listener: http.RequestListener,
  options: http.ServerOptions = {},
): Promise<Link & { server: http.Server }> {
  const { server, address } = await serve(listener, { ...options, kind: 'unix' });
  return { server, ...(await connectTo(server, address, 4096)) };
}

export const get = (target = '/', ...headers: string[]) =>
  [
    'GET ',
    target,
    ' HTTP/1.1\r\nHost: h\r\n',
    ...headers.map((line) => `${line}\r\n`),
    '\r\n',
  ].join('');

/** All that comes on a connection until it closes, in whatever way. */
export function receiveAll(socket: net.Socket): Promise<Buffer> {
  const { promise, resolve } = withResolvers<Buffer>();
  const chunks: Buffer[] = [];
  socket.on('error', () => {});
  socket.on('data', (chunk) => chunks.push(chunk));
  socket.once('close', () => resolve(Buffer.concat(chunks)));
  socket.resume();
  return promise;
}

export interface WireOptions extends http.ServerOptions {
  /** Requests on the connection, after whose answers the server ends it. */
  requests?: number;
}

async function overTheWire(
  open: Open,
  handler: Handler,
  request: string,
  { requests = 1, ...options }: WireOptions,
): Promise<Buffer> {
  let closed = 0;
  const { server, address } = await serve((request, response) => {
    const { socket } = request;
    response.once('close', () => {
      closed += 1;
      if (closed === requests) socket.end();
    });
    handler(open, request, response);
  }, options);
  const client = net.connect(address);
  const received = receiveAll(client);
  client.write(request);
  const bytes = await received;
  server.close();
  return Buffer.from(
    bytes.toString('latin1').replace(/\r\nDate: [^\r]*/g, '\r\nDate: then'),
    'latin1',
  );
}

/**
 * Answers a request with fs.createReadStream, and with the one under test: the same bytes must go
 * over the wire. Returns them, and the streams under test.
 */
export async function sameOnTheWire(
  handler: Handler,
  request: string,
  options: WireOptions = {},
): Promise<{ wire: Buffer; streams: ReadStream[] }> {
  const wanted = await overTheWire(
    (file, options) => fs.createReadStream(file, options),
    handler,
    request,
    options,
  );
  const streams: ReadStream[] = [];
  const open: Open = (file, options) => {
    const stream = createReadStream(file, options);
    streams.push(stream);
    return stream;
  };
  const wire = await overTheWire(open, handler, request, options);
  expectSame(wire, wanted);
  return { wire, streams };
}

/** Of large buffers: what they differ in. */
export function expectSame(bytes: Buffer, wanted: Buffer): void {
  if (bytes.equals(wanted)) return;
  let at = 0;
  while (bytes[at] === wanted[at]) at += 1;
  const excerpt = (of: Buffer) => ({
    length: of.length,
    [`at ${at}`]: of.subarray(Math.max(0, at - 100), at + 100).toString('latin1'),
  });
  expect(excerpt(bytes)).toEqual(excerpt(wanted));
}

export function expectNative(stream: ReadStream | undefined): void {
  expect(stream).toBeDefined();
  expect(stream?.fallback).toBeUndefined();
  expect(stream?.backend).toMatch(/^(sendfile|read)$/);
}

/** `at`: bytes that went natively before. */
export function expectFallback(stream: ReadStream | undefined, code: FallbackCode, at = 0): void {
  expect(stream?.fallback).toMatchObject({ code, at });
  expect(stream?.backend).toBe('stream');
}

export interface Answer {
  head: string;
  body: Buffer;
  /** What follows the chunks. */
  trailer?: string;
  /** Whether all of the body is there, as far as its head tells. */
  whole: boolean;
}

/**
 * The answers on a wire, one after the other. Fails on bytes that are no answer; of one that has been
 * cut off, the head too may be missing.
 */
export function answersOf(wire: Buffer, mayBeCut = false): Answer[] {
  const answers: Answer[] = [];
  for (let at = 0; at < wire.length; ) {
    const headEnd = wire.indexOf('\r\n\r\n', at);
    if (headEnd < 0 && mayBeCut) break;
    if (headEnd < 0) throw new Error('A head without an end');
    const head = wire.toString('latin1', at, headEnd);
    if (!head.startsWith('HTTP/1.1 ')) throw new Error(`No answer: ${head.slice(0, 100)}`);
    const from = headEnd + 4;
    const length = /^Content-Length: (\d+)/im.exec(head)?.[1];
    if (/^HTTP\/1.1 1\d\d /.test(head)) {
      answers.push({ head, body: Buffer.alloc(0), whole: true });
      at = from;
    } else if (/^Transfer-Encoding: chunked/im.test(head)) {
      const { end, ...chunked } = dechunk(wire, from);
      answers.push({ head, ...chunked });
      at = end;
    } else {
      const end = length === undefined ? wire.length : from + Number(length);
      answers.push({ head, body: wire.subarray(from, end), whole: end <= wire.length });
      at = Math.min(end, wire.length);
    }
  }
  return answers;
}

function dechunk(wire: Buffer, from: number) {
  const chunks: Buffer[] = [];
  let at = from;
  for (;;) {
    const lineEnd = wire.indexOf('\r\n', at);
    if (lineEnd < 0) break;
    const line = wire.toString('latin1', at, lineEnd);
    if (!/^[0-9a-f]+$/i.test(line)) throw new Error(`No size of a chunk: ${line.slice(0, 100)}`);
    const size = Number.parseInt(line, 16);
    const start = lineEnd + 2;
    if (size === 0) {
      const end = wire.indexOf('\r\n\r\n', lineEnd);
      if (end < 0) break;
      const trailer = wire.toString('latin1', start, Math.max(start, end));
      return { body: Buffer.concat(chunks), trailer, whole: true, end: end + 4 };
    }
    chunks.push(wire.subarray(start, start + size));
    at = start + size + 2;
    if (at > wire.length) break;
    if (wire.toString('latin1', at - 2, at) !== '\r\n') throw new Error('A chunk without an end');
  }
  return { body: Buffer.concat(chunks), whole: false, end: wire.length };
}

/** The one answer on a wire. */
export function answerOf(wire: Buffer): Answer {
  const answers = answersOf(wire);
  expect(answers).toHaveLength(1);
  return answers[0] as Answer;
}

/** The engine's own descriptors are opened with the first transfer: for tests that count them. */
export async function warmUp(): Promise<void> {
  const server = net.createServer((peer) => peer.resume());
  const sink = net.connect(await listenOnPort(server), '127.0.0.1');
  await transfer(process.execPath, sink, { length: 16 * 1024 * 1024, endSink: true });
  sink.resume();
  await once(sink, 'close');
  server.close();
  await once(server, 'close');
}
