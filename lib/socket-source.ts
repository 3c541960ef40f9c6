// A socket, or a pipe, as a source of which native code takes the bytes.
//
// `pause()` doesn't stop libuv, so the handle is told to stop reading, and what Node has read by then
// goes first. Afterwards JavaScript reads on at the very next byte.
//
// What Node does not document of sockets as sources is touched here: `_read`, `parser`, `bytesRead`'s
// getter, the symbol kBuffer.
import { IncomingMessage } from 'node:http';
import * as net from 'node:net';
import type { Readable } from 'node:stream';
import { because } from './fallback';
import { Gate } from './gate';
import { endpointOf, handleOf, isKernelHandle, noHandle } from './handle';
import { IdleGuard, type Movement } from './idle';
import type { Turn } from './lease';
import { addon, type Completion } from './native';
import type { Fallback } from './options';

interface Internals {
  _read(size: number): void;
  read: unknown;
  push: unknown;
  unshift: unknown;
  parser?: unknown;
}

const own = net.Socket.prototype as unknown as Internals;
const bytesReadOf = Object.getOwnPropertyDescriptor(net.Socket.prototype, 'bytesRead')?.get;

/** Why native code can't take a stream's bytes; undefined when it can, as far as is known by now. */
export function whyNotNativeSource(stream: Readable): Fallback | undefined {
  if (stream instanceof IncomingMessage) return PARSED;
  if ((stream as { encrypted?: boolean }).encrypted === true) {
    return because('TLS', 'the source decrypts what it reads');
  }
  if (!(stream instanceof net.Socket)) {
    const name = stream.constructor?.name ?? 'stream';
    return because('SOURCE_STREAM', `the source is not a socket but a ${name}`);
  }
  const internals = stream as unknown as Internals;
  if (internals.parser) return PARSED;
  if (stream.readableEncoding !== null) return ENCODED;
  const { _read, push, unshift } = internals;
  const isOwn =
    (_read === own._read || (_read === hooks._read && kSource in stream)) &&
    Gate.isNodesOwn(stream, own.read) &&
    push === own.push &&
    unshift === own.unshift;
  if (!isOwn) return OVERRIDDEN;
  const handle = handleOf(stream);
  return handle === null || isKernelHandle(handle) ? undefined : noHandle('source');
}

const PARSED = because('SOURCE_PARSED', "the source is read by Node's HTTP parser");
const ENCODED = because('SOURCE_ENCODED', 'the source decodes what it reads: setEncoding()');
const OVERRIDDEN = because(
  'SOURCE_OVERRIDDEN',
  "the source's read, _read or push is not Node's own",
);

/** Whether a socket reads into a buffer of its own (the option `onread`), and so is no stream. */
export function readsElsewhere(stream: object): boolean {
  if (!(stream instanceof net.Socket)) return false;
  const symbols = Object.getOwnPropertySymbols(stream);
  const symbol = symbols.find(({ description }) => description === 'kBuffer');
  return symbol !== undefined && Boolean((stream as unknown as Record<symbol, unknown>)[symbol]);
}

/** Where a socket that native code reads from has its source. */
const kSource = Symbol('source');
type Claimed = Readable & { [kSource]?: SocketSource };

/** In the place of a socket's own, the same for all: see the hooks of lease.ts. */
const hooks = {
  _read(this: Claimed, size: number): void {
    this[kSource]?.read(size);
  },
  get bytesRead(): number | undefined {
    return (this as unknown as Claimed)[kSource]?.bytesRead;
  },
};
const bytesReadHook = Object.getOwnPropertyDescriptor(hooks, 'bytesRead')?.get;

/** A socket, or a pipe, whose bytes native code takes from time to time. */
export class SocketSource {
  readonly #socket: net.Socket;
  readonly #guard: IdleGuard;
  /** Bytes that native code has taken by now, but for the move in hand. */
  #taken = 0;
  #moving: Movement | undefined;
  #isTaken = false;
  /** Whether Node was reading, or has wanted to since. */
  #wantsToRead = false;

  static of(socket: net.Socket): SocketSource {
    let source = (socket as Claimed)[kSource];
    if (!source) {
      source = new SocketSource(socket);
      Object.defineProperty(socket, kSource, { value: source });
    }
    return source;
  }

  private constructor(socket: net.Socket) {
    this.#socket = socket;
    this.#guard = IdleGuard.of(socket);
    const get = bytesReadHook as () => unknown;
    Object.defineProperty(socket, '_read', {
      configurable: true,
      writable: true,
      value: hooks._read,
    });
    Object.defineProperty(socket, 'bytesRead', { configurable: true, get });
  }

  read(size: number): void {
    if (this.#isTaken) this.#wantsToRead = true;
    else own._read.call(this.#socket, size);
  }

  get bytesRead(): number | undefined {
    const bytes: number | undefined = bytesReadOf?.call(this.#socket);
    return bytes === undefined ? undefined : bytes + this.#takenInAll();
  }

  /** Node reads no more. */
  take(): void {
    const handle = handleOf(this.#socket);
    this.#isTaken = true;
    this.#wantsToRead = handle?.reading === true;
    if (!handle || !this.#wantsToRead) return;
    handle.reading = false;
    handle.readStop?.();
  }

  /**
   * Has native code move `head`, which Node has read, and what comes behind it, up to `limit` bytes in
   * all, and calls `ended` once. Where it can't, returns why: `head` is then the caller's to put back.
   */
  splice(
    turn: Turn,
    head: Buffer,
    limit: number,
    ended: (completion: Completion) => void,
  ): Fallback | undefined {
    const source = endpointOf(this.#socket, 'source');
    if ('code' in source) return source;
    const length = Number.isFinite(limit) ? limit - head.length : undefined;
    const taken = { movedInAll: () => Math.max(0, turn.moved() - head.length) };
    this.#moving = taken;
    this.#guard.begin(taken);
    const end = (bytes: number) => {
      this.#guard.end(taken);
      this.#moving = undefined;
      this.#taken += bytes;
    };
    const fallback = turn.splice({ source, head, length }, (completion) => {
      const { value, residual } = completion;
      end(value + (residual?.length ?? 0) - head.length);
      ended(completion);
    });
    if (fallback) end(0);
    return fallback;
  }

  /** Whether what looks like its end is a reset, which only a write has been told of. */
  hidesReset(): boolean {
    const source = endpointOf(this.#socket, 'source');
    // After its own end TCP closes it in peace, too.
    if ('code' in source || this.#socket.writableEnded) return false;
    return addon.native?.hidesReset(source.fd) === true;
  }

  /** Node reads on, where it did or has wanted to since. */
  giveBack(): void {
    this.#isTaken = false;
    if (this.#wantsToRead && !this.#socket.destroyed) own._read.call(this.#socket, 0);
  }

  #takenInAll(): number {
    return this.#taken + (this.#moving?.movedInAll() ?? 0);
  }
}
