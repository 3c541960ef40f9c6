// The lease on a sink: a transfer's turn in the sink's own queue of writes.
//
// A marker goes through `sink.write()` like any chunk. When the sink's `_write` or `_writev`, hooked
// on the instance, meets it, the transfer runs; when that ends, so does the marker's write. Order
// with other writes, `end()`, 'finish', 'drain', cork and connecting sockets follow from that.
//
// Everything that Node does not document is touched in this file, and nowhere else: `_write`,
// `_writev`, `_handle`, `_onTimeout`, `_unrefTimer`. test/node-internals.test.ts fails when a
// release of Node changes any of it.
import * as net from 'node:net';
import { Writable } from 'node:stream';
import type { Fallback } from './options';

type Done = (error?: Error | null) => void;
type Entry = { chunk: Uint8Array | string; encoding: BufferEncoding };
type Batch = Entry[] & { allBuffers?: boolean };
type Write = (chunk: Uint8Array | string, encoding: BufferEncoding | 'buffer', done: Done) => void;
type Writev = (batch: Batch, done: Done) => void;

interface Internals {
  _write: Write;
  _writev?: Writev | null | undefined;
}

interface SocketInternals extends Internals {
  _handle: { fd?: number; constructor: { name: string } } | null;
  _onTimeout(): void;
  _unrefTimer(): void;
  encrypted?: boolean;
  writableBuffer?: Entry[];
}

/** A transfer that waits for its turn. */
export interface Job {
  /** Its turn has come. */
  start(turn: Turn): void;
  /** Its turn will never come: the sink was destroyed. */
  dropped(error: Error): void;
}

/** The time in which a sink is a transfer's alone. */
export interface Turn {
  /** Whether its place among the sink's writes was taken when the transfer was asked for. */
  readonly queued: boolean;
  /** Writes below the queue. `done` is called when the sink has accepted the chunk. */
  write(chunk: Uint8Array, done: Done): void;
  /** Lets the next write pass; with an error the sink fails, as from a write of its own. */
  release(error?: Error): void;
  /** The descriptor that native code may write to now, or why there is none. */
  descriptor(): { fd: number } | { fallback: Fallback };
  /** Native code has begun to move bytes; `moved` tells how many so far. */
  kernelBegan(moved: () => number): void;
  kernelEnded(moved: number): void;
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

const leases = new WeakMap<Writable, Lease>();

/**
 * Why a sink that is a stream can't be written to by native code, as far as that can be told before
 * its turn; undefined when it can.
 */
export function whyNoDescriptor(sink: NodeJS.WritableStream): Fallback | undefined {
  if ((sink as { encrypted?: boolean }).encrypted === true) {
    return { code: 'TLS', message: 'the sink encrypts what is written to it', at: 0 };
  }
  if (!(sink instanceof net.Socket)) {
    const name = sink.constructor?.name ?? 'stream';
    return { code: 'SINK_TYPE', message: `the sink is not a socket but a ${name}`, at: 0 };
  }
  if (!mayLease(sink) || !isNodesOwn(sink)) return foreignWrite();
  const { _handle: handle } = sink as unknown as SocketInternals;
  return handle === null || isKernelHandle(handle) ? undefined : noHandle();
}

/** Whether a lease can be had: nobody stands between `write` and the hooks. */
export function mayLease(sink: NodeJS.WritableStream): sink is Writable {
  return (
    sink instanceof Writable &&
    sink.write === Writable.prototype.write &&
    (leases.get(sink)?.isIntact() ?? true)
  );
}

/** Whether what a socket does with a chunk, below its lease if it has one, is Node's own. */
function isNodesOwn(socket: net.Socket): boolean {
  const { _write, _writev } = leases.get(socket)?.hooked ?? (socket as unknown as Internals);
  const own = net.Socket.prototype as unknown as Internals;
  return _write === own._write && _writev === own._writev;
}

/** Queues a transfer behind what has been written to the sink so far. */
export function enqueue(sink: Writable, job: Job): void {
  let lease = leases.get(sink);
  if (!lease) {
    lease = sink instanceof net.Socket ? new SocketLease(sink) : new Lease(sink);
    leases.set(sink, lease);
  }
  lease.enqueue(job);
}

class Lease {
  protected readonly sink: Writable;
  /** What the sink had before. */
  readonly hooked: Internals;
  readonly #hooks: Internals;
  /** The batch in hand, and the first of it whose turn is still to come. */
  #batch: Batch = [];
  #next = 0;

  constructor(sink: Writable) {
    this.sink = sink;
    const { _write, _writev } = sink as unknown as Internals;
    this.hooked = { _write, _writev };
    this.#hooks = {
      _write: (chunk, encoding, done) => {
        if (chunk instanceof Marker) this.#run(chunk, done);
        else _write.call(sink, chunk, encoding, done);
      },
      // A sink without a _writev gets none: Writable then calls _write for each chunk.
      _writev:
        _writev &&
        ((batch, done) => {
          if (batch.some(({ chunk }) => chunk instanceof Marker)) this.#writeBatch(batch, done);
          else _writev.call(sink, batch, done);
        }),
    };
    this.replace('_write', { value: this.#hooks._write });
    if (_writev) this.replace('_writev', { value: this.#hooks._writev });
  }

  /** Puts a property of our own over one of the prototype's. */
  protected replace(name: string, property: PropertyDescriptor): void {
    const changeable = 'value' in property ? { writable: true } : {};
    Object.defineProperty(this.sink, name, { configurable: true, ...changeable, ...property });
  }

  isIntact(): boolean {
    const { _write, _writev } = this.sink as unknown as Internals;
    return _write === this.#hooks._write && _writev === this.#hooks._writev;
  }

  enqueue(job: Job): void {
    this.sink.write(new Marker(job), (error) => {
      if (error) job.dropped(error);
    });
  }

  /** Bytes of the batch in hand that Node counts neither as buffered nor as written. */
  protected get waitingBytes(): number {
    let bytes = 0;
    for (const { chunk, encoding } of this.#batch.slice(this.#next)) {
      if (!(chunk instanceof Marker)) bytes += Buffer.byteLength(chunk as string, encoding);
    }
    return bytes;
  }

  protected ready(_then: () => void, _failed: Done): boolean {
    return true;
  }

  protected turnOf(done: Done): Turn {
    return {
      queued: true,
      write: (chunk, accepted) => this.hooked._write.call(this.sink, chunk, 'buffer', accepted),
      release: done,
      descriptor: () => ({ fallback: noHandle() }),
      kernelBegan: () => {},
      kernelEnded: () => {},
    };
  }

  #run(marker: Marker, done: Done): void {
    const start = () => marker.job.start(this.turnOf(done));
    if (this.ready(start, done)) start();
  }

  /** Writes a batch in its parts: runs of ordinary chunks, and the markers between them. */
  #writeBatch(batch: Batch, done: Done): void {
    this.#batch = batch;
    this.#next = 0;
    let walking = false;
    let stepped = false;
    const next: Done = (error) => {
      if (error) return finish(error);
      stepped = true;
      if (walking) return;
      // A loop and not a recursion: a part may be done before its write returns.
      walking = true;
      while (stepped) {
        stepped = false;
        if (this.#next === batch.length) finish();
        else this.#writePart(next);
      }
      walking = false;
    };
    const finish: Done = (error) => {
      this.#batch = [];
      done(error);
    };
    next();
  }

  /** Writes a marker, or all up to the next one. */
  #writePart(done: Done): void {
    const batch = this.#batch;
    const from = this.#next;
    const first = batch[from]?.chunk;
    if (first instanceof Marker) {
      this.#next += 1;
      return this.#run(first, done);
    }
    while (this.#next < batch.length && !(batch[this.#next]?.chunk instanceof Marker)) {
      this.#next += 1;
    }
    const part: Batch = batch.slice(from, this.#next);
    part.allBuffers = batch.allBuffers ?? false;
    this.hooked._writev?.call(this.sink, part, done);
  }
}

/** Also keeps a socket's idle timeout and byte count right while the kernel writes to it. */
class SocketLease extends Lease {
  declare protected readonly sink: net.Socket;
  /** Bytes that the kernel has moved in turns that are over. */
  #moved = 0;
  #movedNow: (() => number) | undefined;
  #movedAtTimeout = 0;

  constructor(socket: net.Socket) {
    super(socket);
    const internals = socket as unknown as SocketInternals;
    const onTimeout = internals._onTimeout;
    this.replace('_onTimeout', {
      value: () => {
        const moved = this.#total();
        if (this.#movedNow === undefined || moved === this.#movedAtTimeout) {
          onTimeout.call(socket);
          return;
        }
        this.#movedAtTimeout = moved;
        internals._unrefTimer();
      },
    });
    // The running timer was bound to the prototype's _onTimeout.
    if (socket.timeout) socket.setTimeout(socket.timeout);

    this.replace('bytesWritten', {
      get: () => {
        const markers = internals.writableBuffer?.filter(({ chunk }) => chunk instanceof Marker);
        const bytes: number | undefined = bytesWrittenOf?.call(socket);
        if (bytes === undefined) return undefined;
        return bytes - (markers?.length ?? 0) + this.waitingBytes + this.#total();
      },
    });
  }

  #total(): number {
    return this.#moved + (this.#movedNow?.() ?? 0);
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

  protected override turnOf(done: Done): Turn {
    const internals = this.sink as unknown as SocketInternals;
    return {
      ...super.turnOf(done),
      descriptor: () => {
        const fd = internals._handle?.fd ?? -1;
        if (internals._handle === null || !isKernelHandle(internals._handle) || fd < 0) {
          return { fallback: noHandle() };
        }
        return { fd };
      },
      kernelBegan: (moved) => {
        this.#movedNow = moved;
        this.#movedAtTimeout = this.#moved;
        internals._unrefTimer();
      },
      kernelEnded: (moved) => {
        this.#movedNow = undefined;
        this.#moved += moved;
        internals._unrefTimer();
      },
    };
  }
}

function isKernelHandle(handle: { constructor: { name: string } }): boolean {
  const { name } = handle.constructor;
  return name === 'TCP' || name === 'Pipe';
}

function noHandle(): Fallback {
  return { code: 'SINK_HANDLE', message: 'the sink has no TCP or Unix socket of its own', at: 0 };
}

function foreignWrite(): Fallback {
  const message = "the sink's write, _write or _writev is not Node's own";
  return { code: 'SINK_OVERRIDDEN', message, at: 0 };
}
