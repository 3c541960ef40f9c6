// Where bytes go: what `transfer` takes as a sink, and how a transfer gets its turn there.
import type { FileHandle } from 'node:fs/promises';
import * as net from 'node:net';
import type { Writable } from 'node:stream';
import { because } from './fallback';
import { parseFile } from './file';
import type { ParsedFileSink } from './file-sink';
import { enqueueBody, isMessage, sendBodyNow, whyNotNativeBody } from './http';
import {
  enqueue,
  type FileRange,
  type Job,
  mayLease,
  sendNow,
  type Turn,
  whyNoDescriptor,
} from './lease';
import type { Completion } from './native';
import type { Fallback } from './options';
import { CHUNK_BYTES } from './stream-backend';
import { valueError } from './validate';

/**
 * A socket, or any other stream (a ServerResponse and a ClientRequest are ones), a path, a
 * descriptor, a FileHandle.
 */
export type Sink = string | URL | number | FileHandle | Writable;

export type ParsedSink =
  | { kind: 'stream'; stream: Writable; endsByDefault: boolean }
  | ParsedFileSink;

/** Checks a sink's arguments. */
export function parseSink(
  sink: unknown,
  offset: number | undefined,
  flags: string | undefined,
): ParsedSink {
  if (isWritable(sink)) {
    if (offset !== undefined) {
      throw valueError('options.sinkOffset', 'needs a file as sink', offset);
    }
    if (flags !== undefined) throw valueError('options.sinkFlags', 'needs a path as sink', flags);
    return { kind: 'stream', stream: sink, endsByDefault: hasOneBody(sink) };
  }
  const file = parseFile(
    'sink',
    sink,
    'a path, a file URL, a descriptor, a FileHandle or a Writable stream',
  );
  if (typeof file === 'number' && flags !== undefined) {
    throw valueError('options.sinkFlags', 'needs a path as sink', flags);
  }
  return { kind: 'file', file, offset, flags: flags ?? (offset === undefined ? 'w' : 'r+') };
}

function isWritable(value: unknown): value is Writable {
  return (
    typeof value === 'object' &&
    value !== null &&
    'write' in value &&
    typeof value.write === 'function' &&
    'end' in value &&
    typeof value.end === 'function'
  );
}

/** Messages of HTTP/1 and HTTP/2: they have one body, which ends with them. */
function hasOneBody(sink: Writable): boolean {
  return 'setHeader' in sink && 'headersSent' in sink;
}

/**
 * Why native code can't write to a sink what comes from a file or from a stream; undefined when it
 * can, as far as is known by now.
 */
export function whyNotNativeSink(sink: ParsedSink, sourceIsStream: boolean): Fallback | undefined {
  if (sink.kind === 'file') return undefined; // what it is shows when it is open
  if (sourceIsStream && isMessage(sink.stream)) return STREAM_TO_MESSAGE;
  return whyNotNativeStream(sink.stream);
}

const STREAM_TO_MESSAGE = because('SINK_TYPE', 'the sink is an HTTP message, the source a stream');

/** Why native code can't write to a stream; undefined when it can, as far as is known by now. */
export function whyNotNativeStream(sink: NodeJS.WritableStream): Fallback | undefined {
  return isMessage(sink) ? whyNotNativeBody(sink) : whyNoDescriptor(sink);
}

/** As `sendNow` of lease.ts. */
export function sendToStreamNow(
  sink: NodeJS.WritableStream,
  range: FileRange,
): Completion | undefined {
  if (isMessage(sink)) return sendBodyNow(sink, range);
  return sink instanceof net.Socket ? sendNow(sink, '', range) : undefined;
}

/**
 * Queues a transfer for its turn on a stream. A body that HTTP frames gets chunks of `chunkBytes`.
 */
export function takeTurn(
  stream: NodeJS.WritableStream,
  job: Job,
  chunkBytes: number = CHUNK_BYTES,
): void {
  const besideWrites = (fallback: Fallback) => takeTurnBesideWrites(stream, job, fallback);
  if (isMessage(stream)) {
    const fallback = whyNotNativeBody(stream);
    if (fallback) besideWrites(fallback);
    else enqueueBody(stream, job, chunkBytes, besideWrites);
  } else if (mayLease(stream)) {
    enqueue(stream, job);
  } else {
    besideWrites(OVERRIDDEN);
  }
}

const OVERRIDDEN = because('SINK_OVERRIDDEN', "the sink's write is not Node's own");

const lastTurns = new WeakMap<NodeJS.WritableStream, Promise<void>>();

/**
 * A turn on a sink whose queue of writes can't be had: what isn't a Writable, and what someone else
 * has hooked. Transfers follow each other; other writes come between, as with `pipe()`.
 */
function takeTurnBesideWrites(stream: NodeJS.WritableStream, job: Job, fallback: Fallback): void {
  const start = () =>
    new Promise<void>((resolve) => {
      if (job.over) resolve();
      else job.start({ ...turnOfWrites(stream, fallback), release: () => resolve() });
    });
  const before = lastTurns.get(stream);
  const turn = before ? before.then(start) : start();
  lastTurns.set(stream, turn);
}

function turnOfWrites(stream: NodeJS.WritableStream, fallback: Fallback): Turn {
  return {
    queued: false,
    write: (chunk, done) => {
      if (fallback.code !== 'SINK_OVERRIDDEN') stream.write(chunk, done);
      // As pipe() does: not everybody's write calls back (compression's doesn't).
      else if (stream.write(chunk)) process.nextTick(done);
      else stream.once('drain', () => done());
    },
    release: () => {},
    move: () => fallback,
    splice: () => fallback,
    moved: () => 0,
    cancel: () => {},
  };
}
