// Where bytes go: what `transfer` takes as a sink, and how a transfer gets its turn there.
import * as fs from 'node:fs';
import { type FileHandle, stat } from 'node:fs/promises';
import type { Writable } from 'node:stream';
import { promisify } from 'node:util';
import { systemError } from './errors';
import { parseFile } from './file';
import { enqueue, type Job, mayLease, type Turn, whyNoDescriptor } from './lease';
import { addon } from './native';

import type { Fallback } from './options';
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
    return { kind: 'stream', stream: sink, endsByDefault: isHttpMessage(sink) };
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

/** ServerResponse and ClientRequest: they have one body, which ends with them. */
function isHttpMessage(sink: Writable): boolean {
  return 'setHeader' in sink && 'headersSent' in sink;
}

/** Why native code can't write to a sink; undefined when it can, as far as is known by now. */
export function whyNotNativeSink(sink: ParsedSink): Fallback | undefined {
  if (sink.kind === 'stream') return whyNoDescriptor(sink.stream);
  return { code: 'SINK_TYPE', message: 'the sink is a file, not a socket', at: 0 };
}

/** Queues a transfer for its turn on a stream. */
export function takeTurn(stream: Writable, job: Job): void {
  if (mayLease(stream)) enqueue(stream, job);
  else takeTurnBesideWrites(stream, job);
}

const lastTurns = new WeakMap<Writable, Promise<void>>();

/**
 * A turn on a sink whose queue of writes can't be had: what isn't a Writable, and what someone else
 * has hooked. Transfers follow each other; other writes come between, as with `pipe()`.
 */
function takeTurnBesideWrites(stream: Writable, job: Job): void {
  const start = () =>
    new Promise<void>((resolve) => {
      job.start({ ...turnOfWrites(stream), release: () => resolve() });
    });
  const before = lastTurns.get(stream);
  const turn = before ? before.then(start) : start();
  lastTurns.set(stream, turn);
}

function turnOfWrites(stream: Writable): Turn {
  return {
    queued: false,
    write: (chunk, done) => {
      stream.write(chunk, done);
    },
    release: () => {},
    descriptor: () => ({
      fallback: { code: 'SINK_OVERRIDDEN', message: "the sink's write is not Node's own", at: 0 },
    }),
    kernelBegan: () => {},
    kernelEnded: () => {},
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
