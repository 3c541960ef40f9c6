// node bench/report.mjs RESULTS.json [--html FILE] [--charts FOLDER]
// Draws what `npm run bench -- --json > RESULTS.json` has measured.
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { page } from './report/page.mjs';
import { readmeCharts } from './report/readme.mjs';
import { readResults } from './report/results.mjs';

function parseOptions() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { html: { type: 'string' }, charts: { type: 'string' } },
  });
  const { html, charts } = values;
  if (positionals.length !== 1 || (html === undefined && charts === undefined)) {
    throw new Error('Usage: node bench/report.mjs RESULTS.json [--html FILE] [--charts FOLDER]');
  }
  return { file: positionals[0], html, charts };
}

/**
 * Those that can be drawn; of the others, why not.
 * @param {import('./report/results.mjs').Results} results
 * @param {string} folder
 */
function writeCharts(results, folder) {
  mkdirSync(folder, { recursive: true });
  for (const [name, drawn] of Object.entries(readmeCharts)) {
    try {
      writeFileSync(path.join(folder, name), drawn(results));
    } catch (error) {
      console.error(error.message);
      process.exitCode = 1;
    }
  }
}

try {
  const { file, html, charts } = parseOptions();
  const results = readResults(file);
  if (html !== undefined) writeFileSync(html, page(results));
  if (charts !== undefined) writeCharts(results, charts);
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
