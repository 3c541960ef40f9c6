// Where bytes go: what `transfer` takes as a sink, and how a transfer gets its turn there.
import * as fs from 'node:fs';
import { type FileHandle, stat } from 'node:fs/promises';
import * as net from 'node:net';
import type { Writable } from 'node:stream';
import { promisify } from 'node:util';
import { systemError } from './errors';
import { parseFile } from './file';
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
import { addon, type Completion } from './native';

import type { Fallback } from './options';
import { CHUNK_BYTES } from './stream-backend';
import { valueError } from './validate';

const fstat = promisify(fs.fstat);

/**
 * A socket, or any other stream (a ServerResponse and a ClientRequest are ones), a path, a
 * descriptor, a FileHandle.
 */
export type Sink = string | URL | number | FileHandle | Writable;

export type ParsedSink =
  | { kind: 'stream'; stream: Writable; endsByDefault: boolean }
  | { kind: 'file'; file: string | number; offset: number | undefined; flags: string };

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

/** Why native code can't write to a sink; undefined when it can, as far as is known by now. */
export function whyNotNativeSink(sink: ParsedSink): Fallback | undefined {
  if (sink.kind === 'stream') return whyNotNativeStream(sink.stream);
  return { code: 'SINK_TYPE', message: 'the sink is a file, not a socket', at: 0 };
}

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
    besideWrites(overridden());
  }
}

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

function overridden(): Fallback {
  return { code: 'SINK_OVERRIDDEN', message: "the sink's write is not Node's own", at: 0 };
}

function turnOfWrites(stream: NodeJS.WritableStream, fallback = overridden()): Turn {
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
    moved: () => 0,
    cancel: () => {},
  };
}

/** A file that is written to by a stream of ours. */
export class FileSink {
  readonly #sink: Extract<ParsedSink, { kind: 'file' }>;
  /** A descriptor of our own, for one that is the caller's to close at any moment. */
  #held: number | undefined;
  #stream: fs.WriteStream | undefined;
  #abandoned = false;

  /** Holds what was given as a descriptor. Throws a system error where it can't. */
  constructor(sink: Extract<ParsedSink, { kind: 'file' }>) {
    this.#sink = sink;
    if (typeof sink.file !== 'number' || !addon.native) return;
    const { fd } = addon.native.duplicate(sink.file);
    if (fd < 0) throw systemError(-fd, 'dup');
    this.#held = fd;
  }

  /** Opens the file. `sourceFd`: what is read from meanwhile, if that is a file. */
  async open(sourceFd: number | undefined, onError: (error: Error) => void): Promise<Turn> {
    const { file, flags, offset } = this.#sink;
    if (typeof file === 'string' && flags.startsWith('w') && sourceFd !== undefined) {
      await refuseOntoItself(file, sourceFd);
    }
    // Opening would empty the file for nothing.
    if (this.#abandoned) throw new Error('abandoned');
    const start = offset === undefined ? {} : { start: offset };
    this.#stream =
      typeof file === 'string'
        ? fs.createWriteStream(file, { flags, ...start })
        : fs.createWriteStream('', { fd: this.#held ?? file, autoClose: false, ...start });
    this.#stream.once('error', onError);
    return turnOfWrites(this.#stream);
  }

  /** Writes out what is left, and closes what was opened. */
  finish(done: (error?: Error) => void): void {
    const stream = this.#stream as fs.WriteStream;
    stream.once('error', done);
    stream.end(() => {
      // A path's stream closes itself, and only then has the disk's last word.
      if (typeof this.#sink.file === 'string' && !stream.closed) stream.once('close', () => done());
      else {
        this.#release();
        done();
      }
    });
  }

  /** Leaves the file as it is. */
  abandon(): void {
    this.#abandoned = true;
    if (!this.#stream) return this.#release();
    this.#stream.on('error', () => {});
    this.#stream.once('close', () => this.#release());
    this.#stream.destroy();
  }

  #release(): void {
    if (this.#held !== undefined) addon.native?.release(this.#held);
    this.#held = undefined;
  }
}

/** A file that is emptied by being opened as a sink must not be the source. */
async function refuseOntoItself(file: string, sourceFd: number): Promise<void> {
  const target = await stat(file, { bigint: true }).catch(() => undefined);
  const source = await fstat(sourceFd, { bigint: true });
  if (target && target.ino === source.ino && target.dev === source.dev) {
    throw valueError('sink', 'is the source itself, and opening it would empty it', file);
  }
}
