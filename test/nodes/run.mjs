// Runs the tests under other releases of Node, all of them with the one binary in prebuilds/: vitest
// itself, and what the tests start. The newest of each major version comes from npm.
//
//   run.mjs [--quick] [VERSION...] [-- ARGUMENT OF VITEST...]
//
// A version is a major one, or any that npm has; those that package.json's "engines" allows are the
// default. --quick: only the tests of what a release of Node may change. Proves of each process of
// vitest that it was that Node which ran it, and that binary which it loaded.
import { execFileSync, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { createRequire } from 'node:module';
import * as path from 'node:path';
import { parseArgs } from 'node:util';
import { setup } from '../support/build.mjs';
import { folderOf, install } from './install.mjs';

const MAJORS = ['20', '22', '24', '26'];

/** What rests on Node's internals, and what promises to be as Node is. */
const QUICK = [
  'node-internals',
  'parity-',
  'order',
  'http-calls',
  'http-connections',
  'http-context',
  'http-encrypted',
  'http-gone',
  'http-interrupted',
  'http-messages',
  'http-middleware',
  'http-transfer',
  'http-truncated',
  'http-uploads',
  'http-wire',
  'model-',
  'receive.test',
  'receive-fallback',
  'receive-handover',
  'relay.test',
  'relay-http',
  'register',
  'addon',
  'loaded-twice',
  'observe',
  'exits',
  'arguments',
  'calls',
].map((name) => `test/${name}`);

/** Random programs (test/model), in the place of 5,000. */
const QUICK_PROGRAMS = '1500';

process.chdir(path.join(import.meta.dirname, '../..'));

const separator = process.argv.indexOf('--', 2);
const ours = process.argv.slice(2, separator < 0 ? undefined : separator);
const vitests = separator < 0 ? [] : process.argv.slice(separator + 1);
const { values, positionals } = parseArgs({
  args: ours,
  allowPositionals: true,
  options: { quick: { type: 'boolean', default: false } },
});
const versions = positionals.length > 0 ? positionals : MAJORS;

const prebuilt = findPrebuilt();
setup();
const reports = versions.map(run);
console.log(`\nWith ${path.relative('.', prebuilt)}:`);
for (const { line } of reports) console.log(line);
process.exitCode = reports.every(({ right }) => right) ? 0 : 1;

/** As the library does, where nothing has been compiled. */
function findPrebuilt() {
  process.env.PREBUILDS_ONLY = '1';
  return createRequire(import.meta.url)('node-gyp-build').path('.');
}

/** Runs the tests, and tells how that went. @param {string} version */
function run(version) {
  let node;
  try {
    node = install(version);
  } catch (error) {
    return { right: false, line: `  Node ${version}: can't be had: ${error.message}` };
  }
  const name = execFileSync(node, ['-p', 'process.version'], { encoding: 'utf8' }).trim();
  console.log(`\nNode ${name}`);
  const folder = folderOf(version);
  const witnesses = path.join(folder, 'witnesses');
  const results = path.join(folder, 'results.json');
  fs.rmSync(witnesses, { force: true });
  fs.rmSync(results, { force: true });
  const began = performance.now();
  const { status } = spawnSync(
    node,
    [
      'node_modules/vitest/vitest.mjs',
      'run',
      '--config=test/nodes/vitest.config.mts',
      '--reporter=default',
      '--reporter=json',
      `--outputFile.json=${results}`,
      ...(values.quick ? QUICK : []),
      ...vitests,
    ],
    {
      stdio: 'inherit',
      env: {
        ...process.env,
        PATH: `${path.dirname(node)}:${process.env.PATH}`,
        ZEROCOPY_WITNESS: witnesses,
        ...(values.quick && { ZEROCOPY_PROGRAMS: QUICK_PROGRAMS }),
      },
    },
  );
  const seconds = Math.round((performance.now() - began) / 1000);
  const { passed, failed, skipped, files } = countsOf(results);
  for (const test of skipped) console.log(`skipped: ${test}`);
  const complaint = doubt(witnesses, name, files);
  const right = status === 0 && passed > 0 && complaint === undefined;
  const counts = `${passed} passed, ${failed} failed, ${skipped.length} skipped`;
  const line = `  Node ${name}: ${counts} (${files} files, ${seconds} s)`;
  return { right, line: complaint ? `${line}; ${complaint}` : line };
}

/** The names of what was skipped say why. @param {string} file */
function countsOf(file) {
  if (!fs.existsSync(file)) return { passed: 0, failed: 0, skipped: [], files: 0 };
  const report = JSON.parse(fs.readFileSync(file, 'utf8'));
  const tests = report.testResults.flatMap(({ assertionResults }) => assertionResults);
  return {
    passed: report.numPassedTests,
    failed: report.numFailedTests,
    skipped: tests
      .filter(({ status }) => status !== 'passed' && status !== 'failed')
      .map(({ fullName }) => fullName),
    files: report.testResults.length,
  };
}

/**
 * Why the tests prove nothing of this Node with that binary, if so.
 * @param {string} file
 * @param {string} name
 * @param {number} files
 */
function doubt(file, name, files) {
  const lines = fs.existsSync(file) ? fs.readFileSync(file, 'utf8').split('\n').slice(0, -1) : [];
  const witnesses = lines.map((line) => JSON.parse(line));
  const others = witnesses.filter(({ node }) => node !== name).map(({ node }) => node);
  if (others.length > 0) return `run by ${[...new Set(others)]}`;
  const addons = new Set(witnesses.flatMap((witness) => witness.addons));
  if (addons.size !== 1 || !addons.has(prebuilt)) return `loaded: ${[...addons].join() || 'none'}`;
  if (witnesses.length !== files) return `${witnesses.length} of ${files} files witnessed`;
  return undefined;
}
