// npm run test:asan: the tests of the library with an addon that has the address and the undefined
// behaviour sanitizer in it, then a look for leaks. Fails where a test does, and where any process of
// it, whatever became of its test, has left a report.
//   run.mjs [--quick | ARGUMENT OF VITEST...]
//
// --quick: what reaches most of the addon. With arguments of vitest there is no look for leaks.
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { build, environment, folder } from './build.mjs';
import { checkLeaks } from './leaks.mjs';
import { checkMistakes } from './mistakes.mjs';

/** What reaches most of the addon, in about two minutes. */
const QUICK = [
  'arguments',
  'calls',
  'copies',
  'fault-grid',
  'garbage',
  'http-faults',
  'http-gone',
  'http-interrupted',
  'http-transfer',
  'http-truncated',
  'http-uploads',
  'model-',
  'order',
  'parity-close',
  'receive-faults',
  'receive-fallback',
  'receive.test',
  'relay.test',
  'relay-http',
  'relay-life',
  'sizes',
  'socket',
  'tls',
  'workers',
].map((name) => `test/${name}`);

/** Random programs (test/model), in the place of 5,000. */
const QUICK_PROGRAMS = '1000';

const args = process.argv.slice(2);
const isQuick = args[0] === '--quick';
if (isQuick) args.splice(0, 1, ...QUICK);
const isSome = args.length > 0 && !isQuick;

const reports = join(folder, 'reports');
rmSync(reports, { recursive: true, force: true });
mkdirSync(reports, { recursive: true });
chmodSync(reports, 0o1777); // some programs run as other users

build();
checkMistakes();
const began = Date.now();
const { status } = spawnSync(
  process.execPath,
  [
    resolve('node_modules/vitest/vitest.mjs'),
    'run',
    // The sanitizers take their time.
    '--testTimeout=120000',
    '--hookTimeout=120000',
    ...args,
  ],
  {
    stdio: 'inherit',
    env: {
      ...environment(join(reports, 'report')),
      ...(isQuick && { ZEROCOPY_PROGRAMS: QUICK_PROGRAMS }),
    },
  },
);
console.log(`Tests with sanitizers: ${Math.round((Date.now() - began) / 1000)} s`);

const found = readdirSync(reports);
for (const name of found) console.error(readFileSync(join(reports, name), 'utf8'));
console.log(`${found.length} reports of sanitizers`);
const isClean = status === 0 && found.length === 0;
const leaksNone = isSome || checkLeaks(isQuick);
process.exitCode = isClean && leaksNone ? 0 : 1;
