// One figure of some ways, as horizontal bars from zero, with whiskers from the least to the most.
import { figureOf, figureTitle, figureValue } from './figures.mjs';
import { kindOf, labelOf } from './labels.mjs';
import { colours, coloursOf } from './palette.mjs';
import { draw, FONT } from './svg.mjs';

const WIDTH = 352;
const HEAD = 34;
const ROW = 42;
const BAR = 12;
/** Of the bold digits of a value, at most. */
const CHARACTER = 8;

/**
 * @param {import('./results.mjs').Ways} ways
 * @param {string} figure
 * @param {{ title?: string, width?: number }} [options]
 */
export function bars(ways, figure, { title = figureTitle(figure), width = WIDTH } = {}) {
  const ids = Object.keys(ways).filter((way) => ways[way].figures[figure]);
  const colour = coloursOf(Object.keys(ways), kindOf);
  const summaries = ids.map((way) => ways[way].figures[figure]);
  const most = Math.max(...summaries.map(({ max, median }) => Math.max(max, median)));
  const texts = summaries.map(({ median }) => figureValue(median, figure));
  const right = 12 + CHARACTER * Math.max(...texts.map(({ length }) => length));
  const { better } = figureOf(figure);
  const option = {
    title: {
      text: title,
      subtext: better ? `${better} is better` : '',
      left: 0,
      top: 0,
      padding: 0,
      itemGap: 3,
      textStyle: { fontSize: 14, fontWeight: 600, color: colours.ink },
      subtextStyle: { fontSize: 11, color: colours.muted },
    },
    grid: { left: 0, right, top: HEAD, bottom: 2, outerBoundsMode: 'none' },
    xAxis: { type: 'value', show: false, min: 0, max: most > 0 ? most : 1 },
    yAxis: {
      type: 'category',
      inverse: true,
      data: ids.map(labelOf),
      z: 10,
      axisTick: { show: false },
      axisLine: { show: false },
      axisLabel: {
        inside: true,
        align: 'left',
        verticalAlign: 'bottom',
        margin: 0,
        padding: [0, 0, 2, 0],
        color: colours.ink,
        fontSize: 12,
        interval: 0,
      },
    },
    series: [
      {
        type: 'custom',
        silent: true,
        clip: false,
        data: summaries.map(({ median, min, max }, index) => [index, median, min, max]),
        renderItem: (_, api) => {
          const index = api.value(0);
          const [, middle] = api.coord([0, index]);
          const at = (value) => api.coord([value, index])[0];
          return row(
            [1, 2, 3].map((dimension) => at(api.value(dimension))),
            middle + BAR / 2 + 2,
            colour[ids[index]],
            texts[index],
          );
        },
      },
    ],
  };
  const description = ids.map((way, index) => `${labelOf(way)}: ${texts[index]}`).join('; ');
  return draw(option, { width, height: HEAD + ROW * ids.length + 6, title, description });
}

/**
 * @param {number[]} xs of median, least and most
 * @param {number} y of the bar's middle
 * @param {string} fill
 * @param {string} text
 */
function row([median, min, max], y, fill, text) {
  const spread = max - min >= 1;
  return {
    type: 'group',
    children: [
      {
        type: 'rect',
        shape: { x: 0, y: y - BAR / 2, width: Math.max(median, 1), height: BAR, r: [0, 2, 2, 0] },
        style: { fill },
      },
      ...(spread ? whisker([min, y], [max, y], [0, 4]) : []),
      {
        type: 'text',
        x: Math.max(median, max) + 6,
        y,
        style: {
          text,
          fill: colours.ink,
          fontFamily: FONT,
          fontSize: 12,
          fontWeight: 600,
          verticalAlign: 'middle',
        },
      },
    ],
  };
}

/**
 * A line between two points with a cap on each, in the ink that shows on all colours.
 * @param {number[]} from
 * @param {number[]} to
 * @param {number[]} cap half of one
 */
export function whisker([x1, y1], [x2, y2], [dx, dy], stroke = colours.ink) {
  const line = (shape) => ({
    type: 'line',
    shape,
    style: { stroke, lineWidth: 1.25, fill: 'none' },
  });
  return [
    line({ x1, y1, x2, y2 }),
    line({ x1: x1 - dx, y1: y1 - dy, x2: x1 + dx, y2: y1 + dy }),
    line({ x1: x2 - dx, y1: y2 - dy, x2: x2 + dx, y2: y2 + dy }),
  ];
}
