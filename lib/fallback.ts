import type { Fallback, FallbackCode } from './options';

/** A fallback from the first byte on. */
export function because(code: FallbackCode, message: string): Fallback {
  return { code, message, at: 0 };
}
