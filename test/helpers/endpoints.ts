// Ends of every kind that transfers have: each of them made, fed or read, and gone with the test.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as http from 'node:http';
import * as net from 'node:net';
import * as path from 'node:path';
import { Duplex, PassThrough, Readable, Writable } from 'node:stream';
import { pathToFileURL } from 'node:url';
import { pipeSync, type Segment, type Sink, type Source, type TransferOptions } from 'zerocopy';
import { procFile } from './copies';
import { handleFor, openFor, pattern, scratchFolder, testFile } from './files';
import { requestTo, serve } from './http';
import { withResolvers } from './process';
import { onTestFinished } from './scope';
import { fdOf, link, receive, type SocketKind } from './sockets';
import { fifo, pipeEnds } from './sources';
import { secureLink } from './tls';

/** Bytes of each transfer: more than any buffer on the way takes. */
const LENGTH = 1024 * 1024 + 4097;

export interface SourceEnd {
  source: Source | Segment[];
  /** What comes out of it. */
  content: Buffer;
}

export interface SinkEnd {
  sink: Sink;
  options?: TransferOptions;
  /** Once the transfer is over: all that has arrived. */
  arrived(): Promise<Buffer> | Buffer;
}

type Variants<End> = Record<string, () => Promise<End> | End>;

const atEnd = (undo: () => void) => onTestFinished(() => undo());

function handleBlocks(socket: net.Socket): void {
  const { _handle: handle } = socket as unknown as {
    _handle: { setBlocking(on: boolean): number };
  };
  if (handle.setBlocking(true) !== 0) throw new Error('not to be made blocking');
}

/** A program that goes with the test. */
function run(command: string, args: string[], stdio: ('pipe' | 'ignore')[]) {
  const child = spawn(command, args, { stdio });
  atEnd(() => child.kill('SIGKILL'));
  return child;
}

/** A program whose stdout is a descriptor, which only it has then. */
function spawnInto(fd: number, command: string, args: string[]): void {
  const child = spawn(command, args, { stdio: ['ignore', fd, 'ignore'] });
  atEnd(() => child.kill('SIGKILL'));
  fs.closeSync(fd);
}

/** What comes of a stream until its end. Where nobody asks for it, nobody hears how it fails. */
function collect(stream: Readable): Promise<Buffer> {
  const collected = receive(stream);
  collected.catch(() => {});
  return collected;
}

/** Two streams of which each gives what was written to the other. */
export function duplexPair(): { near: Duplex; far: Duplex } {
  const [there, back] = [new PassThrough(), new PassThrough()];
  const pair = { readable: there, writable: back };
  return {
    near: Duplex.from(pair),
    far: Duplex.from({ readable: back, writable: there }),
  };
}

async function socketSource(kind: SocketKind, side: 'sink' | 'peer'): Promise<SourceEnd> {
  const content = pattern(LENGTH);
  const both = await link({ kind });
  const source = both[side];
  const writer = side === 'sink' ? both.peer : both.sink;
  source.on('error', () => {});
  writer.end(content);
  return { source, content };
}

/** A file, and a reader of its bytes when the transfer is over. */
function fileSink(sink: (file: string) => Sink | Promise<Sink>, options: TransferOptions = {}) {
  return async (): Promise<SinkEnd> => {
    const file = path.join(scratchFolder(), 'sink');
    return { sink: await sink(file), options, arrived: () => fs.readFileSync(file) };
  };
}

export const sources: Record<string, Variants<SourceEnd>> = {
  file: {
    path: () => {
      const { path: source, content } = testFile(LENGTH);
      return { source, content };
    },
    URL: () => {
      const { path: file, content } = testFile(LENGTH);
      return { source: pathToFileURL(file), content };
    },
    descriptor: () => {
      const { path: file, content } = testFile(LENGTH);
      return { source: openFor(file, 'r'), content };
    },
    FileHandle: async () => {
      const { path: file, content } = testFile(LENGTH);
      return { source: await handleFor(file, 'r'), content };
    },
  },
  'gather list': {
    'memory and ranges': () => {
      const { path: file, content } = testFile(LENGTH);
      const memory = pattern(1000, 3);
      const source = [memory, { file, offset: 5000 }, memory, { file, length: 5000 }];
      const parts = [memory, content.subarray(5000), memory, content.subarray(0, 5000)];
      return { source, content: Buffer.concat(parts) };
    },
  },
  'TCP or Unix socket': {
    TCP: () => socketSource('tcp', 'sink'),
    'TCP, connected': () => socketSource('tcp', 'peer'),
    Unix: () => socketSource('unix', 'sink'),
    'child.stdout': () => {
      const { path: file, content } = testFile(LENGTH);
      return { source: run('cat', [file], ['ignore', 'pipe']).stdout as Readable, content };
    },
  },
  pipe: {
    'net.Socket': () => {
      const content = pattern(LENGTH);
      const { source, writer } = pipeEnds();
      writer.end(content);
      return { source, content };
    },
    'net.Socket, as docs/endpoints.md has it': () => {
      const { path: file, content } = testFile(LENGTH);
      const { readFd, writeFd } = pipeSync();
      spawnInto(writeFd, 'cat', [file]);
      const source = new net.Socket({ fd: readFd });
      atEnd(() => source.destroy());
      return { source, content };
    },
    'path of a FIFO': () => {
      const { path: file, content } = testFile(LENGTH);
      const source = fifo();
      run('sh', ['-c', `cat '${file}' > '${source}'`], ['ignore', 'ignore']);
      return { source, content };
    },
  },
  '/proc-like file': {
    environ: async () => {
      const { path: source, content } = await procFile();
      return { source, content };
    },
  },
  'TLS socket': {
    TLSSocket: async () => {
      const content = pattern(LENGTH);
      const { near, far } = await secureLink();
      far.end(content);
      return { source: near, content };
    },
  },
  'HTTP message': {
    'of a server': async () => {
      const content = pattern(LENGTH);
      const { promise, resolve } = withResolvers<Readable>();
      const { address } = await serve((request) => resolve(request));
      const request = http.request({ ...requestTo(address), method: 'POST' });
      request.on('error', () => {});
      request.end(content);
      return { source: await promise, content };
    },
    'of a client': async () => {
      const content = pattern(LENGTH);
      const { address } = await serve((_request, response) => response.end(content));
      const request = http.get(requestTo(address));
      request.on('error', () => {});
      const [source] = (await once(request, 'response')) as [Readable];
      return { source, content };
    },
  },
  'other Readable': {
    'Readable.from()': () => {
      const content = pattern(LENGTH);
      const chunks = Array.from({ length: 17 }, (_, i) =>
        content.subarray(i * 65_000, (i + 1) * 65_000),
      );
      return { source: Readable.from(chunks, { objectMode: false }), content };
    },
    'fs.ReadStream': () => {
      const { path: file, content } = testFile(LENGTH);
      const source = fs.createReadStream(file);
      source.on('error', () => {}); // where the transfer is refused the file may go before it is open
      return { source, content };
    },
  },
  'raw descriptor of a pipe or socket': {
    'of a pipe': () => {
      const { path: file, content } = testFile(LENGTH);
      const { readFd, writeFd } = pipeSync();
      atEnd(() => fs.closeSync(readFd));
      spawnInto(writeFd, 'cat', [file]);
      return { source: readFd, content };
    },
    'of a socket': async () => {
      const { source, content } = await socketSource('unix', 'peer');
      handleBlocks(source as net.Socket);
      return { source: fdOf(source as net.Socket), content };
    },
  },
};

async function socketSink(kind: SocketKind): Promise<SinkEnd> {
  const { sink, peer } = await link({ kind });
  sink.on('error', () => {});
  const received = collect(peer);
  return { sink, options: { endSink: true }, arrived: () => received };
}

export const sinks: Record<string, Variants<SinkEnd>> = {
  'TCP or Unix socket': {
    TCP: () => socketSink('tcp'),
    Unix: () => socketSink('unix'),
    'child.stdin': () => {
      const { stdin, stdout } = run('cat', [], ['pipe', 'pipe', 'ignore']);
      const received = collect(stdout as Readable);
      return { sink: stdin as Writable, options: { endSink: true }, arrived: () => received };
    },
  },
  pipe: {
    'net.Socket': () => {
      const { source, writer } = pipeEnds();
      const received = collect(source);
      return { sink: writer, options: { endSink: true }, arrived: () => received };
    },
  },
  file: {
    path: fileSink((file) => file),
    URL: fileSink((file) => pathToFileURL(file)),
    descriptor: fileSink((file) => openFor(file, 'w')),
    FileHandle: fileSink((file) => handleFor(file, 'w')),
  },
  'file opened with O_APPEND': {
    path: fileSink((file) => file, { sinkFlags: 'a' }),
    descriptor: fileSink((file) => openFor(file, 'a')),
  },
  'HTTP message': {
    ServerResponse: async () => {
      const { promise, resolve } = withResolvers<http.ServerResponse>();
      const { address } = await serve((_request, response) => resolve(response));
      const request = http.get(requestTo(address));
      request.on('error', () => {});
      const answer = once(request, 'response') as Promise<[Readable]>;
      const received = answer.then(([response]) => collect(response));
      received.catch(() => {});
      return { sink: await promise, arrived: () => received };
    },
    ClientRequest: async () => {
      const { promise, resolve } = withResolvers<Buffer>();
      const { address } = await serve((request, response) => {
        collect(request).then(resolve, () => {});
        response.end();
      });
      const sink = http.request({ ...requestTo(address), method: 'POST' });
      sink.on('error', () => {});
      return { sink, arrived: () => promise };
    },
  },
  'TLS socket': {
    TLSSocket: async () => {
      const { near, far } = await secureLink();
      const received = collect(far);
      return { sink: near, options: { endSink: true }, arrived: () => received };
    },
  },
  'other Writable': {
    Writable: () => {
      const chunks: Buffer[] = [];
      const sink = new Writable({
        write: (chunk, _encoding, done) => {
          chunks.push(chunk);
          setImmediate(done);
        },
      });
      return { sink, arrived: () => Buffer.concat(chunks) };
    },
    PassThrough: () => {
      const sink = new PassThrough();
      const received = collect(sink);
      return { sink, options: { endSink: true }, arrived: () => received };
    },
  },
  'raw descriptor of a pipe or socket': {
    'of a pipe': () => {
      const { source, writer } = pipeEnds();
      const received = collect(source);
      const arrived = () => {
        writer.end();
        return received;
      };
      return { sink: fdOf(writer), arrived };
    },
    'of a socket': async () => {
      const { sink, peer } = await link({ kind: 'unix' });
      const received = collect(peer);
      const arrived = () => {
        sink.end();
        return received;
      };
      return { sink: fdOf(sink), arrived };
    },
    'path of a FIFO': () => {
      const sink = fifo();
      const received = collect(run('cat', [sink], ['ignore', 'pipe']).stdout as Readable);
      return { sink, arrived: () => received };
    },
  },
};
