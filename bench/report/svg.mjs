// Drawings by ECharts, without a browser. The same input gives the same text: what ECharts counts
// across drawings, and what it leaves for a browser to attach to, is taken out.
import * as echarts from 'echarts';
import { escapeMarkup } from './escape.mjs';
import { colours, darkDrawings } from './palette.mjs';

/** Nothing with quotes: it goes into attributes. */
export const FONT = 'system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif';

/** @typedef {{ width: number, height: number, title: string, description: string, body: string }} Drawing */

/**
 * @param {object} option ECharts'
 * @param {{ width: number, height: number, title: string, description: string }} about
 * @returns {Drawing}
 */
export function draw(option, about) {
  const { width, height } = about;
  const chart = echarts.init(null, null, { renderer: 'svg', ssr: true, width, height });
  chart.setOption({ animation: false, textStyle: { fontFamily: FONT }, ...option });
  const svg = chart.renderToSVGString();
  chart.dispose();
  return { ...about, body: tidy(svg) };
}

/** @param {string} svg */
function tidy(svg) {
  const body = svg
    .slice(svg.indexOf('>') + 1, svg.lastIndexOf('</svg>'))
    .replace(/<style ?>[\s\S]*?<\/style>/g, '')
    // Nothing that is drawn here leaves its plot.
    .replace(/<defs ?>\s*(<clipPath [\s\S]*?<\/clipPath>\s*)*<\/defs>/g, '')
    .replace(/ (class|clip-path|pointer-events|ecmeta_\w+|xml:space)="[^"]*"/g, '')
    .replace(
      /<(rect|path) [^>]*(fill="none"|fill-opacity="0")( stroke="#\w+" stroke-width="0")?><\/\1>/g,
      '',
    )
    // Lines of legends, which enclose nothing.
    .replaceAll(' fill="#000"', ' fill="none"')
    .trim();
  if (/\bzr\d+-/.test(body)) throw new Error('A drawing has ids that count across drawings');
  return body;
}

/** @param {Drawing} drawing */
const label = ({ title, description }) =>
  `<title>${escapeMarkup(title)}</title><desc>${escapeMarkup(description)}</desc>`;

/** For a page, whose style sheet has `darkDrawings()`. @param {Drawing} drawing */
export function inline(drawing) {
  const { width, height, title, body } = drawing;
  return `<svg viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="${escapeMarkup(title)}">${label(drawing)}${body}</svg>`;
}

const MARGIN = 24;

/**
 * Drawings side by side on a ground of their own, as a file: whatever it is shown on, it is legible.
 * @param {Drawing[]} drawings of one width
 * @param {{ title: string, subtitle: string, description: string, columns: number, foot: string }} about
 */
export function sheet(drawings, { title, subtitle, description, columns, foot }) {
  const cell = Math.max(...drawings.map(({ width }) => width));
  const width = MARGIN + columns * (cell + MARGIN);
  let y = 84;
  const cells = [];
  for (let first = 0; first < drawings.length; first += columns) {
    const row = drawings.slice(first, first + columns);
    row.forEach((drawing, column) => {
      const x = MARGIN + column * (cell + MARGIN);
      cells.push(
        `<g transform="translate(${x} ${y})" role="img">${label(drawing)}${drawing.body}</g>`,
      );
    });
    y += Math.max(...row.map(({ height }) => height)) + 16;
  }
  const height = y + 30;
  const line = (text, at, size, fill, weight) =>
    `<text x="${MARGIN}" y="${at}" font-size="${size}" font-weight="${weight}" fill="${fill}" font-family="${FONT}">${escapeMarkup(text)}</text>`;
  return `${[
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">`,
    label({ title, description }),
    `<style>${darkDrawings()}</style>`,
    `<rect x="0.5" y="0.5" width="${width - 1}" height="${height - 1}" rx="8" fill="${colours.page}" stroke="${colours.rule}"/>`,
    line(title, 38, 18, colours.ink, 600),
    line(subtitle, 60, 13, colours.muted, 400),
    ...cells,
    line(foot, height - 18, 11, colours.muted, 400),
    '</svg>',
  ].join('\n')}\n`;
}
