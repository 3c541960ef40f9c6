// The library over an addon whose system calls fail on demand (test/support/seam.cc). It is loaded in
// the place of the other, so nothing else in this process may have loaded the library before.
import { createRequire } from 'node:module';
import * as os from 'node:os';
import * as path from 'node:path';

const require = createRequire(import.meta.url);

/** The other addon, of the same sources; test/sanitizers/run.mjs has one of its own. */
const seamAddon =
  process.env.ZEROCOPY_SEAM ?? path.resolve('test/support/build/Release/zerocopy_seam.node');

interface Seam {
  inject(call: string, number: number, fault: number): boolean;
  counts(): Record<string, number>;
  fired(): number;
  moved(): number;
}

(require('node-gyp-build') as { path(folder: string): string }).path = () => seamAddon;
export const zerocopy = require('zerocopy') as typeof import('zerocopy');
const seam = require(seamAddon) as Seam;

/** The name of an errno; or that a call moves less than it could, or answers 0. */
export type Fault = keyof typeof os.constants.errno | 'short' | 'zero';

export interface Injection {
  /** As in sys::Calls (native/syscalls.h). */
  call: string;
  /** Which of its calls, from 1; 0: each. */
  number: number;
  fault: Fault;
}

export interface Observed {
  /** How often each call was made. */
  counts: Record<string, number>;
  /** How many of them went wrong. */
  fired: number;
  /** Bytes that sinks have taken by native calls. */
  moved: number;
}

/** From now on calls are counted, and go wrong as told. */
export function inject(injection?: Injection): void {
  const { call = '', number = 0, fault = 'zero' } = injection ?? {};
  const known = seam.inject(call, number, numberOf(fault));
  if (injection && !known) throw new Error(`There is no call ${call}`);
}

function numberOf(fault: Fault): number {
  if (fault === 'zero') return 0;
  return fault === 'short' ? -1 : os.constants.errno[fault];
}

/** Calls go right again. */
export function observe(): Observed {
  const observed = { counts: seam.counts(), fired: seam.fired(), moved: seam.moved() };
  inject();
  return observed;
}
