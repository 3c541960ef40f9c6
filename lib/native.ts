// The addon: how it is found, what it offers, and the way its completions come back.
import { AsyncResource } from 'node:async_hooks';
import * as path from 'node:path';
import { argumentError } from './errors';

/** Same numbers as `Outcome`, `Backend`, `Call` in native/transfer.h and `FileKind` in file.h. */
export const Outcome = {
  done: 0,
  truncated: 4,
  unsupported: 5,
  failed: 6,
  cancelled: 7,
} as const;
/** kMaxHeadBytes in native/binding.cc. */
export const MAX_HEAD_LENGTH = 4096;
const BACKENDS = ['sendfile', 'read'] as const;
const CALLS = ['none', 'sendfile', 'sendmsg', 'dup', 'epoll_ctl', 'pthread_create'] as const;
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
 * offset, length.
 */
export type NativeSegments = (Uint8Array | number)[];

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
    callback: (id: number) => void,
    report: Float64Array,
    facts: Float64Array,
    movers: number,
  ): void;
  movers(): number;
  openCached(path: string): number;
  openPlain(path: string): number;
  inspect(fd: number): number;
  seek(fd: number, offset: number): number;
  adopt(fd: number): number;
  duplicate(fd: number): number;
  release(fd: number): void;
  mayBlock(fd: number): boolean;
  start(socketFd: number, segments: NativeSegments): number;
  sendNow(socketFd: number, head: string, fd: number, offset: number, length: number): boolean;
  cancel(id: number): void;
  transferred(id: number): number;
  callSync(kind: number, ...call: CallArguments): number;
  call(kind: number, ...call: [...CallArguments, id: number]): number;
  pipe(fds: Int32Array): number;
  supports(kind: number): boolean;
}

/** The addon with its numbers given names. */
export class Native {
  readonly #binding: Binding;
  readonly #report = new Float64Array(6);
  readonly #facts = new Float64Array(3);
  readonly #waiting = new Map<number, (completion: Completion) => void>();
  #lastCall = 0;

  constructor(binding: Binding, movers: number) {
    this.#binding = binding;
    binding.configure(
      (id) => {
        const settle = this.#waiting.get(id);
        this.#waiting.delete(id);
        settle?.(this.#completion());
      },
      this.#report,
      this.#facts,
      movers,
    );
  }

  get movers(): number {
    return this.#binding.movers();
  }

  supports(kind: CallKind): boolean {
    return this.#binding.supports(CALL_KINDS.indexOf(kind));
  }

  /**
   * Opens a path for reading if that needs no disk; `fd` is -errno where it does. A regular file
   * is held until `release(fd)`; anything else is a plain descriptor, the caller's to close.
   */
  openCached(file: string): OpenFile {
    return this.#opened(this.#binding.openCached(file));
  }

  /** The same, whatever it is, as a plain descriptor. */
  openPlain(file: string): OpenFile {
    return this.#opened(this.#binding.openPlain(file));
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

  /** The same with a descriptor that Node has opened: it is no longer the caller's. */
  adopt(fd: number): OpenFile {
    return this.#opened(this.#binding.adopt(fd));
  }

  /** Holds, until `release()`, the open file of a descriptor that stays the caller's. */
  duplicate(fd: number): OpenFile {
    return this.#opened(this.#binding.duplicate(fd));
  }

  release(fd: number): void {
    this.#binding.release(fd);
  }

  mayBlock(fd: number): boolean {
    return this.#binding.mayBlock(fd);
  }

  /**
   * Starts a transfer to a socket. A short one may have ended when this returns: then `ended` has
   * been called, and the id is 0.
   */
  start(
    socketFd: number,
    segments: NativeSegments,
    ended: (completion: Completion) => void,
  ): number {
    const id = this.#binding.start(socketFd, segments);
    if (id === 0) ended(this.#completion());
    else this.#waiting.set(id, inCallersContext(ended));
    return id;
  }

  /**
   * Sends what of a string (Latin-1, at most MAX_HEAD_LENGTH) and a range of a file can be sent at
   * once. Undefined, with nothing sent, where that would take long or might block. Any outcome but
   * `done` and `failed` means that there is a rest.
   */
  sendNow(
    socketFd: number,
    head: string,
    fd: number,
    offset: number,
    length: number,
  ): Completion | undefined {
    const tried = this.#binding.sendNow(socketFd, head, fd, offset, length);
    return tried ? this.#completion() : undefined;
  }

  cancel(id: number): void {
    this.#binding.cancel(id);
  }

  transferred(id: number): number {
    return this.#binding.transferred(id);
  }

  /** The byte count, or -errno. */
  callSync(kind: CallKind, args: CallArguments): number {
    return this.#binding.callSync(CALL_KINDS.indexOf(kind), ...args);
  }

  /** The byte count, or -errno. */
  call(kind: CallKind, args: CallArguments): Promise<number> {
    const id = --this.#lastCall;
    const error = this.#binding.call(CALL_KINDS.indexOf(kind), ...args, id);
    if (error < 0) return Promise.resolve(error);
    return new Promise((resolve) => {
      this.#waiting.set(id, ({ value, errno }) => resolve(errno > 0 ? -errno : value));
    });
  }

  /** 0 or -errno. */
  pipe(fds: Int32Array): number {
    return this.#binding.pipe(fds);
  }

  #opened(fd: number): OpenFile {
    const [kind = 0, size = 0, sizeKnown = 0] = this.#facts;
    return { fd, kind: KINDS[kind] ?? 'file', size, sizeKnown: sizeKnown === 1 };
  }

  #completion(): Completion {
    const [outcome = 0, value = 0, backend = 0, call = 0, errno = 0, atFileEnd = 0] = this.#report;
    return {
      outcome,
      value,
      backend: BACKENDS[backend] ?? 'sendfile',
      call: CALLS[call] ?? 'none',
      errno,
      atFileEnd: atFileEnd === 1,
    };
  }
}

/** Whoever hears of a completion finds the AsyncLocalStorage of the call that started it. */
function inCallersContext(ended: (completion: Completion) => void) {
  const resource = new AsyncResource('ZEROCOPY');
  return (completion: Completion) => resource.runInAsyncScope(ended, undefined, completion);
}

type Loaded =
  | { native: Native }
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
    return { native: new Native(require(file) as Binding, movers) };
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
