// The ends of a program's lanes: what goes to each of them, what comes from it, and what of that the
// model knows.
import * as fs from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import type * as net from 'node:net';
import type { Readable, Writable } from 'node:stream';
import type { TransferOptions } from 'zerocopy';
import { withResolvers } from '../helpers/process';
import type { Column } from './coverage';
import { Line } from './line';
import type { SinkKind } from './model';
import { common, mismatch, type Piece } from './pieces';
import type { DuplexKind, FileLane } from './program';

/** Reads the far end of a sink, at the pace that it is told. */
export class Reader {
  readonly #stream: Readable;
  readonly #chunks: Buffer[] = [];
  readonly #done = withResolvers<void>();
  /** Bytes still to be read. */
  #quota: number;
  length = 0;
  ended: 'end' | 'close' | undefined;

  constructor(stream: Readable, quota: number) {
    this.#stream = stream;
    this.#quota = quota;
    stream.pause();
    stream.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk);
      this.length += chunk.length;
      this.#quota -= chunk.length;
      if (this.#quota <= 0) stream.pause();
    });
    const end = (how: 'end' | 'close') => {
      this.ended ??= how;
      this.#done.resolve();
    };
    stream.once('end', () => end('end')).once('close', () => end('close'));
    stream.on('error', () => {});
    if (quota > 0) stream.resume();
  }

  get done(): Promise<void> {
    return this.#done.promise;
  }

  get bytes(): Buffer {
    return Buffer.concat(this.#chunks);
  }

  read(quota: number): void {
    this.#quota = quota;
    if (quota > 0) this.#stream.resume();
    else this.#stream.pause();
  }
}

/** What operations are for. */
export class End {
  readonly line = new Line();
  /** How many of them have begun, or wait for it to be free, and have not ended. */
  onTheirWay = 0;
}

/** A stream that is written to. */
export class Outlet extends End {
  /** What has been given to it, in order; known when all has settled. */
  readonly pieces: (() => Piece)[] = [];
  /** Why what goes to it may fail. */
  causes = new Set<string>();
  /** Whether it has been ended, or will be by something that is on its way. */
  closing = false;
  relayed = false;
  readonly column: Column;
  readonly kind: SinkKind;
  readonly sink: Writable;
  /** The socket below it, and who reads the other end. */
  readonly socket: net.Socket | undefined;
  readonly reader: Reader;
  /** How often it is corked. */
  corks = 0;
  /** Of an HTTP response: bytes that it has promised. */
  promised: number | undefined;

  constructor(
    column: Column,
    kind: SinkKind,
    sink: Writable,
    socket: net.Socket | undefined,
    reader: Reader,
  ) {
    super();
    this.column = column;
    this.kind = kind;
    this.sink = sink;
    this.socket = socket;
    this.reader = reader;
    sink.on('error', () => {});
  }

  /** What goes to it may fail, for these reasons and because it is closed. */
  mayFail(...codes: string[]): void {
    for (const code of ['ERR_STREAM_PREMATURE_CLOSE', ...codes]) this.causes.add(code);
  }

  /** A message has promised more than there is: with it goes its connection. */
  breaksOff(): void {
    this.mayFail('ECONNRESET', 'EPIPE');
  }

  allPieces(): Piece[] {
    return this.pieces.map((piece) => piece());
  }
}

/** Who has taken bytes from a source: how many, when all has settled, and how to tell which. */
export interface Consumer {
  what: string;
  taken(): number;
  /** What is wrong with it, were `bytes` those that it has taken. */
  check(bytes: Buffer): string | undefined;
  /** Whether it has found the source's end. */
  foundEnd(): boolean;
}

/** A stream that is read from. */
export class Inlet extends End {
  readonly kind: DuplexKind;
  readonly source: Readable;
  /** Its far end. */
  readonly writer: Writable;
  readonly #fed: Buffer[] = [];
  readonly consumers: Consumer[] = [];
  /** Transfers from it, each when it has settled. */
  readonly asked: Promise<void>[] = [];
  causes = new Set<string>();
  relayed = false;
  feedEnded = false;

  constructor(kind: DuplexKind, source: Readable, writer: Writable) {
    super();
    this.kind = kind;
    this.source = source;
    this.writer = writer;
    source.on('error', () => {});
    writer.on('error', () => {});
  }

  mayFail(...codes: string[]): void {
    for (const code of ['ERR_STREAM_PREMATURE_CLOSE', ...codes]) this.causes.add(code);
  }

  feed(bytes: Buffer): void {
    if (this.feedEnded || this.writer.destroyed) return;
    this.#fed.push(bytes);
    this.writer.write(bytes);
  }

  endFeed(): void {
    if (this.feedEnded || this.writer.destroyed) return;
    this.feedEnded = true;
    this.writer.end();
  }

  /** All that has been written to it. */
  get fed(): Buffer {
    return Buffer.concat(this.#fed);
  }

  /** Bytes that those before a consumer have taken. */
  before(consumer: Consumer): number {
    let bytes = 0;
    for (const other of this.consumers) {
      if (other === consumer) break;
      bytes += other.taken();
    }
    return bytes;
  }

  /** What is wrong with what was taken. */
  check(): string | undefined {
    const { fed } = this;
    let at = 0;
    for (const consumer of this.consumers) {
      const end = at + consumer.taken();
      if (end > fed.length) return `${consumer.what} took ${end - fed.length} bytes too many`;
      const wrong = consumer.check(fed.subarray(at, end));
      if (wrong) return `${consumer.what}: ${wrong}`;
      if (consumer.foundEnd() && end !== fed.length && this.causes.size === 0) {
        return `${consumer.what} ended at ${end} of ${fed.length} bytes`;
      }
      at = end;
    }
    return undefined;
  }
}

/** Between what transfers write at offsets of their own. */
const GAP_BYTES = 5;

/** A file that is written to. */
export class FileTarget extends End {
  readonly column: Column;
  readonly to: FileLane['to'];
  readonly path: string;
  readonly fd: number | undefined;
  readonly handle: FileHandle | undefined;
  /** What has been written, and where, if that was said. */
  readonly #writes: { at: number | undefined; most: number; piece: () => Piece }[] = [];
  #next = 0;
  /** Bytes may still come that nobody knows of. */
  #isUncertain = false;

  constructor(
    column: Column,
    to: FileLane['to'],
    path: string,
    fd: number | undefined,
    handle: FileHandle | undefined,
  ) {
    super();
    this.column = column;
    this.to = to;
    this.path = path;
    this.fd = fd;
    this.handle = handle;
  }

  get kind(): SinkKind {
    return this.to === 'append' ? 'append' : 'file';
  }

  /** As the sink of a transfer. */
  get named(): string | number | FileHandle {
    return this.handle ?? this.fd ?? this.path;
  }

  /** A transfer of up to `most` bytes is going to write; its options. It may be the only one. */
  give(most: number, piece: () => Piece): TransferOptions {
    const at = this.to === 'offset' ? this.#next : undefined;
    this.#writes.push({ at, most, piece });
    this.#next += most + GAP_BYTES;
    if (at !== undefined) return { sinkOffset: at };
    this.line.hold();
    return this.to === 'append' && this.named === this.path ? { sinkFlags: 'a' } : {};
  }

  /** It has settled, and nothing of it may still come, if that is certain. */
  settled(isCertain: boolean): void {
    if (!isCertain) this.#isUncertain = true;
    if (this.to !== 'offset') this.line.release();
  }

  /** What is wrong with what the file has got. */
  check(): string | undefined {
    if (this.#isUncertain && this.to !== 'offset') return undefined;
    const content = fs.existsSync(this.path) ? fs.readFileSync(this.path) : Buffer.alloc(0);
    if (this.to === 'offset') return this.#checkRegions(content);
    const pieces = this.#writes.map(({ piece }) => piece());
    if (this.to !== 'anew') return mismatch(content, pieces, true);
    // The last that has emptied it; one that has failed may not have come to that.
    let wrong: string | undefined;
    for (const piece of pieces.reverse()) {
      wrong = mismatch(content, [piece], true);
      if (!wrong || piece.least > 0) return wrong;
    }
    return content.length === 0 ? undefined : (wrong ?? 'it should be empty');
  }

  #checkRegions(content: Buffer): string | undefined {
    let end = 0;
    for (const { at = 0, most, piece } of this.#writes) {
      const own = piece();
      const got = content.subarray(at, at + most);
      const same = common(got, 0, own);
      if (same < own.least) return `at ${at}: ${same} bytes are right, not ${own.least}`;
      if (!isZero(got.subarray(same))) return `at ${at}: others behind the first ${same}`;
      if (same > 0) end = Math.max(end, at + same);
      const gap = content.subarray(at + most, at + most + GAP_BYTES);
      if (!isZero(gap)) return `bytes behind ${at + most}`;
    }
    return content.length > end ? `${content.length} bytes, and not ${end}` : undefined;
  }
}

function isZero(bytes: Buffer): boolean {
  return bytes.equals(Buffer.alloc(bytes.length));
}
