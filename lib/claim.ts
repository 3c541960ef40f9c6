// The claim on a source: a stream that a transfer reads, and nobody else meanwhile. Claims on a stream
// follow each other.
import type * as net from 'node:net';
import type { Readable } from 'node:stream';
import { Gate } from './gate';
import type { Turn } from './lease';
import type { Completion } from './native';
import type { Fallback } from './options';
import { SocketSource, whyNotNativeSource } from './socket-source';
import { type PumpSource, sizeUpTo } from './stream-backend';

/** Each stream's last claim, until it has ended. */
const last = new WeakMap<Readable, Promise<void>>();

/** A claim on a stream: at once, or when those before it have ended. */
export function claim(stream: Readable): Claim | Promise<Claim> {
  const before = last.get(stream);
  let ended!: () => void;
  const end = new Promise<void>((resolve) => {
    ended = resolve;
  });
  last.set(stream, end);
  const make = () =>
    new Claim(stream, () => {
      if (last.get(stream) === end) last.delete(stream);
      ended();
    });
  return before ? before.then(make) : make();
}

export class Claim implements PumpSource {
  readonly stream: Readable;
  /** Why native code can't take the stream's bytes. */
  readonly fallback: Fallback | undefined;
  readonly #gate: Gate;
  readonly #ended: () => void;
  #source: SocketSource | undefined;
  /** What was taken from a stream that takes nothing back. */
  #putBack: Buffer | undefined;
  #over = false;

  constructor(stream: Readable, ended: () => void) {
    this.stream = stream;
    this.#ended = ended;
    this.fallback = whyNotNativeSource(stream);
    this.#gate = Gate.of(stream);
    this.#gate.close();
    if (this.fallback) return;
    // Now, and not when its bytes begin to move: until then Node would read some.
    this.#source = SocketSource.of(stream as net.Socket);
    this.#source.take();
  }

  /** As the stream's `read()`, which gives others nothing. */
  read(size?: number): unknown {
    const first = this.#putBack;
    this.#putBack = undefined;
    return first ?? this.#gate.read(size);
  }

  /**
   * What was taken comes first again. A stream that has failed drops what is put back, without a
   * word: what it still has would come in its place.
   */
  putBack(bytes: Buffer): void {
    const { stream } = this;
    if (bytes.length === 0) return;
    if (stream.destroyed || stream.errored) this.#putBack = bytes;
    else stream.unshift(bytes);
  }

  /**
   * Has native code move what comes, up to `limit` bytes with what Node has read by now, and calls
   * `ended` once. Where it can't, returns why, and nothing has happened.
   */
  splice(turn: Turn, limit: number, ended: (completion: Completion) => void): Fallback | undefined {
    if (!this.#source) return this.fallback;
    const head = this.#readBuffered(limit);
    const fallback = this.#source.splice(turn, head, limit, ended);
    if (fallback) this.putBack(head);
    return fallback;
  }

  /** Whether the end that native code has come to is a reset, which only a write has been told of. */
  hidesReset(): boolean {
    return this.#source?.hidesReset() === true;
  }

  /** The same as `read`, for 'readable'. */
  listen(onReadable: (() => void) | undefined): void {
    this.#gate.listen(onReadable);
  }

  /** What Node has read, up to `most` bytes. */
  #readBuffered(most: number): Buffer {
    const chunks: Buffer[] = [];
    for (let left = most; left > 0; ) {
      const chunk = this.read(sizeUpTo(left, this.stream)) as Buffer | null;
      if (chunk === null) break;
      chunks.push(chunk);
      left -= chunk.length;
    }
    return chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks);
  }

  /** Lets Node read on, for this claim's holder. */
  giveBack(): void {
    this.#source?.giveBack();
    this.#source = undefined;
  }

  /** Lets everybody read on, in the next tick. */
  end(): void {
    if (this.#over) return;
    this.#over = true;
    this.giveBack();
    this.#gate.open(this.#ended);
  }
}
