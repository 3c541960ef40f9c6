// A transfer that a program has asked for, and what became of it.
import { TransferError, type TransferOptions, type TransferResult, transfer } from 'zerocopy';
import { openingLater } from '../helpers/files';
import { type Facts, judge, type Outcome, type Way } from './model';

/**
 * What may be on its way when a transfer by streams fails, all that its reader has read ahead: less than
 * a chunk of 64 KiB, to which one is added as it is short of that, and one more by read() itself.
 */
export const CHUNK_BYTES = 3 * 64 * 1024;

export interface Request {
  what: string;
  source: Parameters<typeof transfer>[0];
  sink: Parameters<typeof transfer>[1];
  options: TransferOptions;
  way: Way;
  least: number;
  most: number;
  doom: string | undefined;
  /** Why it may fail, beside its own reasons: asked for when it has failed. */
  causes: () => Iterable<string>;
  abort: 'before' | 'at once' | 'later' | undefined;
  progress: boolean;
  late: boolean;
  /** It has settled; maybe not as it should have. */
  ended: (outcome: Outcome, wrong: string | undefined) => void;
}

export class Asked {
  readonly what: string;
  readonly #request: Request;
  readonly #controller: AbortController | undefined;
  /** Its own reasons to fail. */
  readonly causes = new Set<string>();
  readonly #progress: number[] = [];
  outcome: Outcome | undefined;
  readonly settled: Promise<void>;

  constructor(request: Request) {
    const { what, source, sink, abort } = request;
    this.what = what;
    this.#request = request;
    if (abort) this.#controller = new AbortController();
    if (abort === 'before') this.abort();
    const options: TransferOptions = {
      ...request.options,
      ...(this.#controller && { signal: this.#controller.signal }),
      ...(request.progress && {
        onProgress: ({ transferred }) => void this.#progress.push(transferred),
      }),
    };
    const settle = async (outcome: Outcome) => {
      const before = this.outcome;
      this.outcome = outcome;
      let wrong = judge(outcome, this.#facts());
      if (wrong) {
        // Of one that has broken off its sink, and with it others, may be heard after them.
        await new Promise(setImmediate);
        wrong = judge(outcome, this.#facts());
      }
      if (before) wrong = 'it has settled before';
      request.ended(outcome, wrong);
    };
    const begin = () => transfer(source, sink, options);
    this.settled = (request.late ? openingLater(begin) : begin()).then(
      (result: TransferResult) => settle({ result }),
      (error: TransferError) => settle({ error }),
    );
    if (abort === 'at once') this.abort();
  }

  abort(): void {
    this.causes.add('ABORT_ERR');
    this.#controller?.abort();
  }

  #facts(): Facts {
    const { way, least, most, causes, abort, doom } = this.#request;
    return {
      way,
      least,
      most,
      causes: new Set([...this.causes, ...causes()]),
      doom: abort === 'before' ? 'ABORT_ERR' : doom,
    };
  }

  get transferred(): number {
    const { outcome } = this;
    if (!outcome) return 0;
    return 'result' in outcome ? outcome.result.transferred : outcome.error.transferred;
  }

  /** Taken from a source stream, and not accepted by the sink. */
  get residual(): Buffer {
    const { outcome } = this;
    return (outcome && 'error' in outcome && outcome.error.residual) || Buffer.alloc(0);
  }

  get failed(): TransferError | undefined {
    return this.outcome && 'error' in this.outcome ? this.outcome.error : undefined;
  }

  /** Of a file: bytes that the sink may have got beyond those that were counted. */
  get uncounted(): number {
    const { failed } = this;
    if (!failed || !(failed instanceof TransferError)) return 0;
    const wasDoomed = this.#request.doom !== undefined || this.#request.abort === 'before';
    if (failed.backend !== 'stream' || wasDoomed) return 0;
    return CHUNK_BYTES;
  }

  /** What is wrong with its progress, when all is over. */
  checkProgress(): string | undefined {
    const { outcome } = this;
    if (!this.#request.progress || !outcome) return undefined;
    const told = this.#progress;
    if (told.some((bytes, i) => bytes < (told[i - 1] ?? 0))) {
      return `${this.what}: progress went back: ${told}`;
    }
    if ('error' in outcome) return undefined;
    if (told.at(-1) === outcome.result.transferred) return undefined;
    return `${this.what}: its progress ended with ${told.at(-1)}, and not ${outcome.result.transferred}`;
  }
}
