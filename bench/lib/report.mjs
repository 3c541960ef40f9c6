// How results are shown to people.

/** The figures of trials, in the order of the columns. */
const FIGURES = {
  seconds: ['seconds', 3],
  megabytesPerSecond: ['MB/s', 0],
  cpuSeconds: ['process CPU s', 3],
  cpuPercent: ['process CPU %', 1],
  coreBusyPercent: ['core busy %', 1],
  jsThreadSeconds: ['JS thread CPU s', 4],
  jsMicrosecondsPerFetch: ['JS us a fetch', 1],
  cpuMicrosecondsPerMiB: ['process CPU us/MiB', 0],
  jsMicrosecondsPerMiB: ['JS thread us/MiB', 1],
  loopUtilization: ['loop utilization', 3],
  hotSmallP99Ms: ['64 KiB p99 ms', 2],
  hotLargeP99Ms: ['1 MiB p99 ms', 2],
  loopDelayP99Ms: ['loop delay p99 ms', 2],
  besidePerSecond: ['beside, transfers/s', 0],
  transfers: ['transfers', 0],
  residentMiB: ['resident MiB', 0],
  residentKiBEach: ['resident KiB each', 2],
  descriptorsEach: ['descriptors each', 2],
  requestsPerSecond: ['requests/s', 0],
  perSecond: ['files/s', 0],
  callsPerGiB: ['system calls a GiB', 0],
  copiedPerByte: ['bytes copied a byte', 3],
  cpuMicrosecondsEach: ['CPU us each', 1],
  latencyP99Ms: ['latency p99 ms', 2],
  roundTripMicroseconds: ['round trip us', 1],
  roundTripP99Microseconds: ['round trip p99 us', 1],
  sparseSeconds: ['sparse seconds', 3],
  sparseMiB: ['sparse MiB on disk', 0],
};

const LABELS = {
  'sendfile-c': 'sendfile loop in C',
  java: 'FileChannel.transferTo() in Java',
  empty: 'end(), no body',
  nginx: 'nginx',
  send: 'send',
  sirv: 'sirv',
  cp: 'cp',
  idle: 'sockets alone',
  'movers-1': '1 mover',
  'movers-2': '2 movers',
  'movers-3': '3 movers',
  'movers-4': '4 movers',
  'movers-8': '8 movers',
  transfer: 'transfer()',
  pipe: 'createReadStream().pipe()',
  'pipe-64k': 'createReadStream().pipe(), 64 KiB',
  'pipe-256k': 'createReadStream().pipe(), 256 KiB',
  'pipe-1m': 'createReadStream().pipe(), 1 MiB',
  'pipe-4m': 'createReadStream().pipe(), 4 MiB',
  zerocopy: 'createReadStream().pipe() of zerocopy',
  readfile: 'end(await readFile())',
  memory: 'end(buffer), from memory',
  bun: 'Bun.file()',
  express: 'express.static',
  'express-register': 'express.static under register',
  relay: 'relay()',
  'pipe-both': 'a.pipe(b); b.pipe(a)',
  haproxy: 'HAProxy',
  'pipe-to-file': 'pipe(createWriteStream())',
  copy: 'copyFile()',
  'fs-copy': 'fs.promises.copyFile()',
  'produce-splice': 'socket to segment by splice',
  'produce-memory': 'through memory',
  'hot-alone': 'transfer(), alone',
  'hot-beside-cold': 'transfer(), beside 64 from a slow disk',
  'hot-beside-hot': 'transfer(), beside resident files, for equal CPU',
  'pipe-alone': 'createReadStream().pipe(), alone',
  'pipe-beside-cold': 'createReadStream().pipe(), beside 64 from a slow disk',
};

/**
 * @param {string[][]} rows the first is the head; columns but the first `left` are flush right
 * @param {number} left
 */
function table(rows, left) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const line = (row) =>
    row
      .map((cell, column) =>
        column < left ? cell.padEnd(widths[column]) : cell.padStart(widths[column]),
      )
      .join('  ')
      .trimEnd();
  const rule = widths.map((width) => '─'.repeat(width)).join('──');
  return [line(rows[0]), rule, ...rows.slice(1).map(line)].join('\n');
}

/**
 * @param {import('./summary.mjs').Summary | undefined} summary
 * @param {number} digits after the point
 * @param {boolean} spread
 */
function figureText(summary, digits, spread) {
  if (!summary || summary.values.length === 0) return '–';
  const { median, min, max, values } = summary;
  const text = median.toFixed(digits);
  if (!spread || values.length === 1) return text;
  return `${text} (${min.toFixed(digits)}–${max.toFixed(digits)})`;
}

/**
 * A table of what each way took: medians, and from the least to the most.
 * @param {Record<string, { backend?: string, figures: Record<string, object> }>} ways
 * @param {object} [options]
 * @param {boolean} [options.spread]
 * @param {string[]} [options.omit] figures to leave out
 * @param {string[]} [options.lastColumn] its head, then a cell for each way
 */
export function waysTable(ways, { spread = true, omit = [], lastColumn } = {}) {
  const results = Object.entries(ways);
  const columns = Object.keys(FIGURES).filter(
    (key) => !omit.includes(key) && results.some(([, way]) => way.figures[key]),
  );
  const head = ['way', 'backend', ...columns.map((key) => FIGURES[key][0])];
  const rows = results.map(([id, { backend = '–', figures }]) => [
    LABELS[id],
    backend,
    ...columns.map((key) => figureText(figures[key], FIGURES[key][1], spread)),
  ]);
  const all = [head, ...rows];
  return table(lastColumn ? all.map((row, index) => [...row, lastColumn[index]]) : all, 2);
}

/** @param {ReturnType<typeof import('./checks.mjs').checkTargets>} checks */
export function checksTable(checks) {
  const rows = checks.map(({ what, ratio, atMost, atLeast, met }) => [
    what,
    atMost === undefined ? `≥ ${atLeast.toFixed(3)}` : `≤ ${atMost.toFixed(3)}`,
    ratio.toFixed(3),
    met ? 'met' : 'missed',
  ]);
  return table([['ratio (or difference) of medians', 'target', 'seen', ''], ...rows], 1);
}

/**
 * @param {object} result of a scenario: `ways`, or `parts` that have a title and ways of their own;
 *   `notes` are lines of text
 */
export function scenarioText(result) {
  const { name, title, rounds, ways, parts = [], notes = [], checks, missing } = result;
  return [
    `${name}: ${title}; ${rounds === 1 ? '1 round' : `${rounds} rounds`}`,
    Object.keys(ways).length > 0 && waysTable(ways),
    ...parts.map((part) => `${part.title}:\n${waysTable(part.ways)}`),
    notes.length > 0 && notes.join('\n'),
    checks.length > 0 && checksTable(checks),
    missing.length > 0 && missing.map((reason) => `missing: ${reason}`).join('\n'),
  ]
    .filter(Boolean)
    .join('\n\n');
}
