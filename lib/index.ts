/**
 * Sends files to sockets inside the kernel.
 *
 * transfer → source, sink: what the two ends are, and how files are opened
 *          → lease: a transfer's turn among a sink's writes
 *          → native: the addon (native/engine.h), which moves the bytes
 *          → stream-backend: the way that is always there
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
export type { Sink } from './sink';
export type { FileSource, Segment, Source } from './source';
export {
  type Backend,
  type Fallback,
  type FallbackCode,
  type Progress,
  type TransferOptions,
  type TransferResult,
  transfer,
} from './transfer';
