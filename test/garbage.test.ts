// Transfers of which nobody holds anything, under a garbage collector that is always at work.
import { expect, test } from 'vitest';
import { scratchFolder, testFile } from './helpers/files';
import { runNode } from './helpers/process';

const ROUNDS = 6;

test.each([
  [['--expose-gc']],
  [['--expose-gc', '--stress-compaction']],
  [['--gc-interval=300']],
  [['--random-gc-interval=500']],
  [['--stress-scavenge=50', '--stress-marking=50']],
  [['--gc-global']],
])(
  '%j',
  async (execArgv) => {
    const { path } = testFile(3 * 1024 * 1024);
    const args = [path, scratchFolder(), String(ROUNDS)];
    const { code, signal, stdout, stderr } = await runNode('garbage.mjs', args, {
      execArgv,
      limitMs: 60_000,
    });
    expect({ code, signal, stderr }).toEqual({ code: 0, signal: null, stderr: '' });
    const { counts, filesRight, left } = JSON.parse(stdout);
    expect(counts).toEqual({
      whole: 6 * ROUNDS,
      wrong: 0,
      failed: 0,
      aborted: ROUNDS,
      copied: ROUNDS,
      called: ROUNDS,
    });
    expect(filesRight).toBe(2 * ROUNDS);
    if (!execArgv.includes('--expose-gc')) return;
    // And nothing is held when they are over.
    const none = { socket: 0, promise: 0, FileHandle: 0, stream: 0, list: 0, signal: 0 };
    expect(left).toEqual(none);
  },
  90_000,
);
