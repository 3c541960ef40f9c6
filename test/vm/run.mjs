// Runs tests under Debian's stock kernel (6.1 on bookworm), in a virtual machine: the engine's own, and
// those of vitest where kernels differ. All of it is built outside; what is written inside is gone
// afterwards.
//
//   run.mjs [--quick] [FILE OF VITEST...]
//
// The processor is emulated, at about a tenth of its speed. So the default leaves out what no kernel
// changes (HTTP, frameworks, browsers, Node's own ways), what measures time or memory, what moves
// gigabytes, and what needs more than is there: strace, packages from npm. --quick: the engine's tests,
// the system calls as JavaScript sees them, each pair of ends, and sockets as sources.
import { execFileSync, spawnSync } from 'node:child_process';
import * as os from 'node:os';
import * as path from 'node:path';
import { parseArgs } from 'node:util';
import { setup } from '../support/build.mjs';

const QUICK = ['calls.test', 'pairs', 'limits-user', 'receive.test'];
const WHOLE = [
  ...QUICK,
  'copy-file.test',
  'filesystems',
  'limits-descriptors',
  'order',
  'receive-faults',
  'receive-fallback',
  'receive-segments',
  'relay.test',
  'sizes',
  'socket',
];
const LIMIT_SECONDS = { quick: 900, whole: 7200 };
/** Of the engine's grid of faults, whose calls are the seam's more than the kernel's. */
const FAULTS_ONE_OF = { quick: 20, whole: 1 };
const DISK_MEBIBYTES = 8192;

process.chdir(path.join(import.meta.dirname, '../..'));
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { quick: { type: 'boolean', default: false } },
});
const chosen = (values.quick ? QUICK : WHOLE).map((name) => `test/${name}`);
const files = positionals.length > 0 ? positionals : chosen;

setup();
const tests = path.resolve('build/native-tests/plain/tests');
const make = ['-s', `-j${os.availableParallelism()}`, '-C', 'test/native'];
execFileSync('make', [...make, path.relative('test/native', tests)], { stdio: 'inherit' });
const run = values.quick ? 'quick' : 'whole';
const limit = LIMIT_SECONDS[run];
const inside = [
  'env',
  `ZEROCOPY_FAULTS_ONE_OF=${FAULTS_ONE_OF[run]}`,
  process.execPath,
  'test/vm/inside.mjs',
  os.release(),
  ...files,
];
const { status } = spawnSync(
  'test/vm/run-in-kernel.sh',
  ['-t', String(limit), '-d', String(DISK_MEBIBYTES), '--', ...inside],
  { stdio: 'inherit' },
);
if (status === 124) console.error(`The virtual machine was stopped after ${limit} s`);
process.exitCode = status ?? 1;
