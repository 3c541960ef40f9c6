// Results as text, for a terminal.
import { figuresOf, figureText, figureTitle } from './figures.mjs';
import { labelOf } from './labels.mjs';
import { axisText, complete, pointsOf, pointText } from './results.mjs';

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
 * A table of what each way took: medians, and from the least to the most.
 * @param {Record<string, { backend?: string, figures: Record<string, object> }>} ways
 * @param {object} [options]
 * @param {boolean} [options.spread]
 * @param {string[]} [options.omit] figures to leave out
 * @param {string[]} [options.lastColumn] its head, then a cell for each way
 */
export function waysTable(ways, { spread = true, omit = [], lastColumn } = {}) {
  const results = Object.entries(ways);
  const columns = figuresOf(ways).filter((key) => !omit.includes(key));
  const head = ['way', 'backend', ...columns.map(figureTitle)];
  const rows = results.map(([id, { backend = '–', figures }]) => [
    labelOf(id),
    backend,
    ...columns.map((key) => figureText(figures[key], key, spread)),
  ]);
  const all = [head, ...rows];
  return table(lastColumn ? all.map((row, index) => [...row, lastColumn[index]]) : all, 2);
}

/** @param {ReturnType<typeof import('../lib/checks.mjs').checkTargets>} checks */
function checksTable(checks) {
  const rows = checks.map(({ what, ratio, atMost, atLeast, met }) => [
    what,
    atMost === undefined ? `≥ ${atLeast.toFixed(3)}` : `≤ ${atMost.toFixed(3)}`,
    ratio.toFixed(3),
    met ? 'met' : 'missed',
  ]);
  return table([['ratio (or difference) of medians', 'target', 'seen', ''], ...rows], 1);
}

/**
 * A table of a sweep: a row for each point, a column for each way.
 * @param {import('./results.mjs').Series} series
 */
function seriesTable({ title, x, figure, ways }) {
  const ids = Object.keys(ways);
  const rows = pointsOf(ways).map((point) => [
    pointText(point, x),
    ...ids.map((id) =>
      figureText(
        ways[id].find((entry) => entry.x === point),
        figure,
      ),
    ),
  ]);
  return `${title} (${figureTitle(figure)}):\n${table([[axisText(x), ...ids.map(labelOf)], ...rows], 0)}`;
}

/** @param {import('./results.mjs').Result} result */
export function scenarioText(result) {
  const { name, title, rounds, ways, parts, series, notes, checks, missing } = complete(result);
  return [
    `${name}: ${title}; ${rounds === 1 ? '1 round' : `${rounds} rounds`}`,
    Object.keys(ways).length > 0 && waysTable(ways),
    ...parts.map((part) => `${part.title}:\n${waysTable(part.ways)}`),
    ...series.map(seriesTable),
    notes.length > 0 && notes.join('\n'),
    checks.length > 0 && checksTable(checks),
    missing.length > 0 && missing.map((reason) => `missing: ${reason}`).join('\n'),
  ]
    .filter(Boolean)
    .join('\n\n');
}
