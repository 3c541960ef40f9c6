// What the stream backend is made of: a stream over a gather list, and the pump.
import * as fs from 'node:fs';
import { Readable } from 'node:stream';
import { tellsOfDestroy } from './errors';
import type { OpenRange, Part } from './source';

/** As fs.createReadStream's default. */
export const CHUNK_BYTES = 64 * 1024;

/** Reads the parts of a gather list, from the byte `from` on. */
export class PartsReader extends Readable {
  readonly #parts: readonly Part[];
  #index = 0;
  /** Bytes of the current part that have been read, or are to be skipped. */
  #within: number;
  #reading = false;
  #afterRead: (() => void) | undefined;

  constructor(parts: readonly Part[], from: number) {
    super({ highWaterMark: CHUNK_BYTES });
    this.#parts = parts;
    this.#within = from;
    for (let part = parts[0]; part?.length !== undefined && this.#within >= part.length; ) {
      this.#within -= part.length;
      part = parts[++this.#index];
    }
  }

  override _read(): void {
    // A loop and not a recursion: there may be any number of empty parts.
    while (this.#parts[this.#index]?.length === this.#within) this.#nextPart();
    const part = this.#parts[this.#index];
    if (part === undefined) {
      this.push(null);
      return;
    }
    const left = part.length === undefined ? CHUNK_BYTES : part.length - this.#within;
    if ('memory' in part) {
      const chunk = sliceOf(part.memory, this.#within, Math.min(left, CHUNK_BYTES));
      if (chunk) this.#push(chunk);
      else this.destroy(new SourceTruncatedError());
    } else {
      this.#readFile(part, Math.min(left, CHUNK_BYTES));
    }
  }

  #readFile(part: OpenRange, count: number): void {
    const buffer = Buffer.allocUnsafe(count);
    const position = part.seekable ? part.offset + this.#within : null;
    this.#reading = true;
    fs.read(part.fd, buffer, 0, count, position, (error, bytesRead) => {
      this.#reading = false;
      this.#afterRead?.();
      if (this.destroyed) return;
      if (error) this.destroy(error);
      else if (bytesRead > 0) this.#push(buffer.subarray(0, bytesRead));
      else if (part.sizeKnown) this.destroy(new SourceTruncatedError());
      else {
        this.#nextPart();
        this._read();
      }
    });
  }

  #push(chunk: Buffer): void {
    this.#within += chunk.length;
    this.push(chunk);
  }

  #nextPart(): void {
    this.#index += 1;
    this.#within = 0;
  }

  /** Calls back when no read is in hand, so that the descriptors may be closed. */
  whenIdle(then: () => void): void {
    if (this.#reading) this.#afterRead = then;
    else then();
  }
}

/** The source ended before the bytes that it had when the transfer started. */
export class SourceTruncatedError extends Error {
  readonly code = 'ERR_SOURCE_TRUNCATED';
  constructor() {
    super('The source ended before the bytes that it had when the transfer started');
  }
}

/**
 * A copy of a piece of memory: the caller's buffer may be transferred away or shrunk while the piece
 * is on its way. Undefined when it already has been.
 */
function sliceOf(memory: Uint8Array, from: number, count: number): Buffer | undefined {
  // A detached buffer has no length, and subarray() of it throws.
  if (memory.length < from + count) return undefined;
  return Buffer.from(memory.subarray(from, from + count));
}

/** Where a pump puts what it takes, and whom it tells. */
interface Outlet {
  write(chunk: Buffer, done: (error?: Error | null) => void): void;
  accepted(bytes: number): void;
  ended(end: PumpEnd): void;
}

const EVENTS = ['end', 'close'] as const;

/** A stream, and the way in which it is read. */
export interface PumpSource {
  stream: Readable;
  read(size?: number): unknown;
  /** Has it called back when there may be something to read; or no longer. */
  listen(onReadable: (() => void) | undefined): void;
}

/** The way of a stream that is nobody else's. */
export function ownStream(stream: Readable): PumpSource {
  let listener: (() => void) | undefined;
  return {
    stream,
    read: (size) => stream.read(size),
    listen: (onReadable) => {
      if (listener) stream.off('readable', listener);
      if (onReadable) stream.on('readable', onReadable);
      listener = onReadable;
    },
  };
}

/**
 * What to give `read()` so that no more than `most` bytes are taken, as far as can be. A stream that has
 * failed drops what is put back, without a word, and what it still has would come in its place.
 */
export function sizeUpTo(most: number, stream: Readable): number | undefined {
  const { readableLength, readableHighWaterMark, readableObjectMode, readableEncoding } = stream;
  if (!(most < readableLength) || readableObjectMode || readableEncoding) return undefined;
  // Who asks for a number beyond the highWaterMark raises it, for good.
  return Math.min(most, readableHighWaterMark || 1);
}

interface PumpEnd {
  error?: Error;
  /** Which side the error came from. */
  side?: 'source' | 'sink';
  /** Taken from the source and not accepted by the sink. */
  residual?: Buffer;
}

/**
 * Moves up to `limit` bytes from a stream, chunk by chunk, each when the one before it has been
 * accepted. Leaves the source where it is: neither ended nor destroyed, readable at the next byte.
 */
export class Pump {
  readonly #way: PumpSource;
  readonly #outlet: Outlet;
  readonly #onEvent = () => this.#run();
  readonly #onError = (error: Error) => this.#end({ ...this.#unaccepted, error, side: 'source' });
  #left: number;
  #inHand: Buffer | undefined;
  #running = false;
  #over = false;

  constructor(way: PumpSource, limit: number, outlet: Outlet) {
    this.#way = way;
    this.#left = limit;
    this.#outlet = outlet;
  }

  start(): void {
    const { stream } = this.#way;
    for (const event of EVENTS) stream.on(event, this.#onEvent);
    stream.on('error', this.#onError);
    this.#way.listen(this.#onEvent);
    this.#run();
  }

  /** Stops at once. What the source had given and the sink not yet accepted is returned. */
  stop(): Buffer | undefined {
    this.#detach();
    return this.#inHand;
  }

  get #unaccepted(): Pick<PumpEnd, 'residual'> {
    return this.#inHand ? { residual: this.#inHand } : {};
  }

  #run(): void {
    // A loop and not a recursion: a chunk may be accepted before its write returns.
    if (this.#running) return;
    this.#running = true;
    while (!this.#over && this.#inHand === undefined) {
      if (this.#left === 0) this.#end({});
      else if (!this.#next()) break;
    }
    this.#running = false;
  }

  /** False when there is nothing to do but to wait. */
  #next(): boolean {
    const { stream: source } = this.#way;
    const taken = this.#way.read(sizeUpTo(this.#left, source));
    if (taken === null) {
      if (source.errored) {
        // Its 'error' may be still to come, and is no news then.
        source.on('error', () => {});
        const error = tellsOfDestroy(source.errored) ? prematureClose() : source.errored;
        this.#end({ error, side: 'source' });
      } else if (source.readableEnded) this.#end({});
      else if (source.destroyed) this.#end({ error: prematureClose(), side: 'source' });
      // The only sign of the end that readable-stream 3 gives, and packages that are built on it.
      else if (source.readable === false) this.#end({});
      return false;
    }
    let chunk = bytesOf(taken, source.readableEncoding);
    if (chunk === undefined) {
      this.#end({ error: notBytes(taken), side: 'source' });
      return false;
    }
    if (chunk.length > this.#left) {
      source.unshift(chunk.subarray(this.#left));
      chunk = chunk.subarray(0, this.#left);
    }
    this.#inHand = chunk;
    this.#outlet.write(chunk, (error) => this.#written(error));
    return true;
  }

  #written(error: Error | null | undefined): void {
    if (this.#over) return;
    const chunk = this.#inHand as Buffer;
    if (error) {
      this.#end({ error, side: 'sink', residual: chunk });
      return;
    }
    this.#inHand = undefined;
    this.#left -= chunk.length;
    this.#outlet.accepted(chunk.length);
    this.#run();
  }

  #end(end: PumpEnd): void {
    if (this.#over) return;
    this.#detach();
    this.#outlet.ended(end);
  }

  #detach(): void {
    this.#over = true;
    const { stream } = this.#way;
    for (const event of EVENTS) stream.off(event, this.#onEvent);
    stream.off('error', this.#onError);
    this.#way.listen(undefined);
  }
}

function bytesOf(chunk: unknown, encoding: BufferEncoding | null): Buffer | undefined {
  if (typeof chunk === 'string') return Buffer.from(chunk, encoding ?? 'utf8');
  if (Buffer.isBuffer(chunk)) return chunk;
  if (!(chunk instanceof Uint8Array)) return undefined;
  return Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
}

function notBytes(chunk: unknown): Error {
  const error = new TypeError(`The source stream gave neither bytes nor a string: ${typeof chunk}`);
  return Object.assign(error, { code: 'ERR_INVALID_ARG_TYPE' });
}

function prematureClose(): Error {
  const error = new Error('The source was destroyed under the transfer');
  return Object.assign(error, { code: 'ERR_STREAM_PREMATURE_CLOSE' });
}
