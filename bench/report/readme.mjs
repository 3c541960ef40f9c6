// The README's charts.
import { bars } from './bars.mjs';
import { lines } from './lines.mjs';
import { sheet } from './svg.mjs';

const HALF = 384;
const WHOLE = 2 * HALF + 24;
const GAIN_WAYS = ['pipe', 'pipe-1m', 'transfer', 'zerocopy', 'sendfile-c'];
/** Those of a small and a large file that were run, of these, in order. */
const SMALL = ['http-16k', 'http-64k', 'http-1k'];
const LARGE = ['http-1m'];
/** The first must be there. */
const SWEEPS = ['file-size', 'http-file-size'];
const SIZE_FIGURES = ['perSecond', 'requestsPerSecond', 'microsecondsEach'];

/** @param {import('./results.mjs').Results} results */
function foot({ machine, quick }) {
  const { cpu, cores, kernel, node, date, commit } = machine;
  const text = [
    `${cpu}, ${cores} cores`,
    kernel,
    `Node.js ${node}`,
    date.slice(0, 10),
    `commit ${commit}`,
    'whiskers: least to most',
  ].join(' · ');
  return quick ? `Quick run · ${text}` : text;
}

/** @param {import('./results.mjs').Ways} ways */
function gainWays(ways) {
  const nginx = Object.keys(ways).filter((way) => way.startsWith('nginx'));
  const ids = [...GAIN_WAYS, ...nginx].filter((way) => ways[way]);
  return Object.fromEntries(ids.map((way) => [way, ways[way]]));
}

/**
 * What transfer() saves: CPU of a large file, and requests a second over HTTP.
 * @param {import('./results.mjs').Results} results
 */
function gain(results) {
  const has = (name) =>
    results.scenarios.find((one) => one.name === name && Object.keys(one.ways ?? {}).length > 0);
  const large = has('large-file');
  if (!large) throw new Error('gain.svg needs the scenario large-file, which these results lack');
  const http = [SMALL, LARGE].flatMap((names) => names.map(has).find(Boolean) ?? []);
  if (http.length === 0) {
    throw new Error('gain.svg needs http-16k or another size over HTTP, which these results lack');
  }
  const chart = (result, figure, title) =>
    bars(gainWays(result.ways), figure, { title, width: HALF });
  const drawings = [
    chart(large, 'cpuSeconds', 'One large file: process CPU'),
    chart(large, 'jsThreadSeconds', 'One large file: JavaScript thread CPU'),
    ...http.map((result) =>
      chart(result, 'requestsPerSecond', `HTTP, ${sizeText(result.name)}: requests a second`),
    ),
    ...(http.length === 1
      ? [chart(http[0], 'cpuMicrosecondsEach', `HTTP, ${sizeText(http[0].name)}: CPU a request`)]
      : []),
  ];
  return sheet(drawings, {
    title: 'What files to sockets cost',
    subtitle: 'zerocopy beside the streams of Node.js and beside C; medians',
    description: large.title,
    columns: 2,
    foot: foot(results),
  });
}

/** @param {string} text */
function capital(text) {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}`;
}

/** @param {string} name of a scenario: http-16k */
function sizeText(name) {
  return `file of ${name.replace('http-', '').replace('k', ' KiB').replace('m', ' MiB')}`;
}

/**
 * How many files a second, by their size.
 * @param {import('./results.mjs').Results} results
 */
function sizes(results) {
  const [first, ...others] = SWEEPS.map((name) =>
    results.scenarios.find((one) => one.name === name && one.series?.length > 0),
  );
  if (!first) {
    throw new Error(`sizes.svg needs the scenario ${SWEEPS[0]}, which these results lack`);
  }
  const swept = [first, ...others.filter(Boolean)];
  const drawings = swept.flatMap(({ series }) =>
    series
      .filter(({ figure }) => SIZE_FIGURES.includes(figure))
      .map((one) =>
        lines({ ...one, title: capital(one.title) }, { width: WHOLE, legendColumns: 2 }),
      ),
  );
  if (drawings.length === 0) {
    throw new Error(`sizes.svg needs a series of ${SIZE_FIGURES.join(', ')} of ${SWEEPS[0]}`);
  }
  return sheet(drawings, {
    title: 'What a file costs, by its size',
    subtitle: 'zerocopy beside the streams of Node.js; medians',
    description: swept.map(({ title }) => title).join('; '),
    columns: 1,
    foot: foot(results),
  });
}

/** By the name of the file; each throws where the results lack its scenario. */
export const readmeCharts = { 'gain.svg': gain, 'sizes.svg': sizes };
