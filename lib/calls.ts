// The bare system calls: one call each, no retries but for EINTR, EAGAIN handed on like any error.
import * as fs from 'node:fs';
import * as os from 'node:os';
import { isMainThread } from 'node:worker_threads';
import { systemError } from './errors';
import { addon, type CallArguments, type CallKind, type Native } from './native';
import { byteCount, descriptor, valueError } from './validate';

/** Flags and limits of the bare calls, from splice(2) and sendfile(2). */
export const constants = {
  /** Move pages instead of copying them, where it can; without effect since Linux 2.6.21. */
  SPLICE_F_MOVE: 1,
  /** Don't block on a pipe. */
  SPLICE_F_NONBLOCK: 2,
  /** More will follow: a socket may wait for it to fill a packet. */
  SPLICE_F_MORE: 4,
  /** Most bytes that one call moves. */
  MAX_COUNT: 0x7ffff000,
} as const;

const MAX_FLAGS = constants.SPLICE_F_MOVE | constants.SPLICE_F_NONBLOCK | constants.SPLICE_F_MORE;

/**
 * Calls sendfile(2) once, on a native thread: moves up to `count` bytes from the file `inFd` to
 * `outFd`. Reads from `offset`; with null from the descriptor's own position, which it moves.
 * Resolves with the number of bytes moved: it may be less than `count`, and is 0 at the file's end.
 *
 * @throws a system error with `code`, `errno` and `syscall`; `EAGAIN` when `outFd` is full, and with
 * `syscall: 'pthread_create'` when there is no thread to be had, as all three
 */
export function sendfile(
  outFd: number,
  inFd: number,
  offset: number | null,
  count: number,
): Promise<number> {
  return run('sendfile', () => sendfileArguments(outFd, inFd, offset, count));
}

/** As {@link sendfile}, on this thread: blocks it for as long as the disk and `outFd` take. */
export function sendfileSync(
  outFd: number,
  inFd: number,
  offset: number | null,
  count: number,
): number {
  return runSync('sendfile', sendfileArguments(outFd, inFd, offset, count));
}

/**
 * Calls splice(2) once, on a native thread: moves up to `count` bytes between two descriptors, one
 * of which must be a pipe. A null offset stands for the descriptor's own position, and is the only
 * one for a pipe. Resolves with the number of bytes moved; 0 at the end of the input.
 *
 * @throws a system error with `code`, `errno` and `syscall`
 */
export function splice(
  inFd: number,
  inOffset: number | null,
  outFd: number,
  outOffset: number | null,
  count: number,
  flags = 0,
): Promise<number> {
  return run('splice', () => rangeArguments(inFd, inOffset, outFd, outOffset, count, flags));
}

/** As {@link splice}, on this thread: blocks it, unless SPLICE_F_NONBLOCK is given. */
export function spliceSync(
  inFd: number,
  inOffset: number | null,
  outFd: number,
  outOffset: number | null,
  count: number,
  flags = 0,
): number {
  return runSync('splice', rangeArguments(inFd, inOffset, outFd, outOffset, count, flags));
}

/**
 * Calls copy_file_range(2) once, on a native thread: copies up to `count` bytes from one file to
 * another, by reference where the file system can. A null offset stands for the descriptor's own
 * position. Resolves with the number of bytes copied; 0 at the end of the input.
 *
 * @throws a system error with `code`, `errno` and `syscall`
 */
export function copyFileRange(
  inFd: number,
  inOffset: number | null,
  outFd: number,
  outOffset: number | null,
  count: number,
): Promise<number> {
  return run('copyFileRange', () => rangeArguments(inFd, inOffset, outFd, outOffset, count, 0));
}

/** As {@link copyFileRange}, on this thread: blocks it for as long as the disks take. */
export function copyFileRangeSync(
  inFd: number,
  inOffset: number | null,
  outFd: number,
  outOffset: number | null,
  count: number,
): number {
  return runSync('copyFileRange', rangeArguments(inFd, inOffset, outFd, outOffset, count, 0));
}

/** The two ends of a pipe. Whoever made it closes them (`fs.close`). */
export interface Pipe {
  readFd: number;
  writeFd: number;
}

/** Calls pipe2(2) with O_CLOEXEC. */
export async function pipe(): Promise<Pipe> {
  return pipeSync(); // it can't block: no thread is needed
}

/** As {@link pipe}. */
export function pipeSync(): Pipe {
  const native = required('pipe2');
  const ends = new Int32Array(2);
  check(native.pipe(ends, !isMainThread), 'pipe2');
  const [readFd = -1, writeFd = -1] = ends;
  if (isMainThread) return { readFd, writeFd };
  const reopened = reopen(readFd, writeFd);
  if (!reopened) {
    return { readFd: native.surrender(readFd), writeFd: native.surrender(writeFd) };
  }
  native.release(readFd);
  native.release(writeFd);
  return reopened;
}

/**
 * The same pipe, opened by Node's fs: a worker, when it ends, closes what that has opened, and it
 * warns of being asked to close anything else. Undefined where it can't: without /proc, or without leave.
 */
function reopen(readFd: number, writeFd: number): Pipe | undefined {
  let opened: number | undefined;
  try {
    opened = fs.openSync(`/proc/self/fd/${readFd}`, 'r');
    return { readFd: opened, writeFd: fs.openSync(`/proc/self/fd/${writeFd}`, 'w') };
  } catch {
    if (opened !== undefined) fs.closeSync(opened);
    return undefined;
  }
}

const SYSCALL_NAMES: Record<CallKind, string> = {
  sendfile: 'sendfile',
  splice: 'splice',
  copyFileRange: 'copy_file_range',
};

/** Async, so that bad arguments are rejections like every other error. */
async function run(kind: CallKind, args: () => CallArguments): Promise<number> {
  const valid = args();
  const syscall = SYSCALL_NAMES[kind];
  return check(await required(syscall).call(kind, valid), syscall);
}

function runSync(kind: CallKind, args: CallArguments): number {
  const syscall = SYSCALL_NAMES[kind];
  return check(required(syscall).callSync(kind, args), syscall);
}

function check(result: number, syscall: string): number {
  if (result < 0) throw systemError(-result, syscall);
  return result;
}

/** Without the addon the calls are what they are on a kernel that lacks them. */
function required(syscall: string): Native {
  if (addon.native) return addon.native;
  throw Object.assign(new Error(`${syscall} ENOSYS: ${addon.reason}`), {
    code: 'ENOSYS',
    errno: -os.constants.errno.ENOSYS,
    syscall,
  });
}

function sendfileArguments(
  outFd: number,
  inFd: number,
  offset: number | null,
  count: number,
): CallArguments {
  return [
    descriptor('inFd', inFd),
    optionalOffset('offset', offset),
    descriptor('outFd', outFd),
    -1,
    byteCount('count', count),
    0,
  ];
}

function rangeArguments(
  inFd: number,
  inOffset: number | null,
  outFd: number,
  outOffset: number | null,
  count: number,
  flags: number,
): CallArguments {
  const bits = byteCount('flags', flags);
  if ((bits & ~MAX_FLAGS) !== 0 || bits > MAX_FLAGS) {
    throw valueError('flags', 'must be made of constants.SPLICE_F_*', flags);
  }
  return [
    descriptor('inFd', inFd),
    optionalOffset('inOffset', inOffset),
    descriptor('outFd', outFd),
    optionalOffset('outOffset', outOffset),
    byteCount('count', count),
    bits,
  ];
}

function optionalOffset(name: string, offset: number | null): number {
  return offset === null ? -1 : byteCount(name, offset);
}
