// Where bytes come from: what `transfer` takes as a source, and what becomes of it.
import * as net from 'node:net';
import * as os from 'node:os';
import type { Readable } from 'node:stream';
import { type Claim, claim } from './claim';
import { systemError } from './errors';
import { because } from './fallback';
import { type FileSource, type HeldFile, isFileHandle, openFile, parseFile } from './file';
import { type NativeSegments, TO_THE_END } from './native';
import type { Fallback } from './options';
import { readsElsewhere } from './socket-source';
import { PartsReader } from './stream-backend';
import { optionalByteCount, optionsObject, typeError, valueError } from './validate';

/** A piece of a source: bytes in memory, or a range of a file. */
export type Segment =
  | Uint8Array
  | {
      file: FileSource;
      /** Absolute start in the file, in bytes. @default 0 */
      offset?: number;
      /** Most bytes to move. @default to the end that the file has when the transfer starts */
      length?: number;
    };

/** What bytes come from: a file, a stream, or with `Segment[]` a gather list. */
export type Source = FileSource | Readable;

/** Memory up to here is copied by native code; larger pieces go through the sink's own write. */
const MAX_NATIVE_MEMORY_BYTES = 256 * 1024;

/** A source whose arguments have been found right, not yet opened. */
export type ParsedSource =
  | { kind: 'list'; single: boolean; parts: (MemoryPart | FilePart)[] }
  | { kind: 'stream'; stream: Readable; length: number };

interface MemoryPart {
  memory: Uint8Array;
  length: number;
}

interface FilePart {
  file: string | number;
  offset: number;
  length: number | undefined;
}

/** A range of an open file. An undefined length: to the end, wherever that is. */
export interface OpenRange {
  fd: number;
  offset: number;
  length: number | undefined;
  /** Whether it is read by offset; if not, wherever its descriptor stands. */
  seekable: boolean;
  /** Whether it must have `length` bytes; if not, it may end before them. */
  sizeKnown: boolean;
}

/** A piece of a source that is open. */
export type Part = MemoryPart | OpenRange;

/** A source ready to be moved. */
export interface OpenSource {
  /** Bytes in all; undefined when only reading tells. */
  readonly total: number | undefined;
  /** Why native code can't read it. */
  readonly fallback?: Fallback | undefined;
  /** Whether it can, in spite of that, where the sink is a file. */
  readonly fileMayTake?: boolean;
  /** Of a stream: this transfer's alone. */
  readonly claim?: Claim;
  /** What native code moves, in order, and between it, as streams, memory too large for it. */
  legs(): (NativeSegments | Readable)[];
  /** A stream over what follows the first `from` bytes. */
  streamFrom(from: number): Readable;
  /** For a stream: most bytes to take from it. */
  readonly limit: number;
  /** What of files it is made of. */
  readonly ranges: OpenRange[];
  /** Closes what was opened here; a stream of the caller's stays as it is. */
  close(): void;
}

const SEGMENT_KEYS = ['file', 'offset', 'length'] as const;

/** Checks a source's arguments. Throws what `typeError` and its like make. */
export function parseSource(
  source: unknown,
  offset: number | undefined,
  length: number | undefined,
): ParsedSource {
  if (Array.isArray(source)) {
    if (offset !== undefined || length !== undefined) {
      const [name, given] = offset === undefined ? ['length', length] : ['offset', offset];
      throw valueError(`options.${name}`, 'belongs in the segments of a gather list', given);
    }
    return { kind: 'list', single: false, parts: Array.from(source, parseSegment) };
  }
  if (isReadable(source)) {
    if (offset !== undefined) throw valueError('options.offset', 'needs a file as source', offset);
    if (readsElsewhere(source)) {
      throw valueError('source', 'reads into a buffer of its own (the option onread)', 'a socket');
    }
    return { kind: 'stream', stream: source, length: length ?? Number.POSITIVE_INFINITY };
  }
  const file = parseFile(
    'source',
    source,
    'a path, a file URL, a descriptor, a FileHandle, a Readable stream or an array of segments',
  );
  return { kind: 'list', single: true, parts: [{ file, offset: offset ?? 0, length }] };
}

function parseSegment(segment: unknown, index: number): MemoryPart | FilePart {
  const name = `source[${index}]`;
  if (segment instanceof Uint8Array) return { memory: segment, length: segment.length };
  if (typeof segment !== 'object' || segment === null || Array.isArray(segment)) {
    throw typeError(name, 'a Uint8Array or { file, offset, length }', segment);
  }
  const { file, offset, length } = optionsObject(segment, SEGMENT_KEYS);
  return {
    file: parseFile(`${name}.file`, file, 'a path, a file URL, a descriptor or a FileHandle'),
    offset: optionalByteCount(`${name}.offset`, offset) ?? 0,
    length: optionalByteCount(`${name}.length`, length),
  };
}

function isReadable(value: unknown): value is Readable {
  return (
    typeof value === 'object' &&
    value !== null &&
    'read' in value &&
    typeof value.read === 'function' &&
    'on' in value &&
    !isFileHandle(value)
  );
}

/**
 * Keeps a copy of the memory in a gather list, for a transfer that has to wait: the caller's buffers
 * can be detached or written to meanwhile. Large ones are copied piece by piece as they are sent.
 */
export function keepMemory(source: ParsedSource): void {
  if (source.kind !== 'list') return;
  for (const part of source.parts) {
    if ('memory' in part && part.length <= MAX_NATIVE_MEMORY_BYTES) {
      part.memory = Buffer.from(part.memory);
    }
  }
}

/** Opens what there is to open: at once where no disk is needed for that, which is the rule. */
export function openSource(source: ParsedSource): OpenSource | Promise<OpenSource> {
  if (source.kind === 'stream') return streamSource(source.stream, source.length);
  const { parts, single } = source;
  const files: Files = new Map();
  /** Those that take their time are not among the files yet. */
  const asked = new Set<string | number>();
  const pending: Promise<unknown>[] = [];
  const finish = () => {
    const fifo = single ? fifoSource(parts, files) : undefined;
    return fifo ?? listSource(parts, single, files);
  };
  try {
    for (const part of parts) {
      if ('memory' in part || asked.has(part.file)) continue;
      const { file } = part;
      asked.add(file);
      const opened = openFile(file);
      if (opened instanceof Promise) pending.push(opened.then((held) => files.set(file, held)));
      else files.set(file, opened);
    }
    if (pending.length === 0) return finish();
  } catch (error) {
    Promise.allSettled(pending).then(() => closeAll(files.values()));
    throw error;
  }
  return Promise.allSettled(pending).then((results) => {
    try {
      for (const result of results) if (result.status === 'rejected') throw result.reason;
      return finish();
    } catch (error) {
      closeAll(files.values());
      throw error;
    }
  });
}

type Parts = (MemoryPart | FilePart)[];
type Files = Map<string | number, HeldFile>;

function closeAll(files: Iterable<HeldFile>): void {
  for (const file of files) file.close();
}

const { EISDIR, ESPIPE } = os.constants.errno;

/** A source that is a FIFO at a path: opened without waiting for a writer. */
function fifoSource(parts: Parts, files: Files): OpenSource | undefined {
  const [part] = parts as [FilePart];
  const file = files.get(part.file);
  if (file?.kind !== 'fifo' || typeof part.file !== 'string') return undefined;
  if (part.offset > 0) throw systemError(ESPIPE, 'read');
  // libuv waits for the writer, and blocks no thread.
  const fifo = new net.Socket({ fd: file.surrender(), readable: true, writable: false });
  return new FifoSource(claim(fifo) as Claim, part.length ?? Number.POSITIVE_INFINITY);
}

function listSource(parts: Parts, single: boolean, files: Files): OpenSource {
  let total: number | undefined = 0;
  let fallback: Fallback | undefined;
  const open = parts.map((part): Part => {
    if ('memory' in part) {
      if (total !== undefined) total += part.length;
      return part;
    }
    const file = files.get(part.file) as HeldFile;
    if (file.kind === 'directory') throw systemError(EISDIR, 'read');
    const seekable = file.kind === 'file' || file.kind === 'block device';
    // Of a list, each segment must be where it is said to be.
    if (!seekable && (part.offset > 0 || !single)) throw systemError(ESPIPE, 'read');
    if (file.kind !== 'file') fallback ??= notAFile(file.kind);
    else if (!file.sizeKnown) fallback ??= sizeUnknown();
    let { length } = part;
    if (file.sizeKnown) {
      const left = Math.max(0, file.size - part.offset);
      length = Math.min(length ?? left, left);
      if (total !== undefined) total += length;
    } else {
      total = undefined;
    }
    return { fd: file.fd, offset: part.offset, length, seekable, sizeKnown: file.sizeKnown };
  });
  return new ListSource(open, total, fallback, [...files.values()]);
}

class ListSource implements OpenSource {
  readonly total: number | undefined;
  readonly fallback: Fallback | undefined;
  readonly limit = Number.POSITIVE_INFINITY;
  readonly #parts: Part[];
  readonly #files: HeldFile[];
  #reader: PartsReader | undefined;

  constructor(
    parts: Part[],
    total: number | undefined,
    fallback: Fallback | undefined,
    files: HeldFile[],
  ) {
    this.#parts = parts;
    this.total = total;
    this.fallback = fallback;
    this.#files = files;
  }

  get ranges(): OpenRange[] {
    return this.#parts.filter((part) => 'fd' in part);
  }

  /** What reading finds is all there is, unless less was asked for. */
  get fileMayTake(): boolean {
    const sizesWillShow = this.ranges.every(
      ({ sizeKnown, length }) => sizeKnown || length === undefined,
    );
    return this.fallback?.code === 'SOURCE_SIZE' && sizesWillShow;
  }

  legs(): (NativeSegments | Readable)[] {
    return legsOf(this.#parts);
  }

  streamFrom(from: number): Readable {
    this.#reader = new PartsReader(this.#parts, from);
    return this.#reader;
  }

  close(): void {
    if (!this.#reader) return closeAll(this.#files);
    this.#reader.destroy();
    this.#reader.whenIdle(() => closeAll(this.#files));
  }
}

function streamSource(stream: Readable, limit: number): OpenSource | Promise<OpenSource> {
  const claimed = claim(stream);
  const source = (own: Claim) => new ClaimedSource(own, limit);
  return claimed instanceof Promise ? claimed.then(source) : source(claimed);
}

class ClaimedSource implements OpenSource {
  readonly total = undefined;
  readonly ranges: OpenRange[] = [];

  constructor(
    readonly claim: Claim,
    readonly limit: number,
  ) {}

  get fallback(): Fallback | undefined {
    return this.claim.fallback;
  }

  legs(): [] {
    return [];
  }

  streamFrom(): Readable {
    return this.claim.stream;
  }

  close(): void {
    this.claim.end();
  }
}

/** A FIFO that was opened here. */
class FifoSource extends ClaimedSource {
  override close(): void {
    this.claim.stream.destroy();
  }
}

function legsOf(parts: Part[]): (NativeSegments | Readable)[] {
  const legs: (NativeSegments | Readable)[] = [];
  let run: NativeSegments | undefined;
  for (const part of parts) {
    if ('memory' in part && part.length > MAX_NATIVE_MEMORY_BYTES) {
      legs.push(new PartsReader([part], 0));
      run = undefined;
      continue;
    }
    const segments: NativeSegments =
      'memory' in part ? [part.memory] : [part.fd, part.offset, part.length ?? TO_THE_END];
    if (run) {
      run.push(...segments);
    } else {
      run = segments;
      legs.push(run);
    }
  }
  return legs.slice(); // one that has grown keeps room for more, as long as the transfer lasts
}

export function notAFile(kind: string): Fallback {
  return because('SOURCE_TYPE', `the source is not a regular file but a ${kind}`);
}

export function sizeUnknown(): Fallback {
  const message = 'the source is empty or of a file system like /proc, where size means nothing';
  return because('SOURCE_SIZE', message);
}
