// The drop-in: an fs.ReadStream of which what is piped to a socket goes by native code.
//
// pipe() and its bookkeeping stay Node's. The choice is made in `_read`: where one pipe() to a fit
// sink is all that reads, a stretch of the file, to the end that it then has, goes natively, and no
// 'data' is emitted for it. Whatever changes that in mid-stretch interrupts it, and an ordinary read
// follows at the byte it has reached: a `_read` must push, or the stream stalls.
//
// What Node does not document of a ReadStream is touched here and nowhere else: `pos`, `end`, `open`,
// `_readableState.pipes`.
import { AsyncResource } from 'node:async_hooks';
import * as fs from 'node:fs';
import type { Writable } from 'node:stream';
import { isMainThread } from 'node:worker_threads';
import { because } from './fallback';
import { openIfCached } from './file';
import { breakOff, isGone, isMessage } from './http';
import { afterMicrotasks, tellLater } from './later';
import type { FileRange } from './lease';
import { addon, type OpenFile } from './native';
import { isLikeNodesFs, isNodesOwnFs } from './node-fs';
import { observe } from './observe';
import type { Backend, Fallback } from './options';
import { whyNotNativeStream } from './sink';
import { notAFile, sizeUnknown } from './source';
import { countFallback } from './stats';
import { SourceTruncatedError } from './stream-backend';
import { Stretch, type StretchEnd } from './stretch';

type Options = Parameters<typeof fs.createReadStream>[1];
type Callback = (error?: Error | null) => void;

/** What fs.ReadStream has, and Node's types leave out. */
interface Internals {
  fd: number | null;
  pos: number | undefined;
  end: number;
  autoClose: boolean;
  flags: string | number;
  open: unknown;
  _construct(callback: Callback): void;
  _readableState: { pipes: Sink[] };
}

type Sink = NodeJS.WritableStream & Partial<Writable>;

const nodes = fs.ReadStream.prototype as unknown as Internals;
const { open: ownOpen } = nodes;

/** Node's types leave out that it can be made without createReadStream(). */
const NodesReadStream = fs.ReadStream as new (
  path: fs.PathLike,
  options?: Options,
) => fs.ReadStream;

/** As fs.createReadStream() makes them; what goes natively to a socket emits no 'data'. */
export class ReadStream extends NodesReadStream {
  /** Why it is an ordinary stream for good. */
  #never: Fallback | undefined;
  /** Made with an aborted signal: destroyed by now, so that what is opened would never be closed. */
  #stillborn: boolean;
  #positioned: boolean;
  /** Opened here, and not by Node's fs; and what opening told of it. */
  #openedHere = false;
  #openHeard = false;
  #facts: OpenFile | undefined;
  #stretch: Stretch | undefined;
  #afterStretch: (() => void) | undefined;
  #hasReadOrdinarily = false;
  #hasPushed = false;
  #showsProgress = false;
  #backend: Backend | undefined;
  #fallback: Fallback | undefined;

  constructor(path: fs.PathLike, options?: Options) {
    super(path, options);
    this.#stillborn = this.destroyed;
    this.#never = whyNever(this, options);
    this.#positioned = typeof options === 'object' && options?.fd != null;
  }

  /**
   * The way that bytes have gone: `'stream'` once any has gone through JavaScript; undefined before
   * the first.
   */
  get backend(): Backend | undefined {
    return this.#backend;
  }

  /** Why bytes went through JavaScript, the first time that they did. */
  get fallback(): Fallback | undefined {
    return this.#fallback;
  }

  static {
    for (const name of ['on', 'addListener', 'prependListener'] as const) {
      const inherited = ReadStream.prototype[name] as (...args: unknown[]) => ReadStream;
      Object.defineProperty(ReadStream.prototype, name, {
        configurable: true,
        writable: true,
        value: function (this: ReadStream, ...args: unknown[]) {
          inherited.apply(this, args);
          if (#stretch in this) this.#reconsider(); // and not from within Node's constructor
          return this;
        },
      });
    }
  }

  get #internals(): Internals {
    return this as unknown as Internals;
  }

  // What reads it.

  override pipe<T extends NodeJS.WritableStream>(sink: T, options?: { end?: boolean }): T {
    super.pipe(sink, options);
    this.#reconsider();
    if (isClosed(sink)) this.#closeUnlessClaimed(sink);
    return sink;
  }

  override unpipe(sink?: NodeJS.WritableStream): this {
    const stretch = this.#stretch;
    super.unpipe(sink);
    this.#reconsider();
    // As pipe() does for others when the sink that it leaves has kept them waiting.
    if (stretch && this.readableFlowing === false && this.listenerCount('data') > 0) this.resume();
    if (sink) this.#closeUnlessClaimed(sink);
    return this;
  }

  override pause(): this {
    super.pause();
    this.#reconsider();
    return this;
  }

  override setEncoding(encoding: BufferEncoding): this {
    super.setEncoding(encoding);
    this.#reconsider();
    return this;
  }

  #reconsider(): void {
    if (this.#stretch && this.#whyNotNow()) this.#stretch.interrupt();
  }

  /** Node's pipe() forgets the file when its sink closes early. `otherwise` is for who claims it. */
  #closeUnlessClaimed(sink: NodeJS.WritableStream, otherwise: () => void = () => {}): void {
    if (this.destroyed || this.readableEnded) return;
    if (!this.#internals.autoClose) return otherwise();
    setImmediate(() => {
      if (this.destroyed) return;
      const { pipes } = this.#internals._readableState;
      const ofPipes = pipes.length;
      const claimed =
        !pipes.every(isClosed) ||
        this.listenerCount('data') > ofPipes ||
        this.listenerCount('readable') > 0 ||
        (ofPipes === 0 && this.readableFlowing === true);
      if (!claimed && isClosed(sink)) this.destroy();
      else otherwise();
    });
  }

  #whyNotNow(): Fallback | undefined {
    const { pipes } = this.#internals._readableState;
    const [sink] = pipes;
    if (
      sink === undefined ||
      pipes.length > 1 ||
      this.readableFlowing !== true ||
      this.readableLength > 0 ||
      this.readableEncoding !== null ||
      this.listenerCount('data') !== 1 ||
      this.listenerCount('readable') > 0
    ) {
      return READERS;
    }
    if (sink.destroyed || sink.writableEnded) return SINK_GONE;
    return sink.writableCorked ? SINK_CORKED : whyNotNativeStream(sink);
  }

  // What it reads.

  override _construct(callback: Callback): void {
    if (this.#stillborn) return callback();
    const { fd, path, flags, open } = this.#internals as Internals & { path: unknown };
    const mayOpen =
      fd === null &&
      typeof path === 'string' &&
      (flags === 'r' || flags === fs.constants.O_RDONLY) &&
      open === ownOpen &&
      this.#never === undefined &&
      // A worker that is terminated closes what Node's fs has opened there.
      isMainThread;
    const opened = mayOpen ? openIfCached(path, 'openPlain') : undefined;
    if (!opened) return nodes._construct.call(this, callback);
    if (opened.kind !== 'file') {
      // Kept open until Node has opened it too, so that a FIFO's writer doesn't find it gone.
      nodes._construct.call(this, (error) => {
        fs.closeSync(opened.fd);
        callback(error);
      });
      return;
    }
    this.#openedHere = true;
    this.#facts = opened;
    const context = new AsyncResource('ZEROCOPY');
    tellLater(() =>
      context.runInAsyncScope(() => {
        this.#internals.fd = opened.fd;
        callback();
        const heard = this.emit('open', opened.fd);
        this.#openHeard = this.emit('ready') || heard;
      }),
    );
  }

  override push(chunk: unknown, encoding?: BufferEncoding): boolean {
    this.#hasPushed ||= chunk !== null;
    return super.push(chunk, encoding);
  }

  override unshift(chunk: unknown, encoding?: BufferEncoding): void {
    this.#hasPushed = true;
    super.unshift(chunk, encoding);
  }

  override _read(size: number): void {
    const fallback = this.#never ?? this.#whyNotNow();
    if (fallback) return this.#readOrdinarily(size, fallback);
    if (this.#hasPushed) {
      // Since Node 26.12 what has been pushed may be in nobody's buffer here: it is handed on when this
      // returns, and goes first.
      this.#hasPushed = false;
      process.nextTick(() => this.#readLater(size));
      return;
    }
    const range = this.#range();
    if ('code' in range) return this.#readOrdinarily(size, range);
    if (range.length === 0) return this.#pushEnd();
    const before = this.bytesRead;
    const sink = this.#internals._readableState.pipes[0] as NodeJS.WritableStream;
    const observation = observe(this, sink, 'file');
    const stretch = new Stretch(range, sink, size, observation, (end) =>
      this.#stretchEnded(end, range, before, size),
    );
    this.#stretch = stretch;
    observation.begin(stretch);
    if (this.#stretch) this.#showProgress(stretch);
  }

  #readLater(size: number): void {
    if (!this.destroyed) this._read(size);
  }

  /** While it is under way, `bytesRead` grows as if the bytes were read here. */
  #showProgress(stretch: Stretch): void {
    let bytes = this.bytesRead;
    this.#showsProgress = true;
    Object.defineProperty(this, 'bytesRead', {
      configurable: true,
      enumerable: true,
      get: () => bytes + stretch.moved(),
      set: (value: number) => {
        bytes = value;
      },
    });
  }

  #pushEnd(): void {
    if (!this.#openHeard) {
      this.push(null);
      return;
    }
    // Later than what has been waiting for 'open' only: with fs the end takes a read.
    afterMicrotasks(() => {
      if (!this.destroyed) this.push(null);
    });
  }

  #readOrdinarily(size: number, fallback: Fallback): void {
    this.#hasReadOrdinarily = true;
    if (!this.#fallback) {
      this.#fallback = { ...fallback, at: this.bytesRead };
      countFallback(fallback);
    }
    this.#backend = 'stream';
    super._read(size);
  }

  /** What is left to read, as far as the file goes by now. */
  #range(): FileRange | Fallback {
    const { native } = addon;
    const { fd, pos, end } = this.#internals;
    if (!native || fd === null) return READERS;
    const asked = end - (pos ?? this.bytesRead) + 1;
    if (asked <= 0) return { fd, offset: 0, length: 0 };
    let offset = pos ?? this.bytesRead;
    if (pos === undefined && this.#positioned) offset = native.seek(fd);
    if (offset < 0) return unsupported('lseek');
    let file = this.#facts;
    this.#facts = undefined;
    if (!file || file.size <= offset) file = native.inspect(fd);
    if (file.fd < 0) return unsupported('statx');
    if (file.kind !== 'file') return notAFile(file.kind);
    if (!file.sizeKnown) return sizeUnknown();
    return { fd, offset, length: Math.max(0, Math.min(file.size - offset, asked)) };
  }

  #stretchEnded(end: StretchEnd, { offset }: FileRange, before: number, size: number): void {
    const [sink] = this.#internals._readableState.pipes;
    this.#stretch = undefined;
    if (this.#showsProgress) {
      this.#showsProgress = false;
      Object.defineProperty(this, 'bytesRead', { value: before, writable: true });
    }
    this.bytesRead = before + end.moved;
    if (end.moved > 0) {
      this.#backend ??= end.backend;
      this.#setPosition(offset + end.moved);
    }
    if (end.truncated && sink && isMessage(sink)) this.#breakOff(sink);
    if (this.destroyed) return this.#afterStretch?.();
    if (end.atFileEnd) {
      this.#pushEnd();
    } else if (end.fallback) {
      this.#never = end.fallback;
      this.#readOrdinarily(size, end.fallback);
    } else if (end.sinkGone) {
      // For whoever claims it; nothing has gone that way yet. Nobody does, as a rule, and thousands
      // of streams may lose their sink at once: none of them reads before that is known.
      const readOn = () => {
        this.#hasReadOrdinarily = true;
        super._read(size);
      };
      if (sink) this.#closeUnlessClaimed(sink, readOn);
      else readOn();
    } else if (end.truncated && end.moved === 0) {
      this.#readOrdinarily(size, sizeUnknown());
    } else if (this.#isAtEnd()) {
      this.#pushEnd(); // whatever there is against going on
    } else if (this.#hasNoReader()) {
      this.#afterClaims(() => this._read(size));
    } else {
      this._read(size);
    }
  }

  /** Not before it is known whether anybody still reads: the disk may be one that has died. */
  #afterClaims(read: () => void): void {
    setImmediate(() => {
      if (!this.destroyed) read();
    });
  }

  #hasNoReader(): boolean {
    const { pipes } = this.#internals._readableState;
    return (
      pipes.length === 0 && this.listenerCount('data') === 0 && this.listenerCount('readable') === 0
    );
  }

  #isAtEnd(): boolean {
    const range = this.#range();
    return 'fd' in range && range.length === 0;
  }

  #setPosition(position: number): void {
    const internals = this.#internals;
    if (internals.pos === undefined && (this.#positioned || !internals.autoClose)) {
      // Whoever has the descriptor finds it where reading would have left it.
      addon.native?.seek(internals.fd as number, position);
    } else {
      internals.pos = position;
    }
  }

  /** The length of a message was promised, and the file has become shorter. */
  #breakOff(sink: Parameters<typeof breakOff>[0]): void {
    const error = new SourceTruncatedError();
    // fs ends such a stream without an error: nobody who doesn't listen must be hit by one.
    if (!this.destroyed) this.destroy(this.listenerCount('error') > 0 ? error : undefined);
    breakOff(sink, error);
  }

  override _destroy(error: Error | null, callback: Callback): void {
    // Node's constructor destroys what comes with an aborted signal.
    if (!(#stretch in this)) return super._destroy(error, callback);
    if (!this.#stretch) return this.#close(error, callback);
    this.#afterStretch = () => this.#close(error, callback);
    this.#stretch.interrupt();
  }

  #close(error: Error | null, callback: Callback): void {
    const internals = this.#internals;
    // Node's waits for a read that is on its way, and closes on another thread.
    if (!this.#openedHere || this.#hasReadOrdinarily || internals.fd === null) {
      super._destroy(error, callback);
      return;
    }
    let failure = error;
    try {
      fs.closeSync(internals.fd);
    } catch (closeError) {
      failure ??= closeError as Error;
    }
    internals.fd = null;
    afterMicrotasks(() => callback(failure));
  }
}

function whyNever(stream: ReadStream, options: Options): Fallback | undefined {
  if (!addon.native) return because(addon.code, addon.reason);
  const { fs: given } = (typeof options === 'object' && options) || {};
  if (given ? !isLikeNodesFs(given) : !isNodesOwnFs()) return SOURCE_FS;
  const unlikeFs = stream.readableObjectMode || !(stream.readableHighWaterMark > 0);
  return unlikeFs ? READERS : undefined;
}

function isClosed(sink: NodeJS.WritableStream): boolean {
  const { destroyed, writableFinished } = sink as Sink;
  return destroyed === true || writableFinished === true || (isMessage(sink) && isGone(sink));
}

const READERS = because('READERS', 'it is not read by one pipe() alone, as bytes');
const SINK_GONE = because('SINK_HANDLE', 'the sink has been ended or destroyed');
const SINK_CORKED = because('SINK_CORKED', 'the sink is corked');
const SOURCE_FS = because('SOURCE_FS', "the functions of fs are not Node's own");
const unsupported = (call: string) => because('UNSUPPORTED', `${call} failed`);

/**
 * `fs.createReadStream()`, with the same options, events and errors, whose bytes go natively where
 * it is piped, by `pipe()` or `stream.pipeline()`, to a TCP or Unix socket, a ServerResponse or a
 * ClientRequest, and to nothing else. Anything else that reads it finds an ordinary stream, also in
 * mid-transfer: it goes on at the byte it has reached. `backend` and `fallback` tell which way its
 * bytes went.
 *
 * Unlike `fs`, with `autoClose` it doesn't leak the descriptor when its only sink closes early: it is
 * destroyed, unless something else reads it a turn of the event loop later. And a file that shrinks
 * under an HTTP message breaks the connection off, since its length was promised.
 */
export function createReadStream(path: fs.PathLike, options?: Options): ReadStream {
  return new ReadStream(path, options);
}
