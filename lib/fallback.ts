import { systemError } from './errors';
import { type Completion, Outcome } from './native';
import type { Fallback, FallbackCode } from './options';

/** A fallback from the first byte on. */
export function because(code: FallbackCode, message: string): Fallback {
  return { code, message, at: 0 };
}

/** What starting the engine's threads takes. */
const START_CALLS = new Set(['epoll_create1', 'eventfd2', 'epoll_ctl', 'pthread_create']);

/** What native code could not do. */
export function refusedBy({ outcome, call, errno }: Completion, at: number): Fallback {
  // One that has started may fail by epoll_ctl too.
  const isStart = outcome === Outcome.unsupported && START_CALLS.has(call);
  const { message } = systemError(errno, call);
  return { code: isStart ? 'NO_THREADS' : 'UNSUPPORTED', message, at };
}
