// Where bytes go: what `transfer` takes as a sink, and how a transfer gets its turn there.
import * as fs from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import type { Writable } from 'node:stream';
import { systemError } from './errors';
import { parseFile } from './file';
import { enqueue, type Job, mayLease, type Turn, whyNoDescriptor } from './lease';
import { addon } from './native';

import type { Fallback } from './options';
import { valueError } from './validate';

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

/** A file being written by a stream of ours. */
export interface FileSink {
  stream: fs.WriteStream;
  turn: Turn;
  /** Writes out what is left, and closes. */
  finish(done: (error?: Error) => void): void;
  /** Closes as it is. */
  abandon(): void;
}

/** Opens a file to write to. `sourceFd`: what is read from meanwhile, if that is a file. */
export function openFileSink(
  sink: Extract<ParsedSink, { kind: 'file' }>,
  sourceFd: number | undefined,
): FileSink {
  refuseOntoItself(sink, sourceFd);
  const start = sink.offset === undefined ? {} : { start: sink.offset };
  let held: number | undefined;
  let stream: fs.WriteStream;
  if (typeof sink.file === 'number') {
    const { fd } = addon.native?.duplicate(sink.file) ?? { fd: sink.file };
    if (fd < 0) throw systemError(-fd, 'dup');
    if (addon.native) held = fd;
    stream = fs.createWriteStream('', { fd, autoClose: false, ...start });
  } else {
    stream = fs.createWriteStream(sink.file, { flags: sink.flags, ...start });
  }
  const letGo = () => {
    if (held !== undefined) addon.native?.release(held);
    held = undefined;
  };
  return {
    stream,
    turn: turnOfWrites(stream),
    finish: (done) => {
      const end = (error?: Error | null) => {
        letGo();
        done(error ?? undefined);
      };
      stream.once('error', end);
      // A path's stream closes itself, and only then has the disk's last word.
      stream.end(() => (held === undefined && !stream.closed ? stream.once('close', end) : end()));
    },
    abandon: () => {
      stream.on('error', () => {});
      stream.once('close', letGo);
      stream.destroy();
    },
  };
}

/** A file that is emptied by being opened as a sink must not be the source. */
function refuseOntoItself(
  sink: Extract<ParsedSink, { kind: 'file' }>,
  sourceFd: number | undefined,
): void {
  if (sourceFd === undefined || typeof sink.file !== 'string' || !sink.flags.startsWith('w'))
    return;
  const target = fs.statSync(sink.file, { bigint: true, throwIfNoEntry: false });
  const source = fs.fstatSync(sourceFd, { bigint: true });
  if (target && target.ino === source.ino && target.dev === source.dev) {
    throw valueError('sink', 'is the source itself, and opening it would empty it', sink.file);
  }
}
