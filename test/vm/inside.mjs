// Runs the tests in the virtual machine, and tells what came of it (run.mjs starts this there).
//   inside.mjs RELEASE FILE...: the kernel that this is not to run under, and vitest's files
import { execFileSync, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';

const [, , others, ...files] = process.argv;
const kernel = os.release();
console.log(`Linux ${kernel} (outside: ${others})`);
if (kernel === others) throw new Error('This is no other kernel');

// Files that tests write lie on an ext4 (/dev/vda): an overlay can't tell what is resident. And below a
// folder that is new: no file can be opened from the cache alone on whose way a folder of 9p lies.
const disk = '/zerocopy-disk';
fs.mkdirSync(disk);
execFileSync('mount', ['-t', 'ext4', '/dev/vda', disk]);
process.env.ZEROCOPY_TEST_SCRATCH = `${disk}/test-scratch`;
fs.mkdirSync(process.env.ZEROCOPY_TEST_SCRATCH, { mode: 0o755 });

const failures = [];
timed('the engine, without Node', 'build/native-tests/plain/tests', ['--no-colors']);
if (files.length > 0) {
  const results = '/tmp/results.json';
  timed('vitest', process.execPath, [
    'node_modules/vitest/vitest.mjs',
    'run',
    '--config=test/vm/vitest.config.mts',
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${results}`,
    ...files,
  ]);
  tell(JSON.parse(fs.readFileSync(results, 'utf8')));
}
console.log(
  `Linux ${kernel}: ${failures.length > 0 ? `failed: ${failures.join(', ')}` : 'all well'}`,
);
process.exitCode = failures.length > 0 ? 1 : 0;

/** @param {string} what @param {string} command @param {string[]} args */
function timed(what, command, args) {
  const began = performance.now();
  // No terminal: vitest would draw on it, over and over.
  const plain = ['-c', '"$@" 2>&1 | cat; exit $PIPESTATUS', 'bash', command, ...args];
  const { status, signal } = spawnSync('bash', plain, { stdio: 'inherit' });
  console.log(`Linux ${kernel}: ${what}: ${Math.round((performance.now() - began) / 1000)} s`);
  if (status !== 0) failures.push(`${what} (${signal ?? status})`);
}

/** The counts, and what was skipped, whose names say why. */
function tell(report) {
  const { numPassedTests: passed, numFailedTests: failed, testResults } = report;
  const tests = testResults.flatMap(({ assertionResults }) => assertionResults);
  const skipped = tests.filter(({ status }) => status === 'skipped' || status === 'pending');
  for (const { fullName } of skipped) console.log(`skipped: ${fullName}`);
  console.log(`Linux ${kernel}: ${passed} passed, ${failed} failed, ${skipped.length} skipped`);
  if (passed === 0) failures.push('no test of vitest passed');
}
