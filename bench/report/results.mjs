// What a results file holds: `npm run bench -- --json`.
import { readFileSync } from 'node:fs';

/** @typedef {import('../lib/summary.mjs').Summary} Summary */
/** @typedef {Record<string, { backend?: string, figures: Record<string, Summary> }>} Ways */

/**
 * A sweep: one figure of some ways, over file sizes, numbers of movers and the like.
 * @typedef {object} Series
 * @property {string} title
 * @property {{ label: string, scale: 'log' | 'linear' | 'category' }} x sizes are in bytes
 * @property {string} figure
 * @property {Record<string, { x: number | string, median: number, min: number, max: number }[]>} ways
 */

/**
 * What a scenario tells. It may leave out what has a default in `complete()`.
 * @typedef {object} Result
 * @property {string} name
 * @property {string} title
 * @property {number} rounds
 * @property {Ways} ways
 * @property {{ title: string, ways: Ways }[]} parts
 * @property {Series[]} series
 * @property {string[]} notes
 * @property {ReturnType<typeof import('../lib/checks.mjs').checkTargets>} checks
 * @property {string[]} missing
 */

/**
 * @typedef {object} Results
 * @property {ReturnType<typeof import('../lib/machine.mjs').describeMachine>} machine
 * @property {string} [command]
 * @property {boolean} quick
 * @property {Result[]} scenarios
 */

/** @param {Partial<Result>} result @returns {Result} */
export function complete(result) {
  return { ways: {}, parts: [], series: [], notes: [], checks: [], missing: [], ...result };
}

/**
 * Also of a file that begins with what npm and the compiler have said.
 * @param {string} file
 * @returns {Results}
 */
export function readResults(file) {
  const text = readFileSync(file, 'utf8');
  const start = text.search(/^\{/m);
  if (start === -1) throw new Error(`${file} holds no results`);
  const results = JSON.parse(text.slice(start));
  if (!Array.isArray(results.scenarios)) throw new Error(`${file} holds no results`);
  return results;
}

/** Where any way has a point, in order. @param {Series['ways']} ways */
export function pointsOf(ways) {
  const points = [...new Set(Object.values(ways).flatMap((way) => way.map(({ x }) => x)))];
  return points.every(Number.isFinite) ? points.sort((a, b) => a - b) : points;
}

/** @param {Series['x']} x its points are shown with units of their own */
export function axisText({ label }) {
  return label.replace(/, bytes$/, '');
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

/** @param {number | string} point @param {Series['x']} x */
export function pointText(point, { label }) {
  if (typeof point !== 'number') return point;
  if (!/size|bytes/i.test(label)) return point.toLocaleString('en-US');
  let unit = 0;
  let value = point;
  for (; value >= 1024 && unit < UNITS.length - 1; unit++) value /= 1024;
  return `${Number(value.toFixed(1))} ${UNITS[unit]}`;
}
