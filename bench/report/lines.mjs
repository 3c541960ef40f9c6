// A sweep: a line for each way, with whiskers from the least to the most at each point.
import { whisker } from './bars.mjs';
import { figureOf, figureTitle, figureValue } from './figures.mjs';
import { kindOf, labelOf } from './labels.mjs';
import { colours, coloursOf } from './palette.mjs';
import { axisText, pointsOf, pointText } from './results.mjs';
import { draw } from './svg.mjs';

const WIDTH = 460;
const TITLE_ROW = 18;
/** Of a bold title, on average. */
const CHARACTER = 8;
const HEAD = 22;
const PLOT = 260;
const LEGEND_ROW = 20;
const SYMBOLS = ['circle', 'rect', 'triangle', 'diamond'];
/** Zerocopy's have one colour: those after its first are dotted. */
const DASHES = { zerocopy: 'solid', second: [2, 3], node: 'solid', peer: [6, 3] };
/** From this ratio of the largest to the least on, the least would be lost on a linear axis. */
const LOG_FROM = 30;

/** For one whose own title is that of its scenario. @param {import('./results.mjs').Series} series */
export function sweepTitle({ figure, x }) {
  const { name, unit } = figureOf(figure);
  return `${name}${unit.startsWith('/') ? unit : ''} by ${axisText(x)}`;
}

/** @param {string} text @param {number} width in characters */
function wrap(text, width) {
  const rows = [''];
  for (const word of text.split(/\s+/)) {
    const row = `${rows.at(-1)} ${word}`.trim();
    if (row.length > width && rows.at(-1) !== '') rows.push(word);
    else rows[rows.length - 1] = row;
  }
  return rows;
}

/** Powers of ten, with twice and five times each, between some values. @param {number[]} values */
function decades(values) {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const first = Math.floor(Math.log10(least));
  const count = Math.ceil(Math.log10(most)) - first + 1;
  return Array.from({ length: count }, (_, index) => 10 ** (first + index))
    .flatMap((power) => (count > 4 ? [power] : [power, 2 * power, 5 * power]))
    .filter((value) => value >= least / 1.3 && value <= most * 1.3);
}

/**
 * @param {import('./results.mjs').Series} series
 * @param {{ width?: number, legendColumns?: number }} [options]
 */
export function lines({ title, x, figure, ways }, { width = WIDTH, legendColumns = 1 } = {}) {
  const ids = Object.keys(ways);
  const points = pointsOf(ways);
  const values = ids.flatMap((way) =>
    ways[way].flatMap(({ min, max, median }) => [min, max, median]),
  );
  const logarithmic =
    Math.min(...values) > 0 && Math.max(...values) / Math.min(...values) > LOG_FROM;
  // Sweeps on a log scale go in even steps, but for the odd one (1 byte) that would take half of the width.
  const even = x.scale !== 'linear' || !points.every(Number.isFinite);
  const colour = coloursOf(ids, kindOf);
  const firstOurs = ids.find((way) => kindOf(way) === 'zerocopy');
  const rows = Math.ceil(ids.length / legendColumns);
  const titleRows = wrap(title, width / CHARACTER);
  const head = HEAD + titleRows.length * TITLE_ROW;
  const top = head + rows * LEGEND_ROW + 12;
  const { better } = figureOf(figure);
  const option = {
    title: {
      text: titleRows.join('\n'),
      subtext: [figureTitle(figure), logarithmic && 'log scale', better && `${better} is better`]
        .filter(Boolean)
        .join(', '),
      left: 0,
      top: 0,
      padding: 0,
      itemGap: 3,
      textStyle: { fontSize: 14, fontWeight: 600, lineHeight: TITLE_ROW, color: colours.ink },
      subtextStyle: { fontSize: 12, color: colours.muted },
    },
    legend: Array.from({ length: legendColumns }, (_, column) => ({
      orient: 'vertical',
      left: (column * width) / legendColumns,
      top: head,
      padding: 0,
      itemGap: LEGEND_ROW - 14,
      itemHeight: 8,
      itemWidth: 26,
      data: ids.slice(column * rows, (column + 1) * rows).map(labelOf),
      textStyle: { color: colours.ink, fontSize: 12 },
    })),
    grid: { left: 56, right: 26, top, bottom: 46, outerBoundsMode: 'none' },
    xAxis: {
      type: even ? 'category' : 'value',
      ...(even
        ? { data: points, boundaryGap: x.scale === 'category' }
        : { min: points[0], max: points.at(-1) }),
      name: axisText(x),
      nameLocation: 'middle',
      nameGap: 28,
      nameTextStyle: { color: colours.muted, fontSize: 12 },
      axisLine: { lineStyle: { color: colours.muted }, onZero: false },
      axisTick: { ...(!even && { customValues: points }), lineStyle: { color: colours.muted } },
      splitLine: { show: false },
      axisLabel: {
        ...(!even && { customValues: points }),
        formatter: (point, index) => pointText(even ? points[index] : point, x),
        color: colours.muted,
        fontSize: 11,
        interval: 0,
        hideOverlap: true,
      },
    },
    yAxis: {
      type: logarithmic ? 'log' : 'value',
      min: logarithmic ? Math.min(...values) / 1.3 : 0,
      max: logarithmic ? Math.max(...values) * 1.3 : null,
      axisLine: { show: false },
      axisTick: { show: false, ...(logarithmic && { customValues: decades(values) }) },
      splitLine: { lineStyle: { color: colours.rule } },
      axisLabel: {
        ...(logarithmic && { customValues: decades(values) }),
        color: colours.muted,
        fontSize: 12,
        formatter: (value) => Number(value.toPrecision(6)).toLocaleString('en-US'),
      },
    },
    series: ids.flatMap((way, index) => {
      const kind = kindOf(way);
      const ours = kind === 'zerocopy';
      const at = (point) => (even ? points.indexOf(point) : point);
      return [
        {
          type: 'line',
          name: labelOf(way),
          silent: true,
          clip: false,
          z: ours ? 4 : 3,
          symbol: SYMBOLS[index % SYMBOLS.length],
          symbolSize: ours ? 9 : 7,
          showAllSymbol: true,
          data: ways[way].map(({ x: point, median }) => [at(point), median]),
          itemStyle: { color: colour[way] },
          lineStyle: {
            color: colour[way],
            width: ours ? 3 : 1.75,
            type: DASHES[ours && way !== firstOurs ? 'second' : kind],
          },
        },
        {
          type: 'custom',
          silent: true,
          clip: false,
          z: 5,
          encode: { x: 0, y: [1, 2] },
          data: ways[way].map(({ x: point, min, max }) => [at(point), min, max]),
          renderItem: (_, api) => {
            const least = api.coord([api.value(0), api.value(1)]);
            const most = api.coord([api.value(0), api.value(2)]);
            const visible = least[1] - most[1] >= 2;
            return {
              type: 'group',
              children: visible ? whisker(least, most, [3, 0], colour[way]) : [],
            };
          },
        },
      ];
    }),
  };
  const description = ids
    .map((way) => {
      const list = ways[way].map(
        ({ x: point, median }) => `${pointText(point, x)} ${figureValue(median, figure)}`,
      );
      return `${labelOf(way)}: ${list.join(', ')}`;
    })
    .join('; ');
  return draw(option, {
    width,
    height: top + PLOT,
    title: `${title}, ${figureTitle(figure)}`,
    description,
  });
}
