/**
 * Moves bytes between files, sockets and pipes inside the kernel.
 *
 * transfer    → source, sink: what the two ends are
 *             → file, file-sink: how files are opened and held, and written to
 *             → claim: a stream that a transfer reads, and nobody else meanwhile: gate;
 *               socket-source: of which native code takes the bytes
 *             → places: whose turn comes first at an HTTP message without headers
 *             → http: a transfer's turn in the body of an HTTP message
 *             → lease: a transfer's turn among a sink's writes
 *             → handle, idle: the descriptors and the timeouts of Node's sockets
 *             → native: the addon (native/engine.h), which moves the bytes
 *             → stream-backend: the way that is always there
 *             → abort: one listener for each signal; closed: ends that are closed under it
 *             → observe: whoever watches: stats, and the tracing channel
 * relay       → transfer, twice
 * copy-file   → transfer, of a whole file
 * read-stream → stretch: what goes natively of a ReadStream → sink, http, lease, native, observe
 *             → node-fs: whether fs is what Node made it
 *             → later: when to tell what was done at once
 * register    → read-stream
 * calls, capabilities → native
 * cli         → info: what this machine can do, by trying copy-file and transfer
 *
 * All of them share the words of options, errors and fallback; validate says what arguments must be.
 */
export {
  constants,
  copyFileRange,
  copyFileRangeSync,
  type Pipe,
  pipe,
  pipeSync,
  sendfile,
  sendfileSync,
  splice,
  spliceSync,
} from './calls';
export { type Capabilities, capabilities } from './capabilities';
export { type CopyFileOptions, copyFile } from './copy-file';
export { RelayError, TransferError } from './errors';
export type { FileSource } from './file';
export type { EndpointKind, TransferTrace } from './observe';
export type {
  Backend,
  Fallback,
  FallbackCode,
  Progress,
  TransferOptions,
  TransferResult,
} from './options';
export { createReadStream, type ReadStream } from './read-stream';
export { type RelayOptions, type RelayResult, relay } from './relay';
export type { Sink } from './sink';
export type { Segment, Source } from './source';
export { type Stats, stats } from './stats';
export { transfer } from './transfer';
