// Ends that were closed under a transfer.
import type { Readable, Writable } from 'node:stream';
import { type Failure, tellsOfDestroy } from './errors';
import { isGone, isMessage } from './http';

/** A message hears later than its connection that this has gone. */
export function isClosed(sink: NodeJS.WritableStream): boolean {
  return (sink as Partial<Writable>).destroyed === true || (isMessage(sink) && isGone(sink));
}

/** A system error that closed an end is the transfer's own; libuv may have seen it first. */
export function closedUnder(
  stream: NodeJS.ReadableStream | NodeJS.WritableStream,
  role: 'source' | 'sink',
): Failure {
  const cause: NodeJS.ErrnoException | null | undefined = (stream as Partial<Readable>).errored;
  const failure = cause && !tellsOfDestroy(cause) ? cause : undefined;
  if (failure?.syscall !== undefined) return failure;
  return {
    message: `The ${role} was destroyed under the transfer`,
    code: failure?.code ?? 'ERR_STREAM_PREMATURE_CLOSE',
    cause: cause ?? undefined,
  };
}
