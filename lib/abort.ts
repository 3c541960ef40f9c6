// One listener for each signal, however many transfers it may abort: a server's own, say.

interface Waiting {
  callbacks: Set<() => void>;
  listener: () => void;
}

const signals = new WeakMap<AbortSignal, Waiting>();

/** Calls back once when a signal that isn't aborted yet is. Returns what takes that back. */
export function onAbort(signal: AbortSignal, callback: () => void): () => void {
  const waiting = signals.get(signal) ?? watch(signal);
  waiting.callbacks.add(callback);
  return () => {
    waiting.callbacks.delete(callback);
    if (waiting.callbacks.size === 0) unwatch(signal, waiting);
  };
}

function watch(signal: AbortSignal): Waiting {
  const waiting: Waiting = {
    callbacks: new Set(),
    listener: () => {
      unwatch(signal, waiting);
      for (const callback of waiting.callbacks) callback();
    },
  };
  signals.set(signal, waiting);
  signal.addEventListener('abort', waiting.listener);
  return waiting;
}

function unwatch(signal: AbortSignal, waiting: Waiting): void {
  if (signals.get(signal) !== waiting) return;
  signals.delete(signal);
  signal.removeEventListener('abort', waiting.listener);
}
