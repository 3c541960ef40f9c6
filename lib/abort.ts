// One listener for each signal, however many transfers it may abort: a server's own, say.
import { SharedListener } from './shared-listener';

const aborts = new SharedListener<AbortSignal>(
  (signal, listener) => signal.addEventListener('abort', listener),
  (signal, listener) => signal.removeEventListener('abort', listener),
);

/** Calls back once when a signal that isn't aborted yet is. Returns what takes that back. */
export function onAbort(signal: AbortSignal, callback: () => void): () => void {
  return aborts.once(signal, callback);
}
