// The figures of trials, in the order of the columns: what they are called, their units, and which
// way is better.

/**
 * @typedef {object} Figure
 * @property {string} name
 * @property {string} unit
 * @property {number} digits after the point
 * @property {'less' | 'more'} [better]
 */

/** @type {Record<string, Figure>} */
const FIGURES = {
  seconds: { name: 'time', unit: 's', digits: 3, better: 'less' },
  megabytesPerSecond: { name: 'throughput', unit: 'MB/s', digits: 0, better: 'more' },
  cpuSeconds: { name: 'process CPU', unit: 's', digits: 3, better: 'less' },
  cpuPercent: { name: 'process CPU', unit: '%', digits: 1, better: 'less' },
  coreBusyPercent: { name: 'core busy', unit: '%', digits: 1, better: 'less' },
  jsThreadSeconds: { name: 'JS thread CPU', unit: 's', digits: 4, better: 'less' },
  jsMicrosecondsPerFetch: { name: 'JS thread a fetch', unit: 'µs', digits: 1, better: 'less' },
  cpuMicrosecondsPerMiB: { name: 'process CPU', unit: 'µs/MiB', digits: 0, better: 'less' },
  jsMicrosecondsPerMiB: { name: 'JS thread', unit: 'µs/MiB', digits: 1, better: 'less' },
  loopUtilization: { name: 'loop utilization', unit: '', digits: 3, better: 'less' },
  hotSmallP99Ms: { name: '64 KiB p99', unit: 'ms', digits: 2, better: 'less' },
  hotLargeP99Ms: { name: '1 MiB p99', unit: 'ms', digits: 2, better: 'less' },
  loopDelayP99Ms: { name: 'loop delay p99', unit: 'ms', digits: 2, better: 'less' },
  besidePerSecond: { name: 'beside, transfers', unit: '/s', digits: 0, better: 'more' },
  transfers: { name: 'transfers', unit: '', digits: 0 },
  residentMiB: { name: 'resident', unit: 'MiB', digits: 0, better: 'less' },
  residentKiBEach: { name: 'resident each', unit: 'KiB', digits: 2, better: 'less' },
  descriptorsEach: { name: 'descriptors each', unit: '', digits: 2, better: 'less' },
  requestsPerSecond: { name: 'requests', unit: '/s', digits: 0, better: 'more' },
  perSecond: { name: 'files', unit: '/s', digits: 0, better: 'more' },
  callsPerGiB: { name: 'system calls a GiB', unit: '', digits: 0, better: 'less' },
  copiedPerByte: { name: 'bytes copied a byte', unit: '', digits: 3, better: 'less' },
  microsecondsEach: { name: 'time each', unit: 'µs', digits: 1, better: 'less' },
  cpuMicrosecondsEach: { name: 'CPU each', unit: 'µs', digits: 1, better: 'less' },
  latencyP99Ms: { name: 'latency p99', unit: 'ms', digits: 2, better: 'less' },
  roundTripMicroseconds: { name: 'round trip', unit: 'µs', digits: 1, better: 'less' },
  roundTripP99Microseconds: { name: 'round trip p99', unit: 'µs', digits: 1, better: 'less' },
  sparseSeconds: { name: 'sparse file', unit: 's', digits: 3, better: 'less' },
  sparseMiB: { name: 'sparse file on disk', unit: 'MiB', digits: 0, better: 'less' },
};

/** @param {string} key @returns {Figure} one that isn't listed goes by its key */
export function figureOf(key) {
  return FIGURES[key] ?? { name: key, unit: '', digits: 2 };
}

/**
 * Those that any of some ways has.
 * @param {Record<string, { figures: Record<string, object> }>} ways
 */
export function figuresOf(ways) {
  return Object.keys(FIGURES).filter((key) => Object.values(ways).some((way) => way.figures[key]));
}

/** Name and unit. @param {string} key */
export function figureTitle(key) {
  const { name, unit } = figureOf(key);
  return `${name}${unit === '' || unit.startsWith('/') ? '' : ', '}${unit}`;
}

/** @param {number} value @param {string} key */
export function figureNumber(value, key) {
  const { digits } = figureOf(key);
  return value.toLocaleString('en-US', {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  });
}

/** @param {number} value @param {string} key */
export function figureValue(value, key) {
  const { unit } = figureOf(key);
  return `${figureNumber(value, key)}${['', '%'].includes(unit) || unit.startsWith('/') ? '' : ' '}${unit}`;
}

/**
 * The median, with the least and the most beside it where there is more than one value.
 * @param {import('../lib/summary.mjs').Summary | undefined} summary
 * @param {string} key
 * @param {boolean} [spread]
 */
export function figureText(summary, key, spread = true) {
  if (!summary || summary.values?.length === 0) return '–';
  const [median, min, max] = [summary.median, summary.min, summary.max].map((value) =>
    figureNumber(value, key),
  );
  return spread && summary.values?.length !== 1 ? `${median} (${min}–${max})` : median;
}
