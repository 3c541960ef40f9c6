// What is told of transfers: their number to stats(), always; and each of them, as it begins and ends,
// to whoever has subscribed to the tracing channel.
//
// While nobody has, nothing is made and no time is taken: all transfers share one Observation.
import { tracingChannel } from 'node:diagnostics_channel';
import { IncomingMessage } from 'node:http';
import * as net from 'node:net';
import { isFileHandle } from './file';
import { handleOf, isKernelHandle, isPipe } from './handle';
import { isMessage } from './http';
import type { Backend, Fallback } from './options';
import { countBegun, countEnded, countFallback } from './stats';

/**
 * What an end of a transfer looks like before anything is opened:
 *
 * - `'file'`: a path, a file URL, a descriptor, a FileHandle, a stream of `createReadStream()`
 * - `'list'`: a gather list
 * - `'socket'`, `'pipe'`: a net.Socket over a TCP or Unix socket; over a pipe
 * - `'tls'`: a TLSSocket
 * - `'message'`: a ServerResponse, a ClientRequest, an IncomingMessage
 * - `'stream'`: any other stream
 */
export type EndpointKind = 'file' | 'list' | 'socket' | 'pipe' | 'tls' | 'message' | 'stream';

/**
 * What subscribers of `tracingChannel('zerocopy:transfer')` are given: of one transfer the same object
 * with all of its events. From 'asyncStart' on (with a failed one from 'error' on) it has the second
 * half.
 */
export interface TransferTrace {
  /** As given to `transfer()` and the others; of `createReadStream()` the stream. */
  source: unknown;
  sink: unknown;
  sourceKind: EndpointKind;
  sinkKind: EndpointKind;
  /** Bytes that the sink has accepted. */
  transferred?: number;
  /** The way that they went. */
  backend?: Backend;
  /** Why it went, or goes on, by streams. */
  fallback?: Fallback;
  /** From 'start' to its end, in milliseconds. */
  durationMs?: number;
  /** Why it failed. */
  error?: Error;
}

/** What begins a transfer. */
interface Beginner<T> {
  begin(): T;
}

/** A transfer in the eyes of whoever watches. It begins once, and ends once. */
export class Observation {
  begin<T>(transfer: Beginner<T>): T {
    countBegun();
    return transfer.begin();
  }

  ended(transferred: number, backend: Backend, fallback?: Fallback, error?: Error): void {
    countEnded(transferred, backend, error !== undefined);
    // What is left of a ReadStream's stretch that native code refused counts as that stream's own.
    if (backend === 'stream' && fallback) countFallback(fallback);
  }
}

const {
  start,
  end,
  asyncStart,
  asyncEnd,
  error: failed,
} = tracingChannel<unknown, TransferTrace>('zerocopy:transfer');

/** The events of a promise, as `tracePromise()` tells them. */
class TracedObservation extends Observation {
  readonly #trace: TransferTrace;
  readonly #startMs = performance.now();
  #isBeginning = true;
  #hasEnded = false;

  constructor(trace: TransferTrace) {
    super();
    this.#trace = trace;
  }

  override begin<T>(transfer: Beginner<T>): T {
    const begun = start.runStores(this.#trace, () => super.begin(transfer));
    end.publish(this.#trace);
    this.#isBeginning = false;
    if (this.#hasEnded) this.#publishEnd();
    return begun;
  }

  override ended(transferred: number, backend: Backend, fallback?: Fallback, error?: Error): void {
    super.ended(transferred, backend, fallback, error);
    const durationMs = performance.now() - this.#startMs;
    Object.assign(this.#trace, { transferred, backend, durationMs });
    if (fallback) this.#trace.fallback = fallback;
    if (error) this.#trace.error = error;
    this.#hasEnded = true;
    if (!this.#isBeginning) this.#publishEnd();
  }

  #publishEnd(): void {
    if (this.#trace.error) failed.publish(this.#trace);
    asyncStart.publish(this.#trace);
    asyncEnd.publish(this.#trace);
  }
}

const untraced = new Observation();

/** Of what is a part of a transfer that is observed as a whole. */
export const unobserved: Observation = { begin: (transfer) => transfer.begin(), ended: () => {} };

/** `sourceKind` is for a source that is not what it looks like. */
export function observe(source: unknown, sink: unknown, sourceKind?: EndpointKind): Observation {
  if (!hasSubscribers()) return untraced;
  return new TracedObservation({
    source,
    sink,
    sourceKind: sourceKind ?? kindOf(source),
    sinkKind: kindOf(sink),
  });
}

/** Node.js 20 can't say it of all five. */
function hasSubscribers(): boolean {
  return (
    start.hasSubscribers ||
    end.hasSubscribers ||
    asyncStart.hasSubscribers ||
    asyncEnd.hasSubscribers ||
    failed.hasSubscribers
  );
}

function kindOf(endpoint: unknown): EndpointKind {
  if (Array.isArray(endpoint)) return 'list';
  const isFile = typeof endpoint !== 'object' || endpoint === null || endpoint instanceof URL;
  if (isFile || isFileHandle(endpoint)) return 'file';
  if (endpoint instanceof IncomingMessage || isMessage(endpoint)) return 'message';
  if ('encrypted' in endpoint && endpoint.encrypted === true) return 'tls';
  return endpoint instanceof net.Socket ? kindOfSocket(endpoint) : 'stream';
}

function kindOfSocket(socket: net.Socket): EndpointKind {
  const handle = handleOf(socket);
  if (handle === null) return 'socket';
  if (!isKernelHandle(handle)) return 'stream';
  return isPipe(handle) ? 'pipe' : 'socket';
}
