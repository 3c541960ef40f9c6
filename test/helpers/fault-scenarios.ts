// Transfers of every kind, each run again and again while system calls fail.
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as http from 'node:http';
import * as net from 'node:net';
import * as path from 'node:path';
import type { Readable, Writable } from 'node:stream';
import type { Fallback, ReadStream, RelayError, TransferError, TransferResult } from 'zerocopy';
import { pattern, scratchFolder, type TestFile, testFile } from './files';
import { type Observed, observe, zerocopy } from './seam';
import { listen, listenOnPort, type SocketKind } from './sockets';

const { transfer, relay, copyFile, createReadStream } = zerocopy;

/** A way from a source to a sink, and what each had in the end. */
export interface Way {
  sent: Buffer;
  arrived: Buffer;
  /**
   * Of a stream: what the error has brought back, and what it still had; undefined when it was
   * destroyed, as one is whose connection has failed.
   */
  left?: Buffer | undefined;
  /** As the transfer has it. */
  transferred: number | undefined;
}

export interface Ended extends Observed {
  ways: Way[];
  backend?: string | undefined;
  fallback?: Fallback | undefined;
  error?: NodeJS.ErrnoException | undefined;
}

/** `begin` is called when all is prepared. */
export type Run = (begin: () => void) => Promise<Ended>;

export interface Scenario {
  name: string;
  kind: 'send' | 'splice' | 'copy' | 'stream' | 'message';
  make(): Promise<Run> | Run;
}

type Settled = { result: TransferResult } | { error: TransferError };

const settled = (promise: Promise<TransferResult>): Promise<Settled> =>
  promise.then(
    (result) => ({ result }),
    (error) => ({ error }),
  );

/** What a transfer ended with, when it was the one way. */
function ended(outcome: Settled, observed: Observed, way: Omit<Way, 'transferred'>): Ended {
  if ('error' in outcome) {
    const { error } = outcome;
    return { ...observed, error, ways: [{ ...way, transferred: error.transferred }] };
  }
  const { backend, fallback, transferred } = outcome.result;
  return { ...observed, backend, fallback, ways: [{ ...way, transferred }] };
}

/** Makes pairs of connected sockets; `near` is the library's. */
async function pairs(kind: SocketKind) {
  const { server, address } = await listen(kind);
  return async () => {
    const accepted = once(server, 'connection') as Promise<[net.Socket]>;
    const far = net.connect({ ...address, allowHalfOpen: true });
    const [near] = await accepted;
    if (far.connecting) await once(far, 'connect');
    for (const socket of [near, far]) socket.on('error', () => {});
    return { near, far };
  };
}

/** All that comes to its end, however that comes. */
function collect(socket: net.Socket | http.IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  return new Promise((resolve) => {
    const done = () => resolve(Buffer.concat(chunks));
    if (socket.readableEnded || socket.destroyed) return done();
    socket.once('end', done).once('close', done);
  });
}

/** Whatever comes before that: once() would reject with an 'error'. */
function closed(stream: Readable | Writable): Promise<void> {
  return new Promise((resolve) => {
    if (stream.closed) resolve();
    else stream.once('close', () => resolve());
  });
}

async function close(...streams: (net.Socket | ReadStream)[]): Promise<void> {
  await Promise.all(streams.map((stream) => closed(stream.destroy())));
}

type Sources = Parameters<typeof transfer>[0];

/** From files to a socket. */
function send(kind: SocketKind, source: () => { source: Sources; sent: Buffer }) {
  return async (): Promise<Run> => {
    const pair = await pairs(kind);
    const { source: from, sent } = source();
    return async (begin) => {
      const { near, far } = await pair();
      const received = collect(far);
      begin();
      const outcome = await settled(transfer(from, near));
      const observed = observe();
      near.end();
      const arrived = await received;
      await close(near, far);
      return ended(outcome, observed, { sent, arrived });
    };
  };
}

function ofFile({ path, content }: TestFile) {
  return { source: path, sent: content };
}

function ofDescriptor({ path, content }: TestFile) {
  const fd = fs.openSync(path, 'r');
  return { source: fd, sent: content };
}

function ofList({ path, content }: TestFile) {
  const head = pattern(300, 2);
  const middle = pattern(5000, 3);
  return {
    source: [head, { file: path, length: 30_000 }, middle, { file: path, offset: 40_000 }],
    sent: Buffer.concat([head, content.subarray(0, 30_000), middle, content.subarray(40_000)]),
  };
}

/** From a socket to a file. */
function receive(kind: SocketKind, sinkOffset?: number) {
  return async (): Promise<Run> => {
    const pair = await pairs(kind);
    const sent = pattern(200_003);
    const target = path.join(scratchFolder(), 'target');
    return async (begin) => {
      const { near, far } = await pair();
      fs.writeFileSync(target, Buffer.alloc(sinkOffset ?? 0));
      begin();
      far.end(sent);
      const options = sinkOffset === undefined ? {} : { sinkOffset };
      const outcome = await settled(transfer(near, target, options));
      const observed = observe();
      const left = 'error' in outcome ? await restOf(near, outcome.error) : Buffer.alloc(0);
      await close(near, far);
      const arrived = fs.readFileSync(target).subarray(sinkOffset ?? 0);
      return ended(outcome, observed, { sent, arrived, left });
    };
  };
}

async function restOf(source: net.Socket, error: TransferError): Promise<Buffer | undefined> {
  if (source.errored) return undefined;
  const { residual = Buffer.alloc(0) } = error;
  return Buffer.concat([residual, await collect(source)]);
}

function pass(from: SocketKind, to: SocketKind) {
  return async (): Promise<Run> => {
    const [sources, sinks] = [await pairs(from), await pairs(to)];
    const sent = pattern(150_001);
    return async (begin) => {
      const [source, sink] = [await sources(), await sinks()];
      const received = collect(sink.far);
      begin();
      source.far.end(sent);
      const outcome = await settled(transfer(source.near, sink.near));
      const observed = observe();
      sink.near.end();
      const arrived = await received;
      const left = 'error' in outcome ? await restOf(source.near, outcome.error) : Buffer.alloc(0);
      await close(source.near, source.far, sink.near, sink.far);
      return ended(outcome, observed, { sent, arrived, left });
    };
  };
}

async function relayed(): Promise<Run> {
  const [tcp, unix] = [await pairs('tcp'), await pairs('unix')];
  const [toB, toA] = [pattern(100_001, 4), pattern(60_003, 5)];
  return async (begin) => {
    const [a, b] = [await tcp(), await unix()];
    const received = [collect(b.far), collect(a.far)];
    begin();
    a.far.end(toB);
    b.far.end(toA);
    const outcome = await relay(a.near, b.near).catch((error: RelayError) => error);
    const observed = observe();
    const [atB = Buffer.alloc(0), atA = Buffer.alloc(0)] = await Promise.all(received);
    await close(a.near, a.far, b.near, b.far);
    const ways = [
      { sent: toB, arrived: atB, transferred: outcome.aToB },
      { sent: toA, arrived: atA, transferred: outcome.bToA },
    ];
    if ('code' in outcome) return { ...observed, ways, error: outcome };
    const { backend, fallback } = outcome;
    return { ...observed, ways, backend, fallback };
  };
}

/** A file with a hole, copied to one that isn't there. */
function copied(how: 'transfer' | 'copyFile') {
  return (): Run => {
    const file = testFile(100_003);
    fs.truncateSync(file.path, 0);
    const fd = fs.openSync(file.path, 'r+');
    fs.writeSync(fd, file.content, 0, 20_000, 0);
    fs.writeSync(fd, file.content, 60_000, 40_003, 60_000);
    fs.closeSync(fd);
    const sent = fs.readFileSync(file.path);
    const sink = path.join(scratchFolder(), 'sink');
    return async (begin) => {
      fs.rmSync(sink, { force: true });
      begin();
      const outcome = await settled(
        how === 'transfer' ? transfer(file.path, sink) : copyFile(file.path, sink),
      );
      const observed = observe();
      const none = Buffer.alloc(0);
      const arrived = fs.existsSync(sink) ? fs.readFileSync(sink) : none;
      // A copy that has failed leaves no half a file.
      if (how === 'copyFile' && 'error' in outcome) {
        const error = outcome.error;
        return { ...observed, error, ways: [{ sent, arrived, transferred: undefined }] };
      }
      return ended(outcome, observed, { sent, arrived });
    };
  };
}

function wayOf({ backend, fallback }: ReadStream) {
  return { backend, fallback };
}

/** createReadStream().pipe(socket) */
function piped(kind: SocketKind, size: number) {
  return async (): Promise<Run> => {
    const pair = await pairs(kind);
    const { path, content: sent } = testFile(size);
    return async (begin) => {
      const { near, far } = await pair();
      const received = collect(far);
      let error: NodeJS.ErrnoException | undefined;
      begin();
      const stream = createReadStream(path);
      const note = (reason: NodeJS.ErrnoException) => {
        error ??= reason;
        near.destroy();
      };
      near.on('error', note);
      stream.on('error', note).pipe(near);
      const arrived = await received;
      const observed = observe();
      await close(near, far, stream);
      return {
        ...observed,
        ...wayOf(stream),
        error,
        ways: [{ sent, arrived, transferred: undefined }],
      };
    };
  };
}

type Answer = (response: http.ServerResponse) => Promise<Partial<Ended>>;

/** A body of HTTP: what the client has of it when the answer has ended, or was broken off. */
function answered(answer: () => { answer: Answer; sent: Buffer; length: boolean }) {
  return async (): Promise<Run> => {
    const { answer: respond, sent, length } = answer();
    const server = http.createServer();
    const port = await listenOnPort(server);
    return async (begin) => {
      server.removeAllListeners('request');
      const answering = new Promise<Partial<Ended>>((resolve) => {
        server.once('request', (_, response: http.ServerResponse) => {
          if (length) response.setHeader('Content-Length', sent.length);
          begin();
          resolve(respond(response));
        });
      });
      const request = http.get({ port, host: '127.0.0.1', agent: false });
      const arrived = await new Promise<Buffer>((resolve) => {
        request.on('error', () => resolve(Buffer.alloc(0)));
        request.on('response', (message) => {
          message.on('error', () => {});
          resolve(collect(message));
        });
      });
      const answered = await answering;
      const observed = observe();
      await close(...([request.socket].filter(Boolean) as net.Socket[]));
      server.closeAllConnections();
      return { ...observed, ways: [{ sent, arrived, transferred: undefined }], ...answered };
    };
  };
}

function pipedAnswer(size: number, length: boolean) {
  const { path, content: sent } = testFile(size);
  const answer: Answer = async (response) => {
    let error: NodeJS.ErrnoException | undefined;
    const stream = createReadStream(path);
    stream.on('error', (reason: NodeJS.ErrnoException) => {
      error ??= reason;
      response.destroy();
    });
    response.socket?.on('error', (reason) => {
      error ??= reason;
    });
    response.on('error', () => {});
    stream.pipe(response);
    await closed(response);
    await close(stream);
    return { ...wayOf(stream), error };
  };
  return { answer, sent, length };
}

function transferredAnswer(size: number, length: boolean) {
  const { path, content: sent } = testFile(size);
  const answer: Answer = async (response) => {
    const outcome = await settled(transfer(path, response));
    if ('error' in outcome) {
      response.destroy();
      return { error: outcome.error };
    }
    const { backend, fallback } = outcome.result;
    return { backend, fallback };
  };
  return { answer, sent, length };
}

export const scenarios: Scenario[] = [
  { name: 'tiny file to tcp', kind: 'send', make: send('tcp', () => ofFile(testFile(10_000))) },
  { name: 'short file to unix', kind: 'send', make: send('unix', () => ofFile(testFile(60_000))) },
  { name: 'file to tcp', kind: 'send', make: send('tcp', () => ofFile(testFile(300_007))) },
  {
    name: 'descriptor to unix',
    kind: 'send',
    make: send('unix', () => ofDescriptor(testFile(300_007))),
  },
  { name: 'short list to tcp', kind: 'send', make: send('tcp', () => ofList(testFile(50_000))) },
  { name: 'list to unix', kind: 'send', make: send('unix', () => ofList(testFile(200_000))) },
  { name: 'tcp to a file', kind: 'splice', make: receive('tcp') },
  { name: 'unix to a file at an offset', kind: 'splice', make: receive('unix', 7) },
  { name: 'unix to tcp', kind: 'splice', make: pass('unix', 'tcp') },
  { name: 'tcp to unix', kind: 'splice', make: pass('tcp', 'unix') },
  { name: 'relay', kind: 'splice', make: relayed },
  { name: 'file to file', kind: 'copy', make: copied('transfer') },
  { name: 'copyFile', kind: 'copy', make: copied('copyFile') },
  { name: 'stream of a tiny file to tcp', kind: 'stream', make: piped('tcp', 10_000) },
  { name: 'stream of a file to unix', kind: 'stream', make: piped('unix', 1_500_000) },
  {
    name: 'stream to a response',
    kind: 'message',
    make: answered(() => pipedAnswer(200_000, true)),
  },
  {
    name: 'stream to a response in chunks',
    kind: 'message',
    make: answered(() => pipedAnswer(200_000, false)),
  },
  {
    name: 'file to a response',
    kind: 'message',
    make: answered(() => transferredAnswer(200_000, true)),
  },
  {
    name: 'file to a response in chunks',
    kind: 'message',
    make: answered(() => transferredAnswer(200_000, false)),
  },
];
