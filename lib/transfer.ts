// One transfer, from its arguments to its settlement.
import type { OutgoingMessage } from 'node:http';
import type * as net from 'node:net';
import * as os from 'node:os';
import { Readable, type Writable } from 'node:stream';
import { debuglog } from 'node:util';
import { onAbort } from './abort';
import type { Claim } from './claim';
import { closedUnder, isClosed } from './closed';
import { type Failure, isSocketError, systemError, transferError } from './errors';
import { because, refusedBy } from './fallback';
import { FileSink } from './file-sink';
import { breakOff, isMessage } from './http';
import type { Job, Turn } from './lease';
import { addon, type Completion, type NativeSegments, Outcome } from './native';
import { type Observation, observe } from './observe';
import {
  type Arguments,
  type Backend,
  type Fallback,
  parseArguments,
  type TransferOptions,
  type TransferResult,
} from './options';
import { keepPlace, takePlaces } from './places';
import { type ParsedSink, type Sink, takeTurn, whyNotNativeSink } from './sink';
import {
  keepMemory,
  type OpenSource,
  openSource,
  type ParsedSource,
  type Segment,
  type Source,
} from './source';
import { ownStream, Pump, SourceTruncatedError } from './stream-backend';

/** What is moved as one: by the engine, or as a stream. */
type Leg = NativeSegments | Readable;

const { ECONNRESET, ENOMEM } = os.constants.errno;
const PROGRESS_INTERVAL_MS = 100;
const debug = debuglog('zerocopy');
const none: Leg[] = [];

/**
 * Moves bytes from `source` to `sink`, inside the kernel where it can: between files, gather lists of
 * memory and ranges of files, TCP and Unix sockets, and pipes. Everything else goes by streams; the
 * result says which way was taken and why.
 *
 * On a stream sink a transfer is a write like any other: what was written before it goes before it,
 * what is written after it, after it. From a stream source it takes what JavaScript has not read yet,
 * and nobody else reads it meanwhile; after `length` bytes JavaScript reads on at the very next one.
 * Resolves when the sink has accepted the last byte. Neither end is closed unless it was opened here,
 * or `endSink` says so.
 *
 * @throws (as a rejection) `ERR_INVALID_ARG_TYPE`, `ERR_INVALID_ARG_VALUE` or `ERR_OUT_OF_RANGE` for
 * a bad argument, before anything moves; a {@link TransferError} for everything else
 */
export function transfer(
  source: Source | Segment[],
  sink: Sink,
  options?: TransferOptions,
): Promise<TransferResult> {
  return new Promise((resolve, reject) => {
    const args = parseArguments(source, sink, options);
    const observation = observe(source, sink);
    observation.begin(new Transfer(args, resolve, reject, observation));
  });
}

/** As `transfer`, of arguments that have been found right. */
export function move(args: Arguments, observation: Observation): Promise<TransferResult> {
  return new Promise((resolve, reject) =>
    observation.begin(new Transfer(args, resolve, reject, observation)),
  );
}

/** Why native code may not be used at all. */
export function whyNoNativeCode(backend: Arguments['backend']): Fallback | undefined {
  if (backend === 'stream') return because('REQUESTED', "backend: 'stream' was given");
  return addon.native ? undefined : because(addon.code, addon.reason);
}

class Transfer implements Job {
  readonly #arguments: Arguments;
  readonly #resolve: (result: TransferResult) => void;
  readonly #reject: (error: unknown) => void;
  readonly #observation: Observation;
  readonly #onSinkClose = () => {
    const { sink } = this.#arguments;
    if (sink.kind === 'stream') this.#interrupt(closedUnder(sink.stream, 'sink'));
  };
  #onSourceClose: (() => void) | undefined;
  #ignoreSignal: (() => void) | undefined;
  #settled = false;
  #moving = false;
  #transferred = 0;
  #backend: Backend = 'sendfile';
  #fallback: Fallback | undefined;
  #source: OpenSource | undefined;
  /** Tells that the process no longer waits for the source to be open. */
  #isOpened: (() => void) | undefined;
  #givePlaceUp: (() => void) | undefined;
  #turn: Turn | undefined;
  #turnTaken = false;
  #fileSink: FileSink | undefined;
  #fileSinkFinished = false;
  #progressTimer: NodeJS.Timeout | undefined;
  /** What is moving bytes now: the engine, or a pump. */
  #inEngine = false;
  #pump: Pump | undefined;
  #legs: Leg[] = none;
  #legsBegun = 0;
  #legsEnded = 0;
  /** Why it is to end when what is on its way has ended. */
  #interruption: Failure | undefined;

  constructor(
    args: Arguments,
    resolve: (result: TransferResult) => void,
    reject: (error: unknown) => void,
    observation: Observation,
  ) {
    this.#arguments = args;
    this.#resolve = resolve;
    this.#reject = reject;
    this.#observation = observation;
  }

  begin(): void {
    const { source, sink, endSink, signal, backend } = this.#arguments;
    this.#fallback = whyNoNativeCode(backend) ?? whyNotNativeSink(sink, source.kind === 'stream');
    if (this.#fallback) this.#backend = 'stream';
    if (signal?.aborted) return this.#fail(this.#aborted());
    if (sink.kind === 'stream') {
      const error = this.#deadSink(sink.stream, false);
      if (error) return this.#fail(error);
    }
    if (this.#fallback && !this.#mayFallBack(this.#fallback)) return;
    if (signal) this.#ignoreSignal = onAbort(signal, () => this.#interrupt(this.#aborted()));
    this.#startProgress();

    try {
      if (sink.kind === 'file') this.#fileSink = new FileSink(sink);
      const opened = openSource(source);
      if (opened instanceof Promise) {
        if (source.kind === 'list') this.#isOpened = addon.native?.keepAlive();
        opened
          .then(
            (source) => this.#sourceOpened(source),
            (error) => this.#fail(error),
          )
          .finally(this.#isOpened);
      } else {
        this.#source = opened;
      }
    } catch (error) {
      return this.#fail(error as Error);
    }
    const message = this.#message;
    if (this.#source || !message || message.headersSent) {
      this.#takeTurn();
    } else {
      // The headers stay unsent until there is a source: the answer may be 404 yet. One that is to end
      // the message gives way to whatever else answers.
      this.#givePlaceUp = keepPlace(message, !endSink, () => this.#takeOwnTurn());
    }
    this.#proceed();
    if (!this.#settled) this.#keepMemory();
  }

  #keepMemory(): void {
    try {
      keepMemory(this.#arguments.source);
    } catch (cause) {
      // There is no memory for as much.
      this.#interrupt({
        ...systemError(ENOMEM, 'malloc'),
        message: (cause as Error).message,
        cause,
      });
    }
  }

  // Job: what the lease calls.

  get over(): boolean {
    return this.#settled;
  }

  start(turn: Turn): void {
    if (this.#settled) return turn.release();
    this.#turn = turn;
    const { sink } = this.#arguments;
    if (sink.kind === 'stream') {
      const error = this.#deadSink(sink.stream, turn.queued);
      if (error) return this.#fail(error);
      sink.stream.on('close', this.#onSinkClose); // until #letGo()
    }
    this.#proceed();
  }

  dropped(error: Error): void {
    const { sink } = this.#arguments;
    const failure = sink.kind === 'stream' ? closedUnder(sink.stream, 'sink') : error;
    // What has had its turn knows how far it came.
    if (this.#turn) this.#interrupt(failure);
    else this.#fail(failure);
  }

  // The way to the first byte: both ends must be ready.

  #sourceOpened(source: OpenSource): void {
    if (this.#settled) return source.close();
    this.#source = source;
    this.#takeTurn();
    this.#proceed();
  }

  /** The sink, if it is one of HTTP. */
  get #message(): OutgoingMessage | undefined {
    const { sink } = this.#arguments;
    return sink.kind === 'stream' && isMessage(sink.stream) ? sink.stream : undefined;
  }

  #takeTurn(): void {
    // Those that were asked for before go before it; it may be one of them.
    if (this.#message) takePlaces(this.#message);
    this.#takeOwnTurn();
  }

  #takeOwnTurn(): void {
    const { sink } = this.#arguments;
    if (this.#turnTaken || this.#settled || sink.kind !== 'stream') return;
    this.#turnTaken = true;
    takeTurn(sink.stream, this);
  }

  #proceed(): void {
    if (this.#settled || this.#moving || !this.#source) return;
    const source = this.#source;
    if (!this.#turn) {
      const sink = this.#fileSink;
      if (sink && !this.#turnTaken) {
        this.#turnTaken = true;
        sink.open(source).then(
          (turn) => this.#turnGiven(turn),
          (error) => this.#fail(error),
        );
      }
      return;
    }
    this.#moving = true;
    const mayTake = source.fileMayTake && this.#fileSink !== undefined;
    const fallback = this.#fallback ?? (mayTake ? undefined : source.fallback);
    if (fallback) {
      if (this.#mayFallBack(fallback)) this.#stream(fallback);
    } else if (source.claim) {
      this.#backend = 'splice';
      const { claim, limit } = source;
      this.#whenConnected(claim.stream as net.Socket, () => this.#splice(claim, limit));
    } else {
      this.#legs = source.legs();
      this.#nextLeg();
    }
  }

  #turnGiven(turn: Turn): void {
    this.#turn = turn;
    this.#proceed();
  }

  /** False, and the transfer failed, where only the native way was wanted. */
  #mayFallBack(fallback: Fallback): boolean {
    if (this.#arguments.backend !== 'native') return true;
    const message = `No native way: ${fallback.message}`;
    this.#fail({ message, code: 'ERR_NOT_NATIVE', cause: fallback });
    return false;
  }

  // The native way: the engine moves runs of segments, the pump large pieces of memory between them.

  #nextLeg(): void {
    const leg = this.#legs[this.#legsBegun];
    if (leg === undefined) return this.#done();
    if (this.#interruption) return this.#fail(this.#interruption);
    this.#legsBegun += 1;
    if (leg instanceof Readable)
      return this.#pumpFrom(leg, Number.POSITIVE_INFINITY, () => this.#nextLeg());
    this.#inEngine = true;
    const fallback = this.#turn?.move(leg, (completion) => {
      this.#inEngine = false;
      this.#transferred += completion.value;
      this.#legEnded(completion);
    });
    if (!fallback) return;
    this.#inEngine = false;
    this.#withoutDescriptor(fallback);
  }

  // Of a socket or a pipe native code takes what Node has not read by now.

  #whenConnected(source: net.Socket, then: () => void): void {
    this.#onSourceClose = () => {
      // One that has ended may close while its last bytes are on their way.
      if (!source.readableEnded) this.#interrupt(closedUnder(source, 'source'));
    };
    source.once('close', this.#onSourceClose);
    if (source.destroyed && source.readableEnded) this.#done();
    else if (source.destroyed) this.#fail(closedUnder(source, 'source'));
    else if (!source.connecting) then();
    else source.once('connect', () => (this.#settled ? undefined : then()));
  }

  #splice(claim: Claim, limit: number): void {
    this.#inEngine = true;
    const fallback = claim.splice(this.#turn as Turn, limit, (completion) => {
      this.#inEngine = false;
      this.#transferred += completion.value;
      this.#spliceEnded(completion, claim, limit);
    });
    if (!fallback) return;
    this.#inEngine = false;
    this.#withoutDescriptor(fallback);
  }

  #spliceEnded(completion: Completion, claim: Claim, limit: number): void {
    const { outcome, call, errno, residual, sourceFailed } = completion;
    const { stream } = claim;
    if (outcome === Outcome.done) {
      if (this.#transferred === limit) return this.#done();
      if (claim.hidesReset()) return this.#failBySource(stream, systemError(ECONNRESET, 'splice'));
      // The source has ended, and JavaScript is to hear of it.
      claim.giveBack();
      return this.#pumpFrom(stream, limit - this.#transferred, () => this.#done());
    }
    if (this.#interruption) return this.#fail(this.#interruption, undefined, residual);
    if (outcome === Outcome.unsupported) {
      if (residual) claim.putBack(residual);
      return this.#unsupported(completion);
    }
    const error = systemError(errno, call);
    if (!isSocketError(error)) return this.#fail(error, undefined, residual);
    if (sourceFailed) this.#failBySource(stream, error, residual);
    else this.#failBySink(error, residual);
  }

  #unsupported(completion: Completion): void {
    const fallback = refusedBy(completion, this.#transferred);
    if (this.#mayFallBack(fallback)) this.#stream(fallback);
  }

  #withoutDescriptor(fallback: Fallback): void {
    const { sink } = this.#arguments;
    if (sink.kind === 'stream' && isClosed(sink.stream))
      this.#fail(closedUnder(sink.stream, 'sink'));
    else if (this.#mayFallBack(fallback)) this.#stream({ ...fallback, at: this.#transferred });
  }

  #legEnded(completion: Completion): void {
    const { outcome, backend, call, errno } = completion;
    // `read` only where all that was of files went so.
    if (this.#backend === 'read' || !this.#legsEnded++) this.#backend = backend;
    if (outcome === Outcome.done) return this.#nextLeg();
    const truncated = outcome === Outcome.truncated ? new SourceTruncatedError() : undefined;
    // Whoever interrupted it: the length of the message, or of a chunk, had been promised.
    if (truncated && this.#interruption) this.#breakOff(truncated);
    if (this.#interruption) return this.#fail(this.#interruption);
    if (truncated) return this.#fail(truncated);
    if (outcome === Outcome.unsupported) return this.#unsupported(completion);
    const error = systemError(errno, call);
    if (isSocketError(error)) this.#failBySink(error);
    else this.#fail(error);
  }

  // The stream way, for what has not gone natively.

  #stream(fallback: Fallback): void {
    this.#fallback = fallback;
    this.#backend = 'stream';
    const source = this.#source as OpenSource;
    source.claim?.giveBack();
    this.#pumpFrom(source.streamFrom(this.#transferred), source.limit - this.#transferred, () =>
      this.#done(),
    );
  }

  #pumpFrom(stream: Readable, limit: number, then: () => void): void {
    const turn = this.#turn as Turn;
    if (this.#onSourceClose) stream.off('close', this.#onSourceClose); // a pump listens itself
    this.#pump = new Pump(this.#source?.claim ?? ownStream(stream), limit, {
      write: (chunk, done) => turn.write(chunk, done),
      accepted: (bytes) => {
        this.#transferred += bytes;
      },
      ended: ({ error, side, residual }) => {
        this.#pump = undefined;
        if (!error) return then();
        if (side === 'sink') this.#failBySink(error, this.#unwritten(residual));
        else this.#failOnceWritten(error, residual);
      },
    });
    this.#pump?.start();
  }

  // The end.

  #interrupt(failure: Failure): void {
    if (this.#inEngine) {
      // The engine's completion comes at once, unless a step is running, and says how far it came.
      this.#interruption ??= failure;
      this.#turn?.cancel();
    } else {
      this.#failOnceWritten(failure, this.#pump?.stop());
    }
  }

  /** What a file is being given would be written behind the back of whoever hears of the end. */
  #failOnceWritten(failure: Failure, inHand: Buffer | undefined): void {
    if (!this.#fileSink || !inHand) return this.#fail(failure, undefined, inHand);
    if (this.#interruption) return;
    this.#interruption = failure;
    this.#fileSink.whenWritten(() => this.#fail(failure, undefined, this.#unwritten(inHand)));
  }

  /** Counts what a file has taken of a chunk; the rest of it. */
  #unwritten(chunk: Buffer | undefined): Buffer | undefined {
    if (!this.#fileSink || !chunk) return chunk;
    const taken = this.#fileSink.written - this.#transferred;
    this.#transferred += taken;
    return taken < chunk.length ? chunk.subarray(taken) : undefined;
  }

  #done(): void {
    if (this.#settled) return;
    if (this.#fileSink && !this.#fileSinkFinished) {
      this.#fileSinkFinished = true;
      this.#fileSink.finish((error) => (error ? this.#fail(error) : this.#done()));
      return;
    }
    this.#letGo();
    this.#turn?.release();
    const { sink, endSink } = this.#arguments;
    if (endSink && sink.kind === 'stream') sink.stream.end();
    this.#reportEnd();
    const fallback = this.#fallbackTaken;
    const result = {
      transferred: this.#transferred,
      backend: this.#backend,
      ...(fallback && { fallback }),
    };
    this.#observation.ended(this.#transferred, this.#backend, fallback);
    this.#settle(() => this.#resolve(result));
  }

  get #fallbackTaken(): Fallback | undefined {
    return this.#backend === 'stream' ? this.#fallback : undefined;
  }

  /** When the source is its reader's again. */
  #settle(settle: () => void): void {
    if (this.#source?.claim) process.nextTick(settle);
    else settle();
  }

  /** A connection that can't be read is of no use for writing either. */
  #failBySource(stream: Readable, error: Error, residual?: Buffer): void {
    stream.on('error', () => {}); // which the rejection tells
    stream.destroy(error);
    this.#fail(error, undefined, residual);
  }

  /** The sink refused bytes. One that was destroyed by now knows better why. */
  #failBySink(error: Error, residual?: Buffer): void {
    const { sink } = this.#arguments;
    const closed = sink.kind === 'stream' && isClosed(sink.stream);
    if (closed) this.#fail(closedUnder(sink.stream, 'sink'), undefined, residual);
    else this.#fail(error, error, residual);
  }

  /** Rejects. The sink stays usable, unless `sinkError` tells that it is the one that failed. */
  #fail(failure: Failure, sinkError?: Error, residual?: Buffer): void {
    if (this.#settled) return;
    this.#letGo();
    this.#fileSink?.abandon();
    if (failure instanceof SourceTruncatedError) this.#breakOff(failure);
    this.#turn?.release(sinkError);
    const error = transferError(failure, {
      transferred: this.#transferred,
      backend: this.#backend,
      fallback: this.#fallbackTaken,
      residual,
    });
    this.#observation.ended(this.#transferred, this.#backend, error.fallback, error);
    this.#settle(() => this.#reject(error));
  }

  #breakOff(error: Error): void {
    if (this.#message) breakOff(this.#message, error);
  }

  #letGo(): void {
    this.#settled = true;
    this.#isOpened?.();
    clearInterval(this.#progressTimer);
    const { source, sink } = this.#arguments;
    this.#ignoreSignal?.();
    this.#givePlaceUp?.();
    if (sink.kind === 'stream') sink.stream.off('close', this.#onSinkClose);
    const onSourceClose = this.#onSourceClose;
    if (source.kind === 'stream' && onSourceClose) source.stream.off('close', onSourceClose);
    this.#pump?.stop();
    this.#source?.close();
    if (debug.enabled) {
      const way = `${this.#backend}${describe(this.#fallback)}`;
      debug('%s -> %s: %d bytes by %s', nameOf(source), nameOf(sink), this.#transferred, way);
    }
  }

  #aborted(): Failure {
    const cause = this.#arguments.signal?.reason;
    return { message: 'The operation was aborted', code: 'ABORT_ERR', cause };
  }

  /** Why no byte can be written to a sink; undefined when one can. */
  #deadSink(stream: Writable, queued: boolean): Failure | undefined {
    if (isClosed(stream)) return closedUnder(stream, 'sink');
    // A transfer that was queued before end() is still to go.
    if (queued || !stream.writableEnded) return undefined;
    return { message: 'The sink has been ended', code: 'ERR_STREAM_WRITE_AFTER_END' };
  }

  #startProgress(): void {
    if (!this.#arguments.onProgress) return;
    let before = 0;
    this.#progressTimer = setInterval(() => {
      const transferred = this.#transferred + (this.#inEngine ? (this.#turn?.moved() ?? 0) : 0);
      if (transferred === before) return;
      before = transferred;
      this.#arguments.onProgress?.({ transferred, total: this.#source?.total });
    }, PROGRESS_INTERVAL_MS);
  }

  #reportEnd(): void {
    const { onProgress } = this.#arguments;
    if (!onProgress) return;
    const progress = { transferred: this.#transferred, total: this.#source?.total };
    // On its own: what it throws is its own, and must not look like a failed transfer.
    process.nextTick(onProgress, progress);
  }
}

function nameOf(end: ParsedSource | ParsedSink): string {
  if (end.kind === 'stream') return end.stream.constructor?.name ?? 'stream';
  if (end.kind === 'file') return String(end.file);
  return end.parts.map((part) => ('file' in part ? part.file : 'memory')).join(' + ');
}

function describe(fallback: Fallback | undefined): string {
  return fallback ? ` (${fallback.code} at ${fallback.at}: ${fallback.message})` : '';
}
