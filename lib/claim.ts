// The claim on a source: a stream that a transfer reads, and nobody else meanwhile.
//
// A 'readable' listener keeps others from it, as it keeps any stream from flowing. From a socket or a
// pipe whose bytes native code takes, Node is kept too: `pause()` doesn't stop libuv, so its handle is
// told to, and what Node has read by then goes first. When the claim ends, JavaScript reads on at the
// very next byte.
//
// What Node does not document of sockets as sources is touched here: `_read`, `parser`, `bytesRead`'s
// getter, the symbol kBuffer.
import { IncomingMessage } from 'node:http';
import * as net from 'node:net';
import type { Readable } from 'node:stream';
import { because } from './fallback';
import { endpointOf, handleOf, isKernelHandle, noHandle } from './handle';
import { IdleGuard } from './idle';
import type { Turn } from './lease';
import type { Completion, Endpoint } from './native';
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
  const { _read, read, push, unshift } = internals;
  const isOwn =
    (_read === own._read || sources.get(stream)?.reads === _read) &&
    read === own.read &&
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

/** Claims wait for those before them: each stream's last one. */
const last = new WeakMap<Readable, Promise<void>>();

/** A claim on a stream: at once, or when those before it have ended. */
export function claim(stream: Readable): Claim | Promise<Claim> {
  const before = last.get(stream);
  let ended!: () => void;
  const promise = new Promise<void>((resolve) => {
    ended = resolve;
  });
  last.set(stream, promise);
  const make = () =>
    new Claim(stream, () => {
      if (last.get(stream) === promise) last.delete(stream);
      ended();
    });
  return before ? before.then(make) : make();
}

const ignore = () => {};

export class Claim {
  readonly stream: Readable;
  readonly #wasPaused: boolean;
  readonly #ended: () => void;
  #source: SocketSource | undefined;
  #over = false;

  constructor(stream: Readable, ended: () => void) {
    this.stream = stream;
    this.#ended = ended;
    this.#wasPaused = stream.isPaused?.() ?? false;
    stream.on('readable', ignore);
  }

  /**
   * Has native code move what comes from a socket that `whyNotNativeSource` has nothing against, up
   * to `limit` bytes with what Node has read by now, and calls `ended` once. Node doesn't read it from
   * here on, until `giveBack()`. Where native code can't, returns why, and nothing has happened.
   */
  splice(turn: Turn, limit: number, ended: (completion: Completion) => void): Fallback | undefined {
    const source = SocketSource.of(this.stream as net.Socket);
    this.#source = source;
    source.take();
    const endpoint = source.endpoint();
    if ('code' in endpoint) return endpoint;
    const head = source.read(limit);
    const length = Number.isFinite(limit) ? limit - head.length : undefined;
    source.begin(() => Math.max(0, turn.moved() - head.length));
    const fallback = turn.splice({ source: endpoint, head, length }, (completion) => {
      const { value, residual } = completion;
      source.end(value + (residual?.length ?? 0) - head.length);
      ended(completion);
    });
    if (fallback) {
      source.end(0);
      this.stream.unshift(head);
    }
    return fallback;
  }

  /** Lets JavaScript read on, by this claim's holder for now. */
  giveBack(): void {
    this.#source?.giveBack();
    this.#source = undefined;
  }

  end(): void {
    if (this.#over) return;
    this.#over = true;
    this.giveBack();
    const { stream } = this;
    stream.off('readable', ignore);
    // Without a 'readable' listener Node lets a stream flow that has one for 'data', paused or not.
    if (this.#wasPaused && !stream.destroyed) process.nextTick(() => stream.pause());
    this.#ended();
  }
}

const sources = new WeakMap<Readable, SocketSource>();

/** A socket, or a pipe, whose bytes native code takes from time to time. */
class SocketSource {
  readonly #socket: net.Socket;
  readonly #guard: IdleGuard;
  /** Bytes that native code has taken by now, but for the move in hand. */
  #taken = 0;
  #moving: (() => number) | undefined;
  #isTaken = false;
  /** Whether Node was reading, or has wanted to since. */
  #wantsToRead = false;
  /** In the place of the socket's `_read`. */
  readonly reads: Internals['_read'];

  static of(socket: net.Socket): SocketSource {
    let source = sources.get(socket);
    if (!source) {
      source = new SocketSource(socket);
      sources.set(socket, source);
    }
    return source;
  }

  private constructor(socket: net.Socket) {
    this.#socket = socket;
    this.#guard = IdleGuard.of(socket);
    this.reads = (size) => {
      if (this.#isTaken) this.#wantsToRead = true;
      else own._read.call(socket, size);
    };
    Object.defineProperty(socket, '_read', {
      configurable: true,
      writable: true,
      value: this.reads,
    });
    Object.defineProperty(socket, 'bytesRead', {
      configurable: true,
      get: () => {
        const bytes: number | undefined = bytesReadOf?.call(socket);
        return bytes === undefined ? undefined : bytes + this.#takenInAll();
      },
    });
  }

  endpoint(): Endpoint | Fallback {
    return endpointOf(this.#socket, 'source');
  }

  take(): void {
    const handle = handleOf(this.#socket);
    this.#isTaken = true;
    this.#wantsToRead = handle?.reading === true;
    if (!handle || !this.#wantsToRead) return;
    handle.reading = false;
    handle.readStop?.();
  }

  /** What Node has read, up to `most` bytes. */
  read(most: number): Buffer {
    const chunks: Buffer[] = [];
    for (let left = most; left > 0; ) {
      const { readableLength } = this.#socket;
      const chunk: Buffer | null = this.#socket.read(Math.min(left, readableLength) || undefined);
      if (chunk === null) break;
      chunks.push(chunk);
      left -= chunk.length;
    }
    return Buffer.concat(chunks);
  }

  /** A move begins; `moved` tells how many bytes it has taken. */
  begin(moved: () => number): void {
    this.#moving = moved;
    this.#guard.begin(moved);
  }

  /** The move is over, and has taken so many bytes. */
  end(bytes: number): void {
    if (this.#moving) this.#guard.end(this.#moving);
    this.#moving = undefined;
    this.#taken += bytes;
  }

  giveBack(): void {
    this.#isTaken = false;
    if (this.#wantsToRead && !this.#socket.destroyed) own._read.call(this.#socket, 0);
  }

  #takenInAll(): number {
    return this.#taken + (this.#moving?.() ?? 0);
  }
}
