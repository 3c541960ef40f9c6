// node bench/report.mjs RESULTS.json [--html FILE] [--charts FOLDER] [--tables MARKDOWN]
// Draws what `npm run bench -- --json > RESULTS.json` has measured.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { page } from './report/page.mjs';
import { readmeCharts } from './report/readme.mjs';
import { readResults } from './report/results.mjs';
import { withTables } from './report/tables.mjs';

const USAGE =
  'Usage: node bench/report.mjs RESULTS.json [--html FILE] [--charts FOLDER] [--tables MARKDOWN]';

function parseOptions() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { html: { type: 'string' }, charts: { type: 'string' }, tables: { type: 'string' } },
  });
  if (positionals.length !== 1 || Object.keys(values).length === 0) throw new Error(USAGE);
  return { file: positionals[0], ...values };
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
  const { file, html, charts, tables } = parseOptions();
  const results = readResults(file);
  if (html !== undefined) writeFileSync(html, page(results));
  if (charts !== undefined) writeCharts(results, charts);
  if (tables !== undefined) {
    writeFileSync(tables, withTables(readFileSync(tables, 'utf8'), results));
  }
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
