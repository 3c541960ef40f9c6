// A stretch of a file on its way from a ReadStream to a sink, by native code: at once, from this
// thread, as far as the sink takes it; what is left takes its turn there.
import { AsyncResource } from 'node:async_hooks';
import { closedUnder, isClosed } from './closed';
import { type Failure, isSocketError, systemError, transferError } from './errors';
import { refusedBy } from './fallback';
import { isMessage } from './http';
import type { FileRange, Job, Turn } from './lease';
import { type Completion, Outcome } from './native';
import type { Observation } from './observe';
import type { Backend, Fallback } from './options';
import { sendToStreamNow, takeTurn } from './sink';
import { SourceTruncatedError } from './stream-backend';

/** How a stretch ended. */
export interface StretchEnd {
  /** Bytes that the sink has accepted. */
  moved: number;
  backend: Backend;
  /** The sink takes no more. */
  sinkGone: boolean;
  /** The file ended before the stretch did. */
  truncated: boolean;
  /** The file ends where the stretch does, as far as is known. */
  atFileEnd: boolean;
  /** Why native code can't go on. */
  fallback?: Fallback | undefined;
}

export class Stretch implements Job {
  readonly #range: FileRange;
  readonly #sink: NodeJS.WritableStream;
  readonly #chunkBytes: number;
  readonly #observation: Observation;
  readonly #ended: (end: StretchEnd) => void;
  /** Bytes that went before the turn. */
  #movedBefore = 0;
  #turn: Turn | undefined;
  /** Whoever hears of its end finds the AsyncLocalStorage of the read that began it. */
  #context: AsyncResource | undefined;
  #over = false;
  #beginning = false;
  #interrupted = false;

  /** Chunks of a body that HTTP frames get `chunkBytes`. */
  constructor(
    range: FileRange,
    sink: NodeJS.WritableStream,
    chunkBytes: number,
    observation: Observation,
    ended: (end: StretchEnd) => void,
  ) {
    this.#range = range;
    this.#sink = sink;
    this.#chunkBytes = chunkBytes;
    this.#observation = observation;
    this.#ended = ended;
  }

  begin(): void {
    this.#beginning = true;
    const sent = sendToStreamNow(this.#sink, this.#range);
    this.#beginning = false;
    if (sent) {
      if (hasEnded(sent)) return this.#end(sent);
      this.#movedBefore = sent.value;
    }
    if (this.#interrupted) return this.#end();
    takeTurn(this.#sink, this, this.#chunkBytes);
    if (!this.#over) this.#context = new AsyncResource('ZEROCOPY');
  }

  get over(): boolean {
    return this.#over;
  }

  moved(): number {
    return this.#movedBefore + (this.#turn?.moved() ?? 0);
  }

  /** Ends it as soon as can be, at the byte it has reached. */
  interrupt(): void {
    if (this.#beginning) this.#interrupted = true;
    else if (this.#turn) this.#turn.cancel();
    else this.#end();
  }

  start(turn: Turn): void {
    this.#turn = turn;
    const { fd, offset, length } = this.#range;
    const before = this.#movedBefore;
    const segments = [fd, offset + before, length - before];
    const fallback = turn.move(segments, (completion) => {
      turn.release(socketError(completion));
      this.#end(completion);
    });
    if (!fallback) return;
    turn.release();
    this.#end(undefined, { fallback });
  }

  dropped(): void {
    // What has had its turn hears from that how far it came.
    if (!this.#turn) this.#end(undefined, { sinkGone: true });
  }

  #end(completion?: Completion, otherwise?: Partial<StretchEnd>): void {
    if (this.#over) return;
    const end: StretchEnd = {
      moved: this.#movedBefore + (completion?.value ?? 0),
      backend: completion?.backend ?? 'sendfile',
      atFileEnd: completion?.atFileEnd ?? false,
      truncated: completion?.outcome === Outcome.truncated,
      sinkGone: completion !== undefined && socketError(completion) !== undefined,
      fallback: completion && whyNotOn(completion),
      ...otherwise,
    };
    this.#over = true;
    this.#turn = undefined;
    const { moved: transferred, backend, fallback } = end;
    const failure = this.#whyFailed(end, completion);
    const error = failure && transferError(failure, { transferred, backend });
    this.#observation.ended(transferred, backend, fallback, error);
    if (this.#context) this.#context.runInAsyncScope(this.#ended, undefined, end);
    else this.#ended(end);
  }

  /** In the words of `transfer()`. One that was interrupted, or goes on by streams, has not failed. */
  #whyFailed(end: StretchEnd, completion: Completion | undefined): Failure | undefined {
    if (completion?.outcome === Outcome.done) return undefined;
    if (end.truncated && isMessage(this.#sink)) return new SourceTruncatedError();
    const error = completion && socketError(completion);
    if (error) return error;
    return end.sinkGone || isClosed(this.#sink) ? closedUnder(this.#sink, 'sink') : undefined;
  }
}

function hasEnded({ outcome }: Completion): boolean {
  const { done, truncated, unsupported, failed } = Outcome;
  return outcome === done || outcome === truncated || outcome === unsupported || outcome === failed;
}

/** What the socket is to blame for, in the words of the write that it stands for. */
function socketError({ outcome, errno }: Completion): Error | undefined {
  if (outcome !== Outcome.failed) return undefined;
  const error = systemError(errno, 'write');
  return isSocketError(error) ? error : undefined;
}

/** If it is the file that fails, an ordinary read tells how. */
function whyNotOn(completion: Completion): Fallback | undefined {
  const { outcome } = completion;
  if (outcome !== Outcome.failed && outcome !== Outcome.unsupported) return undefined;
  return socketError(completion) ? undefined : refusedBy(completion, 0);
}
