// The README's tables of what is gained.
import { figureNumber, figureTitle } from './figures.mjs';
import { labelOf } from './labels.mjs';
import { pointText } from './results.mjs';

const SIZES = { '1k': 1024, '16k': 16_384, '64k': 65_536, '1m': 1 << 20 };
const HTTP_WAYS = ['pipe', 'pipe-1m', 'readfile', 'memory', 'bun', 'nginx', 'zerocopy'];
const EXPRESS_WAYS = ['express', 'express-register'];
const OURS = ['zerocopy', 'express-register'];

/** What Node.js does it by, by itself and tuned, what zerocopy does, and the peer. */
const WORKS = [
  { name: 'large-file', figures: ['cpuSeconds', 'jsThreadSeconds'], peer: 'sendfile-c' },
  { name: 'many-files', figures: ['cpuSeconds', 'loopDelayP99Ms'] },
  { name: 'http-beside-large', figures: ['latencyP99Ms'], ours: 'zerocopy' },
  { name: 'link-1gbit', figures: ['cpuPercent'] },
  { name: 'slow-readers', figures: ['residentKiBEach'] },
  {
    name: 'relay',
    figures: ['cpuSeconds', 'seconds'],
    node: 'pipe-both',
    ours: 'relay',
    peer: 'haproxy',
  },
  {
    name: 'relay-latency',
    figures: ['roundTripMicroseconds'],
    node: 'pipe-both',
    ours: 'relay',
    peer: 'haproxy',
  },
  { name: 'receive-file', figures: ['cpuSeconds', 'seconds'], node: 'pipe-to-file' },
  {
    name: 'copy-file',
    figures: ['seconds', 'sparseSeconds'],
    node: 'fs-copy',
    ours: 'copy',
    peer: 'cp',
  },
];

/** @param {string[][]} rows the first is the head */
function markdown([head, ...rows]) {
  const line = (cells) => `| ${cells.join(' | ')} |`;
  const rule = `|${head.map((_, column) => (column === 0 ? '---|' : '---:|')).join('')}`;
  return [line(head), rule, ...rows.map(line)].join('\n');
}

/** @param {import('./results.mjs').Ways} ways */
function cell(ways, way, figure) {
  const summary = ways[way]?.figures[figure];
  return summary ? figureNumber(summary.median, figure) : '';
}

const bold = (text) => (text === '' ? text : `**${text}**`);

/** @param {Map<string, import('./results.mjs').Result>} found */
function httpTable(found) {
  const rows = Object.entries(SIZES).map(([size, bytes]) => {
    const ways = { ...found.get(`http-${size}`)?.ways, ...found.get(`express-${size}`)?.ways };
    return { bytes, ways };
  });
  const columns = [...HTTP_WAYS, ...EXPRESS_WAYS].filter((way) =>
    rows.some(({ ways }) => ways[way]),
  );
  const mark = (way, text) => (OURS.includes(way) ? bold(text) : text);
  return markdown([
    ['GET of', ...columns.map((way) => mark(way, way === 'zerocopy' ? way : labelOf(way)))],
    ...rows.map(({ bytes, ways }) => [
      pointText(bytes, { label: 'size' }),
      ...columns.map((way) => mark(way, cell(ways, way, 'requestsPerSecond'))),
    ]),
  ]);
}

/** @param {Map<string, import('./results.mjs').Result>} found */
function worksTable(found) {
  const rows = WORKS.flatMap(({ name, figures, node = 'pipe', ours = 'transfer', peer = '' }) => {
    const result = found.get(name);
    if (!result) return [];
    const { title, ways } = result;
    const told = figures.filter((figure) => cell(ways, ours, figure) !== '');
    return told.map((figure, index) => {
      const other = cell(ways, peer, figure);
      return [
        `${index === 0 ? title : '…'}: ${figureTitle(figure)}`,
        cell(ways, node, figure),
        node === 'pipe' ? cell(ways, 'pipe-1m', figure) : '',
        bold(cell(ways, ours, figure)),
        other && `${other} (${labelOf(peer)})`,
      ];
    });
  });
  return markdown([['', 'Node.js', 'with 1 MiB reads', '**zerocopy**', 'beside'], ...rows]);
}

/** @param {import('./results.mjs').Results} results */
function tables({ machine, command, scenarios }) {
  const found = new Map(scenarios.map((one) => [one.name, one]));
  const { cpu, cores, kernel, node, date, commit, congestionControl } = machine;
  return [
    'Requests a second:',
    httpTable(found),
    'Other work, where less is better:',
    worksTable(found),
    `Medians, by \`${command}\` on ${date.slice(0, 10)} at commit ${commit}: ${cpu}, ${cores} cores, ` +
      `${kernel}, Node.js ${node}, TCP ${congestionControl}, loopback, all of it in the page cache, ` +
      'the process on one core and its peers on the other.',
  ].join('\n\n');
}

const BEGIN = '<!-- drawn from bench/results.json -->';
const END = '<!-- end of what is drawn -->';

/**
 * A text with the tables between its two marks, in the place of what stands there.
 * @param {string} text
 * @param {import('./results.mjs').Results} results
 */
export function withTables(text, results) {
  const [before, rest] = text.split(BEGIN);
  const [, after] = rest?.split(END) ?? [];
  if (after === undefined) throw new Error(`The text needs ${BEGIN}, and ${END} below it`);
  return `${before}${BEGIN}\n\n${tables(results)}\n\n${END}${after}`;
}
