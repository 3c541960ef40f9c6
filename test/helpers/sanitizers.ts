// Whether the addon has sanitizers in it (npm run test:asan): it is slower then, and takes more memory.

const { ZEROCOPY_SANITIZERS } = process.env;

export const hasSanitizers = ZEROCOPY_SANITIZERS !== undefined;

/** In the name of a test whose measure of memory is left out: what has been freed is kept for a while. */
export const noMeasuring = hasSanitizers
  ? ` (SKIPPED: its measure of memory, with sanitizers: ${ZEROCOPY_SANITIZERS})`
  : '';

/**
 * The environment of programs that are not Node: what the addon needs to be preloaded is in their
 * way. curl and Chromium never end with it.
 */
export function foreignEnvironment(): Record<string, string | undefined> {
  if (!hasSanitizers) return process.env;
  const { LD_PRELOAD, ASAN_OPTIONS, UBSAN_OPTIONS, ...rest } = process.env;
  return rest;
}

/** How much longer than usual to wait for what may hang. */
export const PATIENCE = hasSanitizers ? 5 : 1;
