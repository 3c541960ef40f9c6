// Results as one HTML page, which needs nothing but itself.
import { bars } from './bars.mjs';
import { escapeMarkup as markup } from './escape.mjs';
import { figuresOf, figureText, figureTitle } from './figures.mjs';
import { kindOf, labelOf } from './labels.mjs';
import { lines, sweepTitle } from './lines.mjs';
import { darkDrawings, properties } from './palette.mjs';
import { axisText, complete, pointsOf, pointText } from './results.mjs';
import { FONT, inline } from './svg.mjs';

const STYLE = `
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 ${FONT}}
header,main,footer{max-width:1176px;margin:0 auto;padding:0 24px}
h1{font-size:28px;line-height:1.2;margin:32px 0 4px}
h2{font-size:20px;line-height:1.3;margin:0}
h3{font-size:16px;margin:28px 0 12px}
p{margin:8px 0;max-width:76ch}
a{color:var(--zerocopy)}
code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.875em}
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,230px),1fr));gap:12px 24px;margin:20px 0;padding:16px 20px;background:var(--card);border:1px solid var(--rule);border-radius:8px}
dt{font-size:12px;color:var(--muted)}
dd{margin:0;font-size:14px;overflow-wrap:anywhere}
.muted{color:var(--muted);font-size:14px}
.quick{border-left:4px solid var(--peer1);padding:4px 0 4px 12px}
.key{display:flex;flex-wrap:wrap;gap:4px 20px;padding:0;margin:12px 0;list-style:none;font-size:14px}
.key i{display:inline-block;width:14px;height:14px;border-radius:2px;margin-right:7px;vertical-align:-2px}
nav ul{columns:3 220px;padding-left:20px;margin:16px 0;font-size:14px}
section{margin:36px 0;padding-top:20px;border-top:1px solid var(--rule)}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,352px),1fr));gap:28px 36px;margin:20px 0}
.charts.wide{grid-template-columns:repeat(auto-fill,minmax(min(100%,460px),1fr))}
figure{margin:0;min-width:0}
svg{display:block;max-width:100%;height:auto}
details{margin:12px 0}
summary{cursor:pointer;font-size:14px;color:var(--muted)}
.scroll{overflow-x:auto;margin:8px 0}
table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}
th,td{padding:5px 14px 5px 0;border-bottom:1px solid var(--rule);text-align:right;white-space:nowrap}
th{font-weight:600}
thead th{color:var(--muted);vertical-align:bottom}
th[scope=row],thead th:first-child{text-align:left}
.targets th[scope=row]{white-space:normal}
.met{color:var(--met);font-weight:600}
.missed{color:var(--missed);font-weight:600}
ul.missing{padding-left:20px;font-size:14px;overflow-wrap:anywhere}
footer{padding:12px 24px 40px}
@media (max-width:600px){header,main,footer{padding-left:16px;padding-right:16px}}
`;

/**
 * @param {string} caption
 * @param {string[]} head
 * @param {string[][]} rows whose first cell names the row; markup
 * @param {string} [kind] a class
 */
function table(caption, head, rows, kind = '') {
  const tr = ([first, ...rest]) =>
    `<tr><th scope="row">${first}</th>${rest.map((cell) => `<td>${cell}</td>`).join('')}</tr>`;
  return `<div class="scroll" role="region" tabindex="0" aria-label="${markup(caption)}"><table class="${kind}">
<thead><tr>${head.map((cell) => `<th scope="col">${markup(cell)}</th>`).join('')}</tr></thead>
<tbody>${rows.map(tr).join('\n')}</tbody></table></div>`;
}

/** @param {string} content */
const behind = (content) =>
  `<details><summary>The numbers as a table</summary>${content}</details>`;

/** @param {import('./svg.mjs').Drawing} drawing */
const figure = (drawing) => `<figure>${inline(drawing)}</figure>`;

/** @param {string} title @param {import('./results.mjs').Ways} ways */
function waysMarkup(title, ways) {
  const keys = figuresOf(ways);
  const rows = Object.entries(ways).map(([way, { backend = '–', figures }]) => [
    markup(labelOf(way)),
    markup(backend),
    ...keys.map((key) => markup(figureText(figures[key], key))),
  ]);
  return `<div class="charts">${keys.map((key) => figure(bars(ways, key))).join('\n')}</div>
${behind(table(title, ['way', 'backend', ...keys.map(figureTitle)], rows))}`;
}

/** @param {import('./results.mjs').Series} series */
function seriesTable({ title, x, figure: key, ways }) {
  const ids = Object.keys(ways);
  const rows = pointsOf(ways).map((point) => [
    markup(pointText(point, x)),
    ...ids.map((way) =>
      markup(
        figureText(
          ways[way].find((entry) => entry.x === point),
          key,
        ),
      ),
    ),
  ]);
  return table(title, [`${axisText(x)} · ${figureTitle(key)}`, ...ids.map(labelOf)], rows);
}

/** @param {import('./results.mjs').Series[]} series @param {string} scenario its title */
function sweeps(series, scenario) {
  const drawn = series.map((one) =>
    figure(lines({ ...one, title: one.title === scenario ? sweepTitle(one) : one.title })),
  );
  return `<div class="charts wide">${drawn.join('\n')}</div>
${behind(series.map(seriesTable).join('\n'))}`;
}

/** @param {import('./results.mjs').Result['parts']} parts @param {boolean} folded */
function partsMarkup(parts, folded) {
  const all = parts.map(
    (part) => `<h3>${markup(part.title)}</h3>${waysMarkup(part.title, part.ways)}`,
  );
  if (!folded) return all.join('\n');
  return `<details><summary>All figures of each point</summary>${all.join('\n')}</details>`;
}

/** @param {import('./results.mjs').Result['checks']} checks */
function targets(checks) {
  const rows = checks.map(({ what, ratio, atMost, atLeast, met }) => [
    markup(what),
    atMost === undefined ? `≥ ${atLeast.toFixed(3)}` : `≤ ${atMost.toFixed(3)}`,
    ratio.toFixed(3),
    met ? '<span class="met">✓ met</span>' : '<span class="missed">✗ missed</span>',
  ]);
  const head = ['ratio (or difference) of medians', 'target', 'seen', ''];
  return `<h3>Targets</h3>${table('Targets', head, rows, 'targets')}`;
}

/** @param {import('./results.mjs').Result} result */
function section(result) {
  const { name, title, rounds, ways, parts, series, notes, checks, missing } = complete(result);
  const list = missing.map((reason) => `<li>${markup(reason)}</li>`).join('');
  return [
    `<section id="${markup(name)}"><h2>${markup(name)}</h2>`,
    `<p>${markup(title)}; ${rounds === 1 ? '1 round' : `${markup(rounds)} rounds`}</p>`,
    Object.keys(ways).length > 0 && waysMarkup(name, ways),
    series.length > 0 && sweeps(series, title),
    parts.length > 0 && partsMarkup(parts, series.length > 0),
    ...notes.map((note) => `<p>${markup(note)}</p>`),
    checks.length > 0 && targets(checks),
    missing.length > 0 && `<h3>Missing</h3><ul class="missing">${list}</ul>`,
    '</section>',
  ]
    .filter(Boolean)
    .join('\n');
}

/** @param {import('./results.mjs').Results} results */
function facts({ machine, command }) {
  const { cpu, cores, kernel, node, date, commit, congestionControl, loadAverage } = machine;
  const entries = {
    Machine: `${cpu}, ${cores} cores`,
    Kernel: kernel,
    'Node.js': node,
    Date: date,
    Commit: commit,
    Command: command,
    TCP: congestionControl,
    'Load at the start': loadAverage?.toFixed(1),
    Cores: machine.pinned ? 'what is measured on one, its peers on another' : 'nothing pinned',
    Addon:
      machine.capabilities?.native === false ? `none: ${machine.capabilities.reason}` : undefined,
  };
  const shown = Object.entries(entries).filter(([, value]) => value !== undefined);
  return `<dl>${shown.map(([name, value]) => `<div><dt>${name}</dt><dd>${markup(value)}</dd></div>`).join('')}</dl>`;
}

/** @param {import('./results.mjs').Result} result */
function entry(result) {
  const { name, checks } = complete(result);
  const met = checks.filter((check) => check.met).length;
  const count =
    checks.length > 0 ? ` <span class="muted">${met} of ${checks.length} met</span>` : '';
  return `<li><a href="#${markup(name)}">${markup(name)}</a>${count}</li>`;
}

/** @param {import('./results.mjs').Result[]} scenarios */
function key(scenarios) {
  const ways = scenarios.flatMap((result) => {
    const { ways, parts, series } = complete(result);
    return [ways, ...parts.map((part) => part.ways), ...series.map((one) => one.ways)].flatMap(
      Object.keys,
    );
  });
  const kinds = new Set(ways.map(kindOf));
  const item = (colour, text) => `<li><i style="background:var(--${colour})"></i>${text}</li>`;
  return `<ul class="key">${[
    kinds.has('zerocopy') && item('zerocopy', 'zerocopy'),
    kinds.has('node') && item('node1', 'Node.js without it'),
    kinds.has('peer') && item('peer1', 'other programs'),
  ]
    .filter(Boolean)
    .join('')}</ul>`;
}

/** @param {import('./results.mjs').Results} results */
export function page(results) {
  const { quick, scenarios } = results;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>zerocopy: the bench</title>
<link rel="icon" href="data:,">
<style>${properties()}${STYLE}${darkDrawings()}</style>
</head>
<body>
<header>
<h1>zerocopy: the bench</h1>
${facts(results)}
${quick ? '<p class="quick">Smaller sizes and fewer rounds: the targets are meant for the full sizes.</p>' : ''}
<p>Bars and points are medians of the rounds; whiskers go from the least to the most. Ways of one scenario took
turns in one run, so that what else the machine did fell on all of them: compare ratios within a scenario, not
numbers between machines. A target is a ratio (or a difference) of medians.</p>
${key(scenarios)}
<nav aria-label="Scenarios"><ul>${scenarios.map(entry).join('\n')}</ul></nav>
</header>
<main>
${scenarios.map(section).join('\n')}
</main>
<footer class="muted">How each figure is taken, and what it leaves out: <code>bench/README.md</code>.</footer>
</body>
</html>
`;
}
