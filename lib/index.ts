/**
 * Sends files to sockets inside the kernel.
 *
 * transfer    → source, sink: what the two ends are
 *             → file: how files are opened and held
 *             → http: a transfer's turn in the body of an HTTP message
 *             → lease: a transfer's turn among a sink's writes
 *             → native: the addon (native/engine.h), which moves the bytes
 *             → stream-backend: the way that is always there
 * read-stream → stretch: what goes natively of a ReadStream → sink, http, lease, native
 * register    → read-stream
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
export { TransferError } from './errors';
export type { FileSource } from './file';
export type {
  Backend,
  Fallback,
  FallbackCode,
  Progress,
  TransferOptions,
  TransferResult,
} from './options';
export { createReadStream, type ReadStream } from './read-stream';
export type { Sink } from './sink';
export type { Segment, Source } from './source';
export { transfer } from './transfer';
