// The addon: how it is found, what it offers, and the way its completions come back.
import { AsyncResource } from 'node:async_hooks';
import * as os from 'node:os';
import * as path from 'node:path';
import { argumentError, systemError } from './errors';

/**
 * Same numbers as `Outcome`, `Backend`, `Call`, `Endpoint` in native/transfer.h and `FileKind` in
 * file.h.
 */
export const Outcome = {
  done: 0,
  truncated: 5,
  unsupported: 6,
  failed: 7,
  cancelled: 8,
} as const;
/** kMaxHeadBytes in native/binding.cc. */
export const MAX_HEAD_LENGTH = 4096;
/** kNoThread, there. */
const NO_THREAD = 1;
const { EAGAIN, EMFILE, ENFILE } = os.constants.errno;
const BACKENDS = ['sendfile', 'read', 'splice', 'copy_file_range'] as const;
const CALLS = [
  'none',
  'sendfile',
  'sendmsg',
  'dup',
  'epoll_ctl',
  'pthread_create',
  'splice',
  'copy_file_range',
  'read',
  'write',
  'pipe2',
  'lseek',
  'epoll_create1',
  'eventfd2',
  'malloc',
  'close',
  'statx',
] as const;
/** `CopyTransfer::Holes` in native/copy_transfer.h. */
const HOLES = ['any', 'kept', 'filled'] as const;
const ENDPOINTS = ['socket', 'pipe', 'file'] as const;
const KINDS = ['file', 'directory', 'fifo', 'socket', 'character device', 'block device'] as const;

/** How a transfer in the engine, or a bare call, ended. */
export interface Completion {
  outcome: number;
  /** Bytes transferred, or what a bare call returned. */
  value: number;
  backend: (typeof BACKENDS)[number];
  /** The call that failed, and its errno (above 0; 0 when none failed). */
  call: (typeof CALLS)[number];
  errno: number;
  /** Of `sendNow`: whether the last byte sent is the file's last by now. */
  atFileEnd: boolean;
  /** Whether it is the source that failed, and not the sink. */
  sourceFailed: boolean;
  /** Of `splice`: taken from the source, and not accepted by the sink. */
  residual?: Buffer | undefined;
}

/** A descriptor whose bytes native code moves. */
export interface Endpoint {
  fd: number;
  kind: 'socket' | 'pipe';
}

/** A file that native code writes to. */
export interface FileEndpoint {
  fd: number;
  kind: 'file';
  /** Where; undefined: at the descriptor's own position. */
  offset: number | undefined;
  /** Whether nobody else uses that position. */
  maySeek: boolean;
  /**
   * What becomes of holes in the source: whatever the kernel makes of them; holes, in a sink that is
   * empty; or zeros.
   */
  holes: (typeof HOLES)[number];
}

/** An open file, and what is known of it. */
export interface OpenFile {
  fd: number;
  kind: (typeof KINDS)[number];
  size: number;
  /** False for the files of /proc and the like: they have what reading them gives. */
  sizeKnown: boolean;
}

/**
 * A gather list: a piece of memory, or three numbers: a descriptor, held here or the caller's own,
 * offset, length. A file takes also what has the length TO_THE_END, wherever that is.
 */
export type NativeSegments = (Uint8Array | number)[];
export const TO_THE_END = -1;
const AT_POSITION = -1;

export type CallKind = 'sendfile' | 'splice' | 'copyFileRange';
const CALL_KINDS: readonly CallKind[] = ['sendfile', 'splice', 'copyFileRange'];

/** Arguments of a bare call; an offset below 0 stands for null. */
export type CallArguments = [
  inFd: number,
  inOffset: number,
  outFd: number,
  outOffset: number,
  count: number,
  flags: number,
];

/** native/binding.cc. Where a number below 0 comes back, it is -errno. */
interface Binding {
  configure(
    callback: (id: number, residual: Buffer | undefined) => void,
    report: Float64Array,
    facts: Float64Array,
    movers: number,
  ): void;
  movers(): number;
  openCached(path: string): number;
  openPlain(path: string): number;
  open(path: string, id: number): number;
  keepAlive(wanted: boolean): void;
  inspect(fd: number): number;
  seek(fd: number, offset: number): number;
  adopt(fd: number): number;
  duplicate(fd: number): number;
  release(fd: number): void;
  surrender(fd: number): number;
  warm(fd: number, offset: number, length: number, id: number): number;
  mayBlock(fd: number): boolean;
  isAppending(fd: number): boolean;
  hidesReset(fd: number): boolean;
  send(sinkFd: number, sinkKind: number, segments: NativeSegments): number;
  splice(
    sourceFd: number,
    sourceKind: number,
    sinkFd: number,
    sinkKind: number,
    sinkOffset: number,
    head: Uint8Array,
    length: number,
  ): number;
  copy(
    segments: NativeSegments,
    sinkFd: number,
    sinkOffset: number,
    maySeek: boolean,
    holes: number,
  ): number;
  sendNow(
    sinkFd: number,
    sinkKind: number,
    head: string,
    fd: number,
    offset: number,
    length: number,
  ): boolean;
  cancel(id: number): void;
  abandon(id: number): void;
  transferred(id: number): number;
  callSync(kind: number, ...call: CallArguments): number;
  call(kind: number, ...call: [...CallArguments, id: number]): number;
  pipe(fds: Int32Array, held: boolean): number;
  supports(kind: number): boolean;
  /** Kept here, where whoever else loads this module finds it. */
  shared?: Shared;
}

/**
 * Node loads a binary once for a thread, but this module as often as Jest resets its modules, or
 * somebody empties `require.cache`. The transfers of all its copies end in the callback of the last.
 */
interface Shared {
  report: Float64Array;
  facts: Float64Array;
  waiting: Map<number, (completion: Completion) => void>;
  lastCall: number;
}

/** The addon with its numbers given names. */
export class Native {
  readonly #binding: Binding;
  readonly #shared: Shared;

  constructor(binding: Binding, movers: number) {
    this.#binding = binding;
    binding.shared ??= {
      report: new Float64Array(7),
      facts: new Float64Array(3),
      waiting: new Map(),
      lastCall: 0,
    };
    this.#shared = binding.shared;
    const { report, facts, waiting } = this.#shared;
    binding.configure(
      (id, residual) => {
        const settle = waiting.get(id);
        waiting.delete(id);
        settle?.({ ...this.#completion(), residual });
      },
      report,
      facts,
      movers,
    );
  }

  /** How many movers there are, or will be; 0 where none could be started, and why. */
  movers(): { count: number; failure: Completion | undefined } {
    const count = this.#binding.movers();
    return { count, failure: count === 0 ? this.#completion() : undefined };
  }

  supports(kind: CallKind): boolean {
    return this.#binding.supports(CALL_KINDS.indexOf(kind));
  }

  /**
   * Opens a path for reading if that needs no disk; `fd` is -errno where it does. It is held until
   * `release(fd)`.
   */
  openCached(file: string): OpenFile {
    return this.#opened(this.#binding.openCached(file));
  }

  /** The same as a plain descriptor, the caller's to close. Not in a worker: see `adopt`. */
  openPlain(file: string): OpenFile {
    return this.#opened(this.#binding.openPlain(file));
  }

  /** Has the event loop stay alive, until what is returned is called. */
  keepAlive(): () => void {
    this.#binding.keepAlive(true);
    let alive = true;
    return () => {
      if (alive) this.#binding.keepAlive(false);
      alive = false;
    };
  }

  /**
   * As `openCached`, on a native thread, however long it takes. No event loop stays alive for it.
   * Rejects where there is no thread.
   */
  open(file: string): Promise<OpenFile> {
    return this.#later(
      (id) => this.#binding.open(file, id),
      (result) => this.#opened(result),
    );
  }

  /** What is known of a descriptor's file by now; `fd` is -errno where it can't be told. */
  inspect(fd: number): OpenFile {
    const error = this.#binding.inspect(fd);
    return this.#opened(error < 0 ? error : fd);
  }

  /** A descriptor's position, after it has been moved to `offset`, if that is given; or -errno. */
  seek(fd: number, offset = -1): number {
    return this.#binding.seek(fd, offset);
  }

  /**
   * Holds what a descriptor has open that is Node's fs own, to close too: a worker, when it ends,
   * closes every number that its fs has opened and not closed, whatever has that number by then.
   * Throws a system error where it can't.
   */
  adopt(fd: number): OpenFile {
    return this.#held(this.#binding.adopt(fd));
  }

  /** Holds, until `release()`, the open file of a descriptor that stays the caller's. As `adopt`. */
  duplicate(fd: number): OpenFile {
    return this.#held(this.#binding.duplicate(fd));
  }

  release(fd: number): void {
    this.#binding.release(fd);
  }

  /** A plain descriptor in the place of one that is held: for whoever closes it, but not by fs. */
  surrender(fd: number): number {
    const plain = this.#binding.surrender(fd);
    if (plain < 0) throw systemError(-plain, 'dup');
    return plain;
  }

  /**
   * Brings a range of a file into the page cache. 0 or -errno. No event loop stays alive for it.
   * Rejects where there is no thread.
   */
  warm(fd: number, offset: number, length: number): Promise<number> {
    return this.#later(
      (id) => this.#binding.warm(fd, offset, length, id),
      (result) => result,
    );
  }

  mayBlock(fd: number): boolean {
    return this.#binding.mayBlock(fd);
  }

  isAppending(fd: number): boolean {
    return this.#binding.isAppending(fd);
  }

  /**
   * Whether a TCP socket that was read to its end, and whose own side has not been ended, was reset:
   * the error went to who wrote to it.
   */
  hidesReset(fd: number): boolean {
    return this.#binding.hidesReset(fd);
  }

  /**
   * Starts to send a gather list. What is short may have ended when this returns: then `ended` has
   * been called, and the id is 0.
   */
  send(sink: Endpoint, segments: NativeSegments, ended: (completion: Completion) => void): number {
    return this.#started(this.#binding.send(sink.fd, numberOf(sink), segments), ended);
  }

  /**
   * Starts to move up to `length` bytes, undefined: all to the source's end, behind those of `head`,
   * which have been taken from the source before. The completion counts them too. As `send`.
   */
  splice(
    source: Endpoint,
    sink: Endpoint | FileEndpoint,
    head: Buffer,
    length: number | undefined,
    ended: (completion: Completion) => void,
  ): number {
    const offset = sink.kind === 'file' ? (sink.offset ?? AT_POSITION) : AT_POSITION;
    const id = this.#binding.splice(
      source.fd,
      numberOf(source),
      sink.fd,
      numberOf(sink),
      offset,
      head,
      length ?? TO_THE_END,
    );
    return this.#started(id, ended, head);
  }

  /** Starts to write a gather list to a file. As `send`. */
  copy(
    segments: NativeSegments,
    { fd, offset, maySeek, holes }: FileEndpoint,
    ended: (completion: Completion) => void,
  ): number {
    const at = offset ?? AT_POSITION;
    const id = this.#binding.copy(segments, fd, at, maySeek, HOLES.indexOf(holes));
    return this.#started(id, ended);
  }

  /**
   * Sends what of a string (Latin-1, at most MAX_HEAD_LENGTH) and a range of a file can be sent at
   * once. Undefined, with nothing sent, where that would take long or might block. Any outcome but
   * `done` and `failed` means that there is a rest.
   */
  sendNow(
    sink: Endpoint,
    head: string,
    fd: number,
    offset: number,
    length: number,
  ): Completion | undefined {
    const tried = this.#binding.sendNow(sink.fd, numberOf(sink), head, fd, offset, length);
    return tried ? this.#completion() : undefined;
  }

  cancel(id: number): void {
    this.#binding.cancel(id);
  }

  /**
   * Ends a transfer that has been cancelled, and doesn't end since the disk that it writes to doesn't
   * answer.
   */
  abandon(id: number): void {
    this.#binding.abandon(id);
  }

  transferred(id: number): number {
    return this.#binding.transferred(id);
  }

  /** The byte count, or -errno. */
  callSync(kind: CallKind, args: CallArguments): number {
    return this.#binding.callSync(CALL_KINDS.indexOf(kind), ...args);
  }

  /** The byte count, or -errno. Rejects where there is no thread or no descriptor for it. */
  call(kind: CallKind, args: CallArguments): Promise<number> {
    const number = CALL_KINDS.indexOf(kind);
    return this.#later(
      (id) => this.#binding.call(number, ...args, id),
      (result) => result,
    );
  }

  #later<T>(start: (id: number) => number, told: (result: number) => T): Promise<T> {
    const id = --this.#shared.lastCall;
    const error = start(id);
    // What the call itself never fails with: the descriptors of our own that it needs.
    if (error === -EMFILE || error === -ENFILE) return Promise.reject(systemError(-error, 'dup'));
    if (error === NO_THREAD) return Promise.reject(systemError(EAGAIN, 'pthread_create'));
    if (error < 0) return Promise.resolve(told(error));
    return new Promise((resolve) => {
      this.#shared.waiting.set(id, ({ value, errno }) => resolve(told(errno > 0 ? -errno : value)));
    });
  }

  /** Makes a pipe, of plain descriptors or held ones. 0 or -errno. */
  pipe(fds: Int32Array, held: boolean): number {
    return this.#binding.pipe(fds, held);
  }

  #started(
    id: number,
    ended: (completion: Completion) => void,
    residual: Buffer | undefined = undefined,
  ): number {
    if (id === 0) ended({ ...this.#completion(), residual });
    else this.#shared.waiting.set(id, inCallersContext(ended));
    return id;
  }

  /** Throws what a call reported that failed. */
  #held(fd: number): OpenFile {
    if (fd >= 0) return this.#opened(fd);
    const { errno, call } = this.#completion();
    throw systemError(errno, call);
  }

  #opened(fd: number): OpenFile {
    const [kind = 0, size = 0, sizeKnown = 0] = this.#shared.facts;
    return { fd, kind: KINDS[kind] ?? 'file', size, sizeKnown: sizeKnown === 1 };
  }

  #completion(): Completion {
    const [
      outcome = 0,
      value = 0,
      backend = 0,
      call = 0,
      errno = 0,
      atFileEnd = 0,
      sourceFailed = 0,
    ] = this.#shared.report;
    return {
      outcome,
      value,
      backend: BACKENDS[backend] ?? 'sendfile',
      call: CALLS[call] ?? 'none',
      errno,
      atFileEnd: atFileEnd === 1,
      sourceFailed: sourceFailed === 1,
    };
  }
}

function numberOf({ kind }: Endpoint | FileEndpoint): number {
  return ENDPOINTS.indexOf(kind);
}

/** Whoever hears of a completion finds the AsyncLocalStorage of the call that started it. */
function inCallersContext(ended: (completion: Completion) => void) {
  const resource = new AsyncResource('ZEROCOPY');
  return (completion: Completion) => resource.runInAsyncScope(ended, undefined, completion);
}

type Loaded =
  | { native: Native; file: string }
  | { native: undefined; code: 'DISABLED' | 'NO_ADDON'; reason: string };

function load(): Loaded {
  const absent = (code: 'DISABLED' | 'NO_ADDON', reason: string): Loaded => ({
    native: undefined,
    code,
    reason,
  });
  const asked = process.env.ZEROCOPY_BACKEND;
  if (asked === 'stream') return absent('DISABLED', 'ZEROCOPY_BACKEND=stream');
  if (asked !== undefined && asked !== '' && asked !== 'auto') {
    throw argumentError(
      'ERR_INVALID_ARG_VALUE',
      `ZEROCOPY_BACKEND must be 'auto' or 'stream'. Received '${asked}'`,
    );
  }
  const movers = wantedMovers();
  if (process.platform !== 'linux') return absent('NO_ADDON', `not on ${process.platform}`);
  let file: string;
  try {
    // Here, since it looks round the file system when it is loaded, which may be forbidden.
    const nodeGypBuild = require('node-gyp-build') as { path(directory: string): string };
    file = nodeGypBuild.path(path.join(__dirname, '..'));
  } catch {
    return absent(
      'NO_ADDON',
      `no binary for ${process.platform}-${process.arch} was found or built`,
    );
  }
  // A binary that is there but can't be loaded is broken, and whoever installed it must hear so.
  try {
    return { native: new Native(require(file) as Binding, movers), file };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_DLOPEN_DISABLED') {
      return absent('NO_ADDON', 'loading addons is disabled (--no-addons or --permission)');
    }
    throw error;
  }
}

function wantedMovers(): number {
  const text = process.env.ZEROCOPY_THREADS;
  if (text === undefined || text === '') return 0;
  const count = Number(text);
  if (!Number.isInteger(count) || count < 1 || count > 64) {
    throw argumentError(
      'ERR_OUT_OF_RANGE',
      `ZEROCOPY_THREADS must be an integer from 1 to 64. Received '${text}'`,
    );
  }
  return count;
}

export const addon: Loaded = load();
