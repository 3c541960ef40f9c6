// The lease on a sink: a transfer's turn in the sink's own queue of writes.
//
// A marker goes through `sink.write()` like any chunk. When the sink's `_write` or `_writev`, hooked
// on the instance, meets it, the transfer runs; when that ends, so does the marker's write. Order
// with other writes, `end()`, 'finish', 'drain', cork and connecting sockets follow from that.
//
// What Node does not document of sockets as sinks is touched here: `_write`, `_writev`,
// `bytesWritten`'s getter. test/node-internals.test.ts fails when a release of Node changes any of it,
// or of what handle.ts, idle.ts, gate.ts, socket-source.ts, http.ts, places.ts and read-stream.ts rely
// on.
import * as net from 'node:net';
import { Writable } from 'node:stream';
import { isSocketError, systemError } from './errors';
import { because } from './fallback';
import { endpointOf, handleOf, isKernelHandle, noHandle } from './handle';
import { IdleGuard, type Movement } from './idle';
import {
  addon,
  type Completion,
  type Endpoint,
  MAX_HEAD_LENGTH,
  type Native,
  type NativeSegments,
  Outcome,
} from './native';
import type { Fallback } from './options';
import { closes } from './shared-listener';

type Done = (error?: Error | null) => void;
type Entry = { chunk: Uint8Array | string; encoding: BufferEncoding };
type Batch = Entry[] & { allBuffers?: boolean };
type Write = (chunk: Uint8Array | string, encoding: BufferEncoding | 'buffer', done: Done) => void;
type Writev = (batch: Batch, done: Done) => void;

interface Internals {
  _write: Write;
  _writev?: Writev | null | undefined;
}

/** Bytes on their way from a socket or a pipe. */
export interface Flow {
  source: Endpoint;
  /** The first of them, which JavaScript has read already. */
  head: Buffer;
  /** Most bytes to take behind those of `head`; undefined: all up to the source's end. */
  length: number | undefined;
}

/** A transfer that waits for its turn. */
export interface Job {
  /** Whether it has ended already, so that its turn may pass. */
  readonly over: boolean;
  /** Its turn has come. */
  start(turn: Turn): void;
  /** Its turn will never come: the sink was destroyed. */
  dropped(error: Error): void;
}

/** The time in which a sink is a transfer's alone. */
export interface Turn {
  /** Whether its place among the sink's writes was taken when the transfer was asked for. */
  readonly queued: boolean;
  /**
   * Has native code write `segments` to the sink, and calls `ended` once, maybe before it returns.
   * Where it can't, returns why, and nothing has happened.
   */
  move(segments: NativeSegments, ended: (completion: Completion) => void): Fallback | undefined;
  /** The same with what comes from a socket or a pipe. The completion counts `head` too. */
  splice(flow: Flow, ended: (completion: Completion) => void): Fallback | undefined;
  /** Bytes that the move in hand has come to. */
  moved(): number;
  /** Ends the move in hand as soon as can be; its completion says how far it came. */
  cancel(): void;
  /** Writes below the queue. `done` is called when the sink has accepted the chunk. */
  write(chunk: Uint8Array, done: Done): void;
  /** Lets the next write pass; with an error the sink fails, as from a write of its own. */
  release(error?: Error): void;
}

/** The chunk that stands for a transfer. It counts as one byte in `writableLength`, and has none. */
class Marker extends Uint8Array {
  constructor(readonly job: Job) {
    super(0);
  }
  override get length(): number {
    return 1;
  }
}
// Writable keeps the identity of Buffers only, and tells them by their prototype.
Object.setPrototypeOf(Marker.prototype, Buffer.prototype);

const bytesWrittenOf = Object.getOwnPropertyDescriptor(net.Socket.prototype, 'bytesWritten')?.get;

/**
 * Most bytes written before a transfer that go by its first system call, and in its first packet:
 * HTTP's headers.
 */
const MAX_FIRST_BYTES = 16 * 1024;

/** Where a sink that is leased has its lease. */
const kLease = Symbol('lease');

interface Leased {
  [kLease]: Lease;
}

/**
 * Why a sink that is a stream can't be written to by native code, as far as that can be told before
 * its turn; undefined when it can.
 */
export function whyNoDescriptor(sink: NodeJS.WritableStream): Fallback | undefined {
  if ((sink as { encrypted?: boolean }).encrypted === true) {
    return because('TLS', 'the sink encrypts what is written to it');
  }
  if (!(sink instanceof net.Socket)) {
    const name = sink.constructor?.name ?? 'stream';
    return because('SINK_TYPE', `the sink is not a socket but a ${name}`);
  }
  if (!mayLease(sink) || !isNodesOwn(sink)) return OVERRIDDEN;
  const handle = handleOf(sink);
  return handle === null || isKernelHandle(handle) ? undefined : noHandle('sink');
}

const OVERRIDDEN = because(
  'SINK_OVERRIDDEN',
  "the sink's write, _write or _writev is not Node's own",
);

/** Whether a lease can be had: nobody stands between `write` and the hooks. */
export function mayLease(sink: NodeJS.WritableStream): sink is Writable {
  return (
    sink instanceof Writable &&
    sink.write === Writable.prototype.write &&
    (findLease(sink)?.isIntact() ?? true)
  );
}

/** Whether what a socket does with a chunk, below its lease if it has one, is Node's own. */
function isNodesOwn(socket: net.Socket): boolean {
  const { _write, _writev } = findLease(socket)?.hooked ?? (socket as unknown as Internals);
  const own = net.Socket.prototype as unknown as Internals;
  return _write === own._write && _writev === own._writev;
}

function findLease(sink: Writable): Lease | undefined {
  return Object.hasOwn(sink, kLease) ? (sink as unknown as Leased)[kLease] : undefined;
}

function leaseOf(sink: Writable): Lease {
  const lease = findLease(sink);
  if (lease) return lease;
  return sink instanceof net.Socket ? new SocketLease(sink) : new Lease(sink);
}

/** Puts a property of our own over one of the prototype's. */
function replace(sink: Writable, name: string | symbol, property: PropertyDescriptor): void {
  const changeable = 'value' in property ? { writable: true } : {};
  Object.defineProperty(sink, name, { configurable: true, ...changeable, ...property });
}

/**
 * What sinks that are leased have in the place of their own. The same for all: functions of its own for
 * each would make of every socket a thing that V8 keeps in a dictionary, slower and larger by 2 KiB.
 */
const hooks = {
  _write(this: Leased, chunk: Uint8Array | string, encoding: BufferEncoding, done: Done): void {
    this[kLease].write(chunk, encoding, done);
  },
  _writev(this: Leased, batch: Batch, done: Done): void {
    this[kLease].writev(batch, done);
  },
  get bytesWritten(): number | undefined {
    return ((this as unknown as Leased)[kLease] as SocketLease).bytesWritten;
  },
};
const bytesWrittenHook = Object.getOwnPropertyDescriptor(hooks, 'bytesWritten')?.get;
const emptyBatch: Batch = [];
const none: readonly Uint8Array[] = [];
const noBytes = Buffer.alloc(0);

/**
 * Queues a transfer behind what has been written to the sink so far. `write` puts its marker there,
 * where something else writes to the sink before it does.
 */
export function enqueue(
  sink: Writable,
  job: Job,
  write?: (marker: Uint8Array, done: Done) => void,
): void {
  const forget = leaseOf(sink).dropWhenClosed(job);
  const marker = new Marker(job);
  const done = (error?: Error | null) => {
    forget?.();
    if (error) job.dropped(error);
  };
  if (write) write(marker, done);
  else sink.write(marker, done);
}

/** The same for a sink that isn't there yet: it is leased before it gets what `write` puts by. */
export function writeMarker(job: Job, write: (marker: Uint8Array, done: Done) => void): Uint8Array {
  const marker = new Marker(job);
  write(marker, (error) => {
    if (error) job.dropped(error);
  });
  return marker;
}

/** Leases a sink, so that it knows what to do with markers. False where it can't be. */
export function lease(sink: Writable): boolean {
  if (!mayLease(sink) || !sink.writable) return false;
  leaseOf(sink);
  return true;
}

/** A range of a file, by the caller's descriptor. */
export interface FileRange {
  fd: number;
  offset: number;
  length: number;
}

/**
 * Sends what of a string (Latin-1) and a range of a file can be sent at once, from this thread, on a
 * socket that `whyNoDescriptor` has nothing against. Undefined, and nothing has been sent, where
 * other writes go before, or native code had rather not. A fatal error destroys the socket.
 */
export function sendNow(
  socket: net.Socket,
  head: string,
  range: FileRange,
): Completion | undefined {
  const { native } = addon;
  const { writableLength, writableCorked, connecting } = socket;
  if (!native || writableLength > 0 || writableCorked > 0 || connecting) return undefined;
  return (leaseOf(socket) as SocketLease).sendNow(native, head, range);
}

class Lease {
  protected readonly sink: Writable;
  /** What the sink had before. */
  readonly hooked: Internals;
  /** The batch in hand, and the first of it whose turn is still to come. */
  #batch: Batch = emptyBatch;
  #next = 0;

  constructor(sink: Writable) {
    this.sink = sink;
    const { _write, _writev } = sink as unknown as Internals;
    this.hooked = { _write, _writev };
    replace(sink, kLease, { value: this });
    replace(sink, '_write', { value: hooks._write });
    // A sink without a _writev gets none: Writable then calls _write for each chunk.
    if (_writev) replace(sink, '_writev', { value: hooks._writev });
  }

  isIntact(): boolean {
    const { _write, _writev } = this.sink as unknown as Internals;
    return _write === hooks._write && (!this.hooked._writev || _writev === hooks._writev);
  }

  write(chunk: Uint8Array | string, encoding: BufferEncoding, done: Done): void {
    if (chunk instanceof Marker) this.#run(chunk, none, done);
    else this.hooked._write.call(this.sink, chunk, encoding, done);
  }

  writev(batch: Batch, done: Done): void {
    if (batch.some(({ chunk }) => chunk instanceof Marker)) this.#writeBatch(batch, done);
    else this.hooked._writev?.call(this.sink, batch, done);
  }

  /** Bytes of the batch in hand that Node counts neither as buffered nor as written. */
  protected get waitingBytes(): number {
    let bytes = 0;
    for (const { chunk, encoding } of this.#batch.slice(this.#next)) {
      if (!(chunk instanceof Marker)) bytes += Buffer.byteLength(chunk as string, encoding);
    }
    return bytes;
  }

  /**
   * A Duplex that is destroyed may leave what it has buffered without an answer: then a job whose turn
   * is to come hears of it here. Returns what takes that back.
   */
  dropWhenClosed(job: Job): (() => void) | undefined {
    return closes.once(this.sink, () => job.dropped(new Error('The sink was closed')));
  }

  protected ready(_then: () => void, _failed: Done): boolean {
    return true;
  }

  /** Most bytes right before a marker that are left to its transfer, to go with its own. */
  protected get maxFirstBytes(): number {
    return 0;
  }

  protected turnOf(first: readonly Uint8Array[], done: Done): Turn {
    return new LeaseTurn(this.sink, this.hooked, first, done);
  }

  #run({ job }: Marker, first: readonly Uint8Array[], done: Done): void {
    const start = () => {
      const turn = this.turnOf(first, done);
      if (job.over) turn.release();
      else job.start(turn);
    };
    if (this.ready(start, done)) start();
  }

  /** Writes a batch in its parts: runs of ordinary chunks, and the markers between them. */
  #writeBatch(batch: Batch, done: Done): void {
    this.#batch = batch;
    this.#next = 0;
    let walking = false;
    let stepped = false;
    const next: Done = (error) => {
      if (error || this.#next === batch.length) return finish(error);
      // Node calls back what was on its way when the sink was destroyed, and without an error.
      if (this.sink.destroyed) return this.#dropRest(finish);
      stepped = true;
      if (walking) return;
      // A loop and not a recursion: a part may be done before its write returns.
      walking = true;
      while (stepped) {
        stepped = false;
        this.#writePart(next);
      }
      walking = false;
    };
    const finish: Done = (error) => {
      this.#batch = emptyBatch;
      done(error);
    };
    // Not within Node's call: what is written to a sink there, which a job may do, is lost.
    process.nextTick(next);
  }

  #dropRest(done: Done): void {
    for (const { chunk } of this.#batch.slice(this.#next)) {
      if (chunk instanceof Marker) chunk.job.dropped(new Error('The sink was destroyed'));
    }
    done();
  }

  /** Writes all up to the next marker, or that with the marker, if it isn't much. */
  #writePart(done: Done): void {
    const batch = this.#batch;
    const part: Batch = [];
    let marker: Marker | undefined;
    let bytes = 0;
    for (; this.#next < batch.length && !marker; this.#next += 1) {
      const entry = batch[this.#next] as Entry;
      if (entry.chunk instanceof Marker) {
        if (bytes > this.maxFirstBytes) break;
        marker = entry.chunk;
      } else {
        part.push(entry);
        bytes += entry.chunk.length;
      }
    }
    if (marker) {
      this.#run(marker, part.map(bytesOf), done);
    } else {
      part.allBuffers = batch.allBuffers ?? false;
      this.hooked._writev?.call(this.sink, part, done);
    }
  }
}

function bytesOf({ chunk, encoding }: Entry): Uint8Array {
  return typeof chunk === 'string' ? Buffer.from(chunk, encoding) : chunk;
}

/** A turn on any stream: there is no descriptor. */
export class LeaseTurn implements Turn {
  readonly queued = true;
  readonly #sink: Writable;
  readonly #below: Internals;
  readonly #done: Done;
  #first: readonly Uint8Array[];
  /** Chunks that the sink has and hasn't accepted yet. */
  #writing = 0;
  #afterWrites: Done | undefined;

  constructor(sink: Writable, below: Internals, first: readonly Uint8Array[], done: Done) {
    this.#sink = sink;
    this.#below = below;
    this.#first = first;
    this.#done = done;
  }

  /** Whether nothing that is written arrives any more. */
  get isGone(): boolean {
    return this.#sink.destroyed;
  }

  move(_segments: NativeSegments, _ended: (completion: Completion) => void): Fallback | undefined {
    return noHandle('sink');
  }

  splice(_flow: Flow, _ended: (completion: Completion) => void): Fallback | undefined {
    return noHandle('sink');
  }

  moved(): number {
    return 0;
  }

  cancel(): void {}

  /** Bytes that go before whatever this turn brings next, and in any case. */
  putFirst(bytes: Uint8Array): void {
    if (bytes.length > 0) this.#first = [...this.#first, bytes];
  }

  protected takeFirst(): readonly Uint8Array[] {
    const first = this.#first;
    this.#first = none;
    return first;
  }

  get waitingBytes(): number {
    return bytesIn(this.#first);
  }

  write(chunk: Uint8Array, accepted: Done): void {
    const all = this.#first.length > 0 ? Buffer.concat([...this.takeFirst(), chunk]) : chunk;
    this.#writing += 1;
    this.#below._write.call(this.#sink, all, 'buffer', (error) => {
      this.#writing -= 1;
      accepted(error);
      if (this.#writing === 0) this.#afterWrites?.(error);
    });
  }

  release(error?: Error): void {
    if (error || this.#sink.destroyed) this.#done(error);
    else if (this.#writing > 0) this.#releaseAfterWrites();
    else if (this.#first.length === 0) this.#done();
    else this.#below._write.call(this.#sink, Buffer.concat(this.takeFirst()), 'buffer', this.#done);
  }

  /** What a transfer that was broken off has on its way goes before whatever comes next. */
  #releaseAfterWrites(): void {
    const onClose = () => this.#afterWrites?.();
    this.#afterWrites = (error) => {
      this.#afterWrites = undefined;
      this.#sink.off('close', onClose);
      this.release(error ?? undefined);
    };
    this.#sink.once('close', onClose);
  }
}

function bytesIn(pieces: readonly Uint8Array[]): number {
  let bytes = 0;
  for (const { length } of pieces) bytes += length;
  return bytes;
}

/** Also keeps a socket's idle timeout and byte count right while the kernel writes to it. */
class SocketLease extends Lease {
  declare protected readonly sink: net.Socket;
  /** Bytes that the kernel has moved in turns that are over. */
  #moved = 0;
  #turn: SocketTurn | undefined;
  readonly #guard: IdleGuard;

  constructor(socket: net.Socket) {
    super(socket);
    this.#guard = IdleGuard.of(socket);
    replace(socket, 'bytesWritten', { get: bytesWrittenHook as () => unknown });
  }

  get bytesWritten(): number | undefined {
    const { writableBuffer } = this.sink as { writableBuffer?: Entry[] };
    const markers = writableBuffer?.filter(({ chunk }) => chunk instanceof Marker);
    const bytes: number | undefined = bytesWrittenOf?.call(this.sink);
    if (bytes === undefined) return undefined;
    const byTurns = this.#moved + (this.#turn?.countedBytes ?? 0);
    return bytes - (markers?.length ?? 0) + this.waitingBytes + byTurns;
  }

  /** A socket answers all of it. */
  override dropWhenClosed(): undefined {
    return undefined;
  }

  sendNow(native: Native, head: string, { fd, offset, length }: FileRange): Completion | undefined {
    if (this.#turn || head.length > MAX_HEAD_LENGTH) return undefined;
    const endpoint = endpointOf(this.sink, 'sink');
    if ('code' in endpoint) return undefined;
    const completion = native.sendNow(endpoint, head, fd, offset, length);
    if (!completion) return undefined;
    const { outcome, value } = completion;
    if (value === 0 && outcome !== Outcome.done && outcome !== Outcome.failed) return undefined;
    this.#moved += value;
    this.#guard.refresh();
    if (outcome === Outcome.failed) {
      const error = systemError(completion.errno, 'write');
      if (isSocketError(error)) this.sink.destroy(error);
    }
    return completion;
  }

  protected override get maxFirstBytes(): number {
    return MAX_FIRST_BYTES;
  }

  protected override ready(then: () => void, failed: Done): boolean {
    const socket = this.sink;
    if (!socket.connecting) return true;
    const onConnect = () => {
      socket.off('close', onClose);
      then();
    };
    const onClose = () => {
      socket.off('connect', onConnect);
      failed(socket.errored ?? new Error('The socket was closed before it was connected'));
    };
    socket.once('connect', onConnect);
    socket.once('close', onClose);
    return false;
  }

  protected override turnOf(first: readonly Uint8Array[], done: Done): Turn {
    const turn = new SocketTurn(this.sink, this.hooked, first, this.#guard, (error) => {
      this.#moved += turn.movedInAll();
      this.#turn = undefined;
      this.#guard.end(turn);
      done(error);
    });
    this.#turn = turn;
    this.#guard.begin(turn);
    return turn;
  }
}

/** A turn on a socket, whose descriptor native code may write to. */
class SocketTurn extends LeaseTurn implements Movement {
  readonly #socket: net.Socket;
  readonly #guard: IdleGuard;
  /** Bytes of the moves that are over. */
  #movedBefore = 0;
  /** The move in hand: the engine's, and how many bytes go before it. */
  #id = 0;
  #leading = 0;
  #seen = 0;

  constructor(
    socket: net.Socket,
    below: Internals,
    first: readonly Uint8Array[],
    guard: IdleGuard,
    done: Done,
  ) {
    super(socket, below, first, done);
    this.#socket = socket;
    this.#guard = guard;
  }

  override move(
    segments: NativeSegments,
    ended: (completion: Completion) => void,
  ): Fallback | undefined {
    return this.#start(ended, (native, sink, first, heard) =>
      native.send(sink, first.length > 0 ? [first, ...segments] : segments, heard),
    );
  }

  override splice(flow: Flow, ended: (completion: Completion) => void): Fallback | undefined {
    const { source, head, length } = flow;
    return this.#start(ended, (native, sink, first, heard) =>
      // Without a copy of what may be large.
      native.splice(
        source,
        sink,
        first.length > 0 ? Buffer.concat([first, head]) : head,
        length,
        heard,
      ),
    );
  }

  #start(
    ended: (completion: Completion) => void,
    start: (
      native: Native,
      sink: Endpoint,
      first: Buffer,
      heard: (completion: Completion) => void,
    ) => number,
  ): Fallback | undefined {
    const sink = endpointOf(this.#socket, 'sink');
    if ('code' in sink) return whyNoDescriptor(this.#socket) ?? sink;
    const { native } = addon;
    if (!native) return noHandle('sink');
    const pieces = this.takeFirst();
    const first = pieces.length > 0 ? Buffer.concat(pieces) : noBytes;
    this.#leading = first.length;
    this.#id = start(native, sink, first, (completion) => {
      const { value, residual } = completion;
      const leading = this.#leading;
      this.#id = 0;
      this.#leading = 0;
      this.#seen = 0;
      this.#movedBefore += value;
      this.#guard.refresh();
      if (leading === 0) return ended(completion);
      const unsent = first.subarray(value);
      this.putFirst(unsent);
      ended({
        ...completion,
        value: Math.max(0, value - leading),
        residual: residual?.subarray(unsent.length),
      });
    });
    if (this.#id !== 0) this.#guard.refresh();
    return undefined;
  }

  override moved(): number {
    return Math.max(0, this.#movedNow() - this.#leading);
  }

  override cancel(): void {
    addon.native?.cancel(this.#id);
  }

  /** Bytes of all the moves of this turn. */
  movedInAll(): number {
    return this.#movedBefore + this.#movedNow();
  }

  /** Bytes that Node doesn't count, of those that have been written to the socket. */
  get countedBytes(): number {
    return this.#movedBefore + Math.max(this.#movedNow(), this.#leading) + this.waitingBytes;
  }

  #movedNow(): number {
    if (this.#id === 0) return 0;
    // One that has ended, and whose completion is on its way, the engine may have forgotten.
    this.#seen = Math.max(this.#seen, addon.native?.transferred(this.#id) ?? 0);
    return this.#seen;
  }
}
