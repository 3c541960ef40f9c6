// Where bytes come from: what `transfer` takes as a source, and how files are opened and held.
import * as fs from 'node:fs';
import { type FileHandle, statfs } from 'node:fs/promises';
import * as net from 'node:net';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { systemError } from './errors';
import { addon, type NativeSegments, type OpenFile } from './native';
import { PartsReader } from './stream-backend';
import type { Fallback } from './transfer';
import { descriptor, optionalByteCount, optionsObject, typeError, valueError } from './validate';

/** A file: its path, a descriptor, or a FileHandle. */
export type FileSource = string | URL | number | FileHandle;

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

/** A piece of a source that is open. An undefined length: to the end, wherever that is. */
export type Part =
  | MemoryPart
  | {
      fd: number;
      offset: number;
      length: number | undefined;
      /** Whether it is read by offset; if not, wherever its descriptor stands. */
      seekable: boolean;
      /** Whether it must have `length` bytes; if not, it may end before them. */
      sizeKnown: boolean;
    };

/** A source ready to be moved. */
export interface OpenSource {
  /** Bytes in all; undefined when only reading tells. */
  total: number | undefined;
  /** Why native code can't read it. */
  fallback?: Fallback;
  /** What native code moves, in order, and between it, as streams, memory too large for it. */
  legs(): (NativeSegments | Readable)[];
  /** A stream over what follows the first `from` bytes. */
  streamFrom(from: number): Readable;
  /** For a stream: most bytes to take from it. */
  limit: number;
  /** Of a source that is one file. */
  fileDescriptor?: number;
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
      const name = offset === undefined ? 'length' : 'offset';
      throw valueError(`options.${name}`, 'belongs in the segments of a gather list', offset);
    }
    return { kind: 'list', single: false, parts: source.map(parseSegment) };
  }
  if (isReadable(source)) {
    if (offset !== undefined) throw valueError('options.offset', 'needs a file as source', offset);
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

/** A path or a descriptor. */
export function parseFile(name: string, file: unknown, expected: string): string | number {
  if (typeof file === 'number') return descriptor(name, file);
  if (isFileHandle(file)) return file.fd;
  let path = file;
  if (file instanceof URL) {
    try {
      path = fileURLToPath(file);
    } catch (error) {
      throw valueError(name, `must be a file URL: ${(error as Error).message}`, file.href);
    }
  }
  if (typeof path !== 'string') throw typeError(name, expected, file);
  if (path.includes('\0')) throw valueError(name, 'must be a path without null bytes', path);
  return path;
}

function isFileHandle(value: unknown): value is FileHandle {
  return (
    typeof value === 'object' &&
    value !== null &&
    'fd' in value &&
    typeof value.fd === 'number' &&
    'createReadStream' in value
  );
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
  const files = new Map<string | number, HeldFile>();
  const pending: Promise<void>[] = [];
  const closeAll = () => {
    for (const file of files.values()) file.close();
  };
  try {
    for (const part of source.parts) {
      if ('memory' in part || files.has(part.file)) continue;
      const opened = typeof part.file === 'number' ? holdDescriptor(part.file) : openNow(part.file);
      if (opened) files.set(part.file, opened);
      else if (typeof part.file === 'string') pending.push(openLater(part.file, files));
    }
  } catch (error) {
    closeAll();
    throw error;
  }
  const finish = () => {
    try {
      return source.single ? single(source.parts, files) : listSource(source.parts, files);
    } catch (error) {
      closeAll();
      throw error;
    }
  };
  for (const file of files.values()) {
    if (file.kind === 'file' && !file.sizeKnown) pending.push(learnWhetherSizeIsKnown(file));
  }
  if (pending.length === 0) return finish();
  return Promise.all(pending).then(finish, async (error: unknown) => {
    await Promise.allSettled(pending);
    closeAll();
    throw error;
  });
}

type Parts = (MemoryPart | FilePart)[];

/** A source that is one file, or whatever else stands at a path or behind a descriptor. */
function single(parts: Parts, files: Map<string | number, HeldFile>): OpenSource {
  const [part] = parts as [FilePart];
  const file = files.get(part.file) as HeldFile;
  if (file.kind !== 'fifo' || file.held || typeof part.file !== 'string') {
    return listSource(parts, files);
  }
  // Opened without waiting for a writer. libuv waits for it, and blocks no thread.
  if (part.offset > 0) throw systemError(ESPIPE, 'read');
  const fifo = new net.Socket({ fd: file.fd, readable: true, writable: false });
  return {
    ...streamSource(fifo, part.length ?? Number.POSITIVE_INFINITY),
    fallback: notAFile(file.kind),
    close: () => fifo.destroy(),
  };
}

const ESPIPE = 29;
const EISDIR = 21;

function listSource(parts: Parts, files: Map<string | number, HeldFile>): OpenSource {
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
    if (!seekable && part.offset > 0) throw systemError(ESPIPE, 'read');
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
  let reader: PartsReader | undefined;
  const [only] = open;
  return {
    total,
    ...(fallback && { fallback }),
    ...(open.length === 1 && only && 'fd' in only && { fileDescriptor: only.fd }),
    legs: () => legsOf(open),
    streamFrom: (from) => {
      reader = new PartsReader(open, from);
      return reader;
    },
    limit: Number.POSITIVE_INFINITY,
    close: () => {
      const closeFiles = () => {
        for (const file of files.values()) file.close();
      };
      if (!reader) return closeFiles();
      reader.destroy();
      reader.whenIdle(closeFiles);
    },
  };
}

function streamSource(stream: Readable, limit: number): OpenSource {
  return {
    total: undefined,
    fallback: { code: 'SOURCE_STREAM', message: 'the source is a stream, not a file', at: 0 },
    legs: () => [],
    streamFrom: () => stream,
    limit,
    close: () => {},
  };
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
    if (!run) {
      run = [];
      legs.push(run);
    }
    if ('memory' in part) run.push(part.memory);
    else run.push(part.fd, part.offset, part.length ?? 0);
  }
  return legs;
}

function notAFile(kind: string): Fallback {
  return { code: 'SOURCE_TYPE', message: `the source is not a regular file but a ${kind}`, at: 0 };
}

function sizeUnknown(): Fallback {
  const message = 'the source is empty or of a file system like /proc, where size means nothing';
  return { code: 'SOURCE_SIZE', message, at: 0 };
}

/** An open file that nobody else closes. */
interface HeldFile extends OpenFile {
  /** Whether native code has it in its table; if not it is a plain descriptor. */
  held: boolean;
  close(): void;
}

// Neither waits for a FIFO's writer nor takes a terminal for our own. Not on Windows.
const { O_RDONLY, O_NONBLOCK = 0, O_NOCTTY = 0 } = fs.constants;
const OPEN_FLAGS = O_RDONLY | O_NONBLOCK | O_NOCTTY;

/** ENOSYS, EINVAL: Linux before 5.12. EPERM: seccomp. Then it is not tried again. */
const NO_CACHED_OPEN = new Set([-38, -22, -1]);
let opensCached = true;

/** Opens a path whose way is in the kernel's caches. */
function openNow(path: string): HeldFile | undefined {
  const { native } = addon;
  // Under Node's permission model only Node's own fs may open, since it asks for leave.
  if (!native || !opensCached || 'permission' in process) return undefined;
  const opened = native.openCached(path);
  if (opened.fd >= 0 && opened.kind === 'character device') {
    fs.closeSync(opened.fd);
    return undefined;
  }
  if (opened.fd >= 0) return holding(opened, opened.kind === 'file');
  opensCached = !NO_CACHED_OPEN.has(opened.fd);
  return undefined; // whatever the error was: Node's open tells it, with its message
}

async function openLater(path: string, files: Map<string | number, HeldFile>): Promise<void> {
  let file = await holdOpened(await open(path, OPEN_FLAGS));
  if (file.kind === 'character device') {
    // A terminal in non-blocking mode would give EAGAIN and not what is typed.
    file.close();
    file = await holdOpened(await open(path, O_RDONLY | O_NOCTTY));
  }
  if (file.kind === 'file' && !file.sizeKnown) await learnWhetherSizeIsKnown(file);
  files.set(path, file);
}

async function holdOpened(fd: number): Promise<HeldFile> {
  const { native } = addon;
  if (native) {
    const opened = native.adopt(fd);
    if (opened.fd < 0) throw systemError(-opened.fd, 'statx');
    return holding(opened, opened.kind === 'file');
  }
  try {
    return holding({ fd, ...factsOf(await fstat(fd)) }, false);
  } catch (error) {
    fs.closeSync(fd);
    throw error;
  }
}

/** Of tmpfs, ramfs and overlayfs, from statfs(2): their files have the size that they say. */
const HONEST_FILE_SYSTEMS = new Set([0x01021994, 0x858458f6, 0x794c7630]);

/** Not on this thread: a network's file system asks its server. */
async function learnWhetherSizeIsKnown(file: HeldFile): Promise<void> {
  if (process.platform !== 'linux') return;
  const { type } = await statfs(`/proc/self/fd/${file.fd}`).catch(() => ({ type: 0 }));
  file.sizeKnown = HONEST_FILE_SYSTEMS.has(type);
}

function open(path: string, flags: number): Promise<number> {
  return new Promise((resolve, reject) => {
    fs.open(path, flags, (error, fd) => (error ? reject(error) : resolve(fd)));
  });
}

function fstat(fd: number): Promise<fs.Stats> {
  return new Promise((resolve, reject) => {
    fs.fstat(fd, (error, stats) => (error ? reject(error) : resolve(stats)));
  });
}

/** Holds the open file behind the caller's descriptor, which may name another one a moment later. */
function holdDescriptor(fd: number): HeldFile {
  const { native } = addon;
  if (native) {
    const opened = native.duplicate(fd);
    if (opened.fd < 0) throw systemError(-opened.fd, 'dup');
    return holding(opened, true);
  }
  const facts = factsOf(fs.fstatSync(fd));
  if (facts.kind === 'file' && process.platform === 'linux') {
    try {
      const reopened = fs.openSync(`/proc/self/fd/${fd}`, OPEN_FLAGS);
      return holding({ fd: reopened, ...facts }, false);
    } catch {
      // No /proc, or no leave to open the file anew: the caller has to keep it open.
    }
  }
  return { fd, ...facts, held: false, close: () => {} };
}

function holding(opened: OpenFile, held: boolean): HeldFile {
  let open = true;
  return {
    ...opened,
    held,
    close: () => {
      if (!open) return;
      open = false;
      if (held) addon.native?.release(opened.fd);
      else fs.closeSync(opened.fd);
    },
  };
}

/** As `inspect` of native/file.cc, from what Node tells. */
function factsOf(stats: fs.Stats): Omit<OpenFile, 'fd'> {
  const sizeKnown = stats.isFile() && (stats.blocks > 0 || stats.size > 64 * 1024);
  return { kind: kindOf(stats), size: stats.size, sizeKnown };
}

function kindOf(stats: fs.Stats): OpenFile['kind'] {
  if (stats.isDirectory()) return 'directory';
  if (stats.isFIFO()) return 'fifo';
  if (stats.isSocket()) return 'socket';
  if (stats.isCharacterDevice()) return 'character device';
  if (stats.isBlockDevice()) return 'block device';
  return 'file';
}
