// The words and the options of a transfer, and what its arguments must be.
import { type ParsedSink, parseSink } from './sink';
import { type ParsedSource, parseSource } from './source';
import {
  isAbortSignal,
  isBoolean,
  isFunction,
  isString,
  optional,
  optionalByteCount,
  optionsObject,
  valueError,
} from './validate';

/** The way bytes went: a system call, or `'stream'`: through JavaScript. */
export type Backend = 'sendfile' | 'splice' | 'copy_file_range' | 'read' | 'stream';

/** Why a transfer, or the rest of one, went by streams. */
export interface Fallback {
  /**
   * - `'REQUESTED'`: `backend: 'stream'` was given
   * - `'DISABLED'`: `ZEROCOPY_BACKEND=stream` is set
   * - `'NO_ADDON'`: there is no binary, or it may not be loaded; see `capabilities().reason`
   * - `'NO_THREADS'`: the system has no thread for the engine, or no descriptor for what its threads
   *   wait at; the message tells what was refused
   * - `'SOURCE_STREAM'`: the source is a stream, and neither a TCP or Unix socket nor a pipe
   * - `'SOURCE_HANDLE'`: the source is a net.Socket over something else, or not connected
   * - `'SOURCE_OVERRIDDEN'`: the source's `read`, `_read`, `push` or `unshift` is not Node's own
   * - `'SOURCE_ENCODED'`: the source decodes what it reads, by `setEncoding()`
   * - `'SOURCE_PARSED'`: Node's HTTP parser reads the source: it is an IncomingMessage, or the socket
   *   below one
   * - `'SOURCE_BLOCKING'`: the source's descriptor is in blocking mode
   * - `'SOURCE_TYPE'`: the source is a FIFO, a terminal, a device
   * - `'SOURCE_SIZE'`: the source's size means nothing (/proc, /sys), or is 0
   * - `'SOURCE_FS'`: of a ReadStream: its `fs` option has functions of its own, or `fs` has been
   *   given others since
   * - `'READERS'`: of a ReadStream: it is not read by one `pipe()` alone, as bytes
   * - `'SINK_TYPE'`: the sink is neither a TCP or Unix socket, nor a pipe, nor a file, nor, for a file
   *   as source, an HTTP message over a socket
   * - `'SINK_APPEND'`: the sink is a file that is opened for appending
   * - `'SINK_HANDLE'`: the sink is a net.Socket over something else, or not connected
   * - `'SINK_OVERRIDDEN'`: the sink's `write`, `_write` or `_writev` is not Node's own
   * - `'SINK_BLOCKING'`: the sink's descriptor is in blocking mode
   * - `'SINK_CORKED'`: of a ReadStream: the sink was corked
   * - `'NO_BODY'`: the sink is an HTTP message that has none: the answer to HEAD, 204, 304
   * - `'STRICT_LENGTH'`: the sink is an HTTP message with `strictContentLength`
   * - `'TLS'`: one of the ends encrypts
   * - `'UNSUPPORTED'`: the kernel refused, the message tells what and how
   */
  code: FallbackCode;
  message: string;
  /** Bytes that had been transferred natively by then. */
  at: number;
}

/** What {@link Fallback} explains. */
export const FALLBACK_CODES = [
  'REQUESTED',
  'DISABLED',
  'NO_ADDON',
  'NO_THREADS',
  'SOURCE_STREAM',
  'SOURCE_HANDLE',
  'SOURCE_OVERRIDDEN',
  'SOURCE_ENCODED',
  'SOURCE_PARSED',
  'SOURCE_BLOCKING',
  'SOURCE_TYPE',
  'SOURCE_SIZE',
  'SOURCE_FS',
  'READERS',
  'SINK_TYPE',
  'SINK_APPEND',
  'SINK_HANDLE',
  'SINK_OVERRIDDEN',
  'SINK_BLOCKING',
  'SINK_CORKED',
  'NO_BODY',
  'STRICT_LENGTH',
  'TLS',
  'UNSUPPORTED',
] as const;

export type FallbackCode = (typeof FALLBACK_CODES)[number];

export interface TransferOptions {
  /**
   * Absolute start in a file source, in bytes. A descriptor's own position is neither used nor
   * moved. @default 0
   */
  offset?: number | undefined;
  /**
   * Most bytes to move. Of a stream, what follows them stays there to be read; one that ends before
   * is no error. @default to the end that the file has when the transfer starts, or the stream's
   */
  length?: number | undefined;
  /** Where to write in a file sink. @default as write(2) would, at its position */
  sinkOffset?: number | undefined;
  /** How a path sink is opened. @default 'w', or 'r+' with `sinkOffset` */
  sinkFlags?: string | undefined;
  /**
   * Whether to end the sink after the last byte.
   * @default true for a ServerResponse or ClientRequest, else false
   */
  endSink?: boolean | undefined;
  /** Aborts the transfer. The sink stays open: what it has accepted by then can't be taken back. */
  signal?: AbortSignal | undefined;
  /** Called while bytes move, at most every 100 ms, and once at the end. */
  onProgress?: ((progress: Progress) => void) | undefined;
  /** `'native'` rejects where `'auto'` would fall back to streams. @default 'auto' */
  backend?: 'auto' | 'native' | 'stream' | undefined;
}

export interface Progress {
  /** Bytes that the sink has accepted. */
  transferred: number;
  /** Bytes in all, where that is known. */
  total: number | undefined;
}

export interface TransferResult {
  /** Bytes that the sink has accepted; over streams: whose write callback has fired. */
  transferred: number;
  /** The way the bytes of files went; `'stream'` if any went by streams. */
  backend: Backend;
  /** Present when `backend` is `'stream'`. */
  fallback?: Fallback;
}

const OPTIONS = [
  'offset',
  'length',
  'sinkOffset',
  'sinkFlags',
  'endSink',
  'signal',
  'onProgress',
  'backend',
] as const;

/** A transfer's arguments, found right. */
export interface Arguments {
  source: ParsedSource;
  sink: ParsedSink;
  endSink: boolean;
  signal: AbortSignal | undefined;
  onProgress: ((progress: Progress) => void) | undefined;
  backend: 'auto' | 'native' | 'stream';
}

/** Checks a transfer's arguments: throws for the first that is bad, before anything is opened. */
export function parseArguments(source: unknown, sink: unknown, options: unknown): Arguments {
  const given = optionsObject(options, OPTIONS);
  const backend = optional('options.backend', given.backend, 'a string', isString) ?? 'auto';
  if (backend !== 'auto' && backend !== 'native' && backend !== 'stream') {
    throw valueError('options.backend', "must be 'auto', 'native' or 'stream'", backend);
  }
  const parsedSink = parseSink(
    sink,
    optionalByteCount('options.sinkOffset', given.sinkOffset),
    optional('options.sinkFlags', given.sinkFlags, 'a string', isString),
  );
  return {
    source: parseSource(
      source,
      optionalByteCount('options.offset', given.offset),
      optionalByteCount('options.length', given.length),
    ),
    sink: parsedSink,
    endSink:
      optional('options.endSink', given.endSink, 'a boolean', isBoolean) ??
      (parsedSink.kind === 'stream' && parsedSink.endsByDefault),
    signal: optional('options.signal', given.signal, 'an AbortSignal', isAbortSignal),
    onProgress: optional('options.onProgress', given.onProgress, 'a function', isFunction) as
      | ((progress: Progress) => void)
      | undefined,
    backend,
  };
}
