// Looks for memory that the addon has allocated and lost: LeakSanitizer, when a process ends, over
// thousands of transfers, and over worker threads and processes that end in the middle of theirs.
// A report counts where a frame of the addon is in the stack of the allocation; Node's own don't.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { environment, folder } from './build.mjs';
import { mistake } from './mistakes.mjs';

const ROUNDS = 250;
const QUICK_ROUNDS = 20;
/** Then it hangs. */
const LONGEST_MS = 30 * 60_000;

/** Leaks of which the addon's own code has allocated something, in the reports of a folder. */
function ofTheAddon(reports) {
  const leaks = readdirSync(reports).flatMap((name) =>
    readFileSync(join(reports, name), 'utf8')
      .split('\n\n')
      .filter((block) => /^(Direct|Indirect) leak of/m.test(block)),
  );
  // The sources' folder, of a frame that has a line; the binary's name, of one that has none.
  const frame = /(\/native\/\w+|\/seam)\.(cc|h):\d+|zerocopy\w*\.node/;
  // Not what JavaScript allocates that the addon has called, nor V8's part of the addon's exports,
  // which goes with the isolate: a process that ends in the middle never closes that.
  const isNodes = (leak) => / in napi_(create_function|set_named_property) /.test(leak);
  const own = leaks.filter((leak) => frame.test(leak.split(' in Builtins_')[0]) && !isNodes(leak));
  return { own, others: leaks.length - own.length };
}

function look(what, command) {
  const reports = mkdtempSync(join(folder, 'leaks-'));
  const began = Date.now();
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, command, {
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
    timeout: LONGEST_MS,
    env: environment(join(reports, 'report'), { leaks: true }),
  });
  const { own, others } = ofTheAddon(reports);
  rmSync(reports, { recursive: true });
  const seconds = Math.round((Date.now() - began) / 1000);
  console.log(`${what}: ${own.length} leaks, ${others} of Node's own (${seconds} s)`);
  if (status !== 0) console.error(`${what}: ended with ${status ?? signal}\n${stdout}\n${stderr}`);
  return { own, stdout, isClean: status === 0 && own.length === 0 };
}

function mustBeClean(what, command) {
  const { own, stdout, isClean } = look(what, command);
  for (const leak of own) console.error(`${leak}\n`);
  return { isClean, stdout };
}

/** True where none was found, and all that was asked of the programs has been done. */
export function checkLeaks(isQuick) {
  if (look('Lost on purpose', mistake('lost')).own.length === 0) throw new Error('It is not found');
  const scratch = join(folder, 'transfers');
  rmSync(scratch, { recursive: true, force: true });
  mkdirSync(scratch);
  const program = resolve('test/sanitizers/transfers.mjs');
  const rounds = isQuick ? QUICK_ROUNDS : ROUNDS;
  const transfers = mustBeClean('Transfers', [program, scratch, String(rounds)]);
  console.log(transfers.stdout);
  if (isQuick) return transfers.isClean;
  const vitest = resolve('node_modules/vitest/vitest.mjs');
  const patience = ['--testTimeout=300000', '--hookTimeout=120000'];
  const files = ['test/workers.test.ts', 'test/exits.test.ts'];
  // Warming is done under strace, where LeakSanitizer can't stop the threads.
  const untraced = ['--testNamePattern', '^((?!warming).)*$'];
  const ends = mustBeClean('Ends', [vitest, 'run', ...patience, ...untraced, ...files]);
  return transfers.isClean && ends.isClean;
}
