// Totals of all transfers.
import { type Backend, FALLBACK_CODES, type Fallback, type FallbackCode } from './options';

/**
 * Totals. One transfer is a `transfer()`, one direction of a `relay()`, a `copyFile()`, or a stretch
 * of a file that goes natively from a stream of `createReadStream()` to its sink: mostly one for each
 * stream. All keys are always there.
 */
export interface Stats {
  /** Transfers that have ended, failed ones too, by the way that their bytes went. */
  transfers: Record<Backend, number>;
  /** Bytes that sinks have accepted, by the same. Of failed transfers too. */
  bytes: Record<Backend, number>;
  /**
   * Transfers that went by streams, whole or from some byte on, by the code of their `fallback`; and
   * streams of `createReadStream()` whose bytes went through JavaScript, once each. These streams are
   * in none of the other totals.
   */
  fallbacks: Record<FallbackCode, number>;
  /** Transfers that have failed; aborted ones too. */
  failures: number;
  /** Transfers that have begun, and not ended. */
  underWay: number;
}

const zeros = (): Record<Backend, number> => ({
  sendfile: 0,
  splice: 0,
  copy_file_range: 0,
  read: 0,
  stream: 0,
});

const totals: Stats = {
  transfers: zeros(),
  bytes: zeros(),
  fallbacks: Object.fromEntries(FALLBACK_CODES.map((code) => [code, 0])) as Stats['fallbacks'],
  failures: 0,
  underWay: 0,
};

/**
 * Totals since this copy of the library was loaded, in this thread: a worker has totals of its own,
 * and so has a second copy in `node_modules`. All but `underWay` only grow. What is returned is the
 * caller's to keep.
 */
export function stats(): Stats {
  const { transfers, bytes, fallbacks } = totals;
  return {
    ...totals,
    transfers: { ...transfers },
    bytes: { ...bytes },
    fallbacks: { ...fallbacks },
  };
}

export function countBegun(): void {
  totals.underWay += 1;
}

export function countEnded(transferred: number, backend: Backend, failed: boolean): void {
  totals.underWay -= 1;
  totals.transfers[backend] += 1;
  totals.bytes[backend] += transferred;
  if (failed) totals.failures += 1;
}

export function countFallback({ code }: Fallback): void {
  totals.fallbacks[code] += 1;
}
