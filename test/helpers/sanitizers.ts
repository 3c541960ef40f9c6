// Whether the addon has sanitizers in it (npm run test:asan): it is slower then, and takes more memory.

const { ZEROCOPY_SANITIZERS } = process.env;

export const hasSanitizers = ZEROCOPY_SANITIZERS !== undefined;

/** Why what measures memory or CPU is skipped: to be put into the name of its test. */
export const noMeasuring = hasSanitizers
  ? ` (SKIPPED: no measure of memory or CPU with sanitizers: ${ZEROCOPY_SANITIZERS})`
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
