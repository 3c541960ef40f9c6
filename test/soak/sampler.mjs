// Looks at a process from outside, about once a second, and asks it how its event loop does.
import { descriptorsOf, residentBytesOf, threadsOf } from '../hostile/harness.mjs';

/**
 * @typedef {{
 *   at: number, residentBytes: number, descriptors: number, threads: number, warmers: number,
 *   delayP99: number, delayMax: number, transfers: number,
 * }} Sample
 */

/**
 * @param {import('../hostile/harness.mjs').Server} server
 * @param {number} everyMs
 */
export function startSampler(server, everyMs) {
  /** @type {Sample[]} */
  const samples = [];
  let asking = false;
  const timer = setInterval(async () => {
    if (asking) return; // it is late: there will be one sample less
    asking = true;
    try {
      const at = Date.now();
      const names = threadsOf(server.pid);
      const outside = {
        at,
        residentBytes: residentBytesOf(server.pid),
        descriptors: descriptorsOf(server.pid),
        threads: names.length,
        warmers: names.filter((name) => name === 'zerocopy-warmer').length,
      };
      const { begun, delay } = await server.ask('delays');
      samples.push({ ...outside, delayP99: delay.p99, delayMax: delay.max, transfers: begun });
    } catch {
      // It has ended, which whoever asks it next is told.
    }
    asking = false;
  }, everyMs);
  return { samples, stop: () => clearInterval(timer) };
}

/** @param {number[]} values */
export function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  if (sorted.length === 0) return Number.NaN;
  return sorted.length % 2 ? sorted[Math.floor(middle)] : (sorted[middle - 1] + sorted[middle]) / 2;
}
