import { getSystemErrorName } from 'node:util';
import type { Backend, Fallback } from './options';

/** How far a transfer had come. */
interface Reached {
  transferred: number;
  backend: Backend;
  fallback?: Fallback | undefined;
  residual?: Buffer | undefined;
}

/** What {@link TransferError} knows beside its message. */
interface TransferErrorDetails extends Reached {
  code: string;
  errno?: number | undefined;
  syscall?: string | undefined;
  cause?: unknown;
}

/**
 * A transfer that did not come to its end. `code` is the name of a system error (`'EPIPE'`), that of the
 * error that a stream at either end failed with, or:
 *
 * - `'ABORT_ERR'`: the signal was aborted; `name` is then `'AbortError'`, `cause` the signal's reason
 * - `'ERR_SOURCE_TRUNCATED'`: the source ended before the bytes it had when the transfer started
 * - `'ERR_STREAM_PREMATURE_CLOSE'`: the sink, or a source stream, was destroyed under the transfer
 * - `'ERR_STREAM_WRITE_AFTER_END'`: the sink had been ended before the transfer was asked for
 * - `'ERR_NOT_NATIVE'`: `backend: 'native'` was asked for and can't be; the message says why
 */
export class TransferError extends Error {
  readonly code: string;
  /** Number of the system error, negative as in Node's own errors. */
  declare readonly errno?: number;
  /** System call that failed. */
  declare readonly syscall?: string;
  /** Bytes that the sink had accepted. */
  readonly transferred: number;
  /** Way that the transfer was on when it failed. */
  readonly backend: Backend;
  /** Why it was on that way; present when `backend` is `'stream'`. */
  declare readonly fallback?: Fallback;
  /** Bytes taken from a source stream that the sink did not accept. */
  declare readonly residual?: Buffer;

  constructor(message: string, details: TransferErrorDetails) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = details.code === 'ABORT_ERR' ? 'AbortError' : 'TransferError';
    this.code = details.code;
    this.transferred = details.transferred;
    this.backend = details.backend;
    if (details.fallback !== undefined) this.fallback = details.fallback;
    if (details.errno !== undefined) this.errno = details.errno;
    if (details.syscall !== undefined) this.syscall = details.syscall;
    if (details.residual !== undefined) this.residual = details.residual;
  }
}

/** Why a transfer failed: an error, or what one is made of. */
export interface Failure {
  message: string;
  code?: string | undefined;
  errno?: number | undefined;
  syscall?: string | undefined;
  cause?: unknown;
}

export function transferError(failure: Failure, reached: Reached): TransferError {
  const { message, code, errno, syscall } = failure;
  return new TransferError(message, {
    ...reached,
    // An error without a code is somebody's own, given to destroy().
    code: code ?? 'ERR_STREAM_PREMATURE_CLOSE',
    errno,
    syscall,
    cause: failure.cause ?? (failure instanceof Error ? failure : undefined),
  });
}

/** A relay that did not come to its end. `transferred` is the sum of both directions. */
export class RelayError extends TransferError {
  /** Bytes that `b` had accepted. */
  readonly aToB: number;
  /** Bytes that `a` had accepted. */
  readonly bToA: number;

  constructor(error: TransferError, aToB: number, bToA: number) {
    super(error.message, { ...error, cause: error.cause, transferred: aToB + bToA });
    this.aToB = aToB;
    this.bToA = bToA;
    if (error.code !== 'ABORT_ERR') this.name = 'RelayError';
  }
}

/** An error like those of Node's fs and net: from an errno above 0, its own is negative. */
export function systemError(errno: number, syscall: string): NodeJS.ErrnoException {
  const code = getSystemErrorName(-errno);
  return Object.assign(new Error(`${syscall} ${code}`), { code, errno: -errno, syscall });
}

/** Errors that the socket is to blame for, after which it can't go on. */
const SOCKET_ERRORS = new Set([
  'EPIPE',
  'ECONNRESET',
  'ECONNABORTED',
  'ENOTCONN',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'EHOSTDOWN',
  'ENETDOWN',
  'ENETUNREACH',
]);

export function isSocketError({ code }: NodeJS.ErrnoException): boolean {
  return code !== undefined && SOCKET_ERRORS.has(code);
}

/**
 * Whether an error is no more than what writes on their way hear of `destroy()`, since Node 24 (EBADF: of
 * a TLSSocket).
 */
export function tellsOfDestroy({ code, syscall }: NodeJS.ErrnoException): boolean {
  return syscall === 'write' && (code === 'ECANCELED' || code === 'EBADF');
}

type ArgumentErrorCode = 'ERR_INVALID_ARG_TYPE' | 'ERR_INVALID_ARG_VALUE' | 'ERR_OUT_OF_RANGE';

/** An error for a bad argument, as Node's own: a RangeError or a TypeError with a `code`. */
export function argumentError(code: ArgumentErrorCode, message: string): Error {
  const Base = code === 'ERR_OUT_OF_RANGE' ? RangeError : TypeError;
  return Object.assign(new Base(message), { code });
}
