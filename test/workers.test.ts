import * as fs from 'node:fs';
import { describe, expect, test } from 'vitest';
import { backends } from './helpers/backends';
import { denseFile } from './helpers/copies';
import { scratchFolder, testFile } from './helpers/files';
import { Peers } from './helpers/peers';
import { runNode } from './helpers/process';
import { hasSanitizers } from './helpers/sanitizers';
import { fifo } from './helpers/sources';

const MIB = 1024 * 1024;

test('4 worker threads transfer at once', async () => {
  const { path } = testFile(4 * MIB);
  const { code, stdout, stderr } = await runNode('workers.mjs', [path]);
  expect(stderr).toBe('');
  expect(code).toBe(0);
  const { right, backends } = JSON.parse(stdout);
  expect(right).toBe(16);
  expect(backends).toEqual(Array(16).fill('sendfile'));
});

interface Left {
  /** All but those of regular files. */
  descriptors: number;
  files: number;
  threads: number;
  rss: number;
}

/** Workers that do nothing at all take 5 to 10 KiB each. */
const MOST_KIB_EACH = 38;

const ROUNDS = hasSanitizers ? 2 : 6;
const half = hasSanitizers
  ? ' (SKIPPED: no look at memory, and fewer of them, with sanitizers)'
  : '';

describe('worker threads that end in the middle of what they do', () => {
  test.each(['main', 'workers'])(
    `the addon in the %s${half}`,
    async (placement) => {
      const folder = scratchFolder();
      const [file, largeFile] = [denseFile(4 * MIB, folder), denseFile(16 * MIB, folder)];
      const sinks = scratchFolder();
      const peers = await Peers.listen();
      const place = JSON.stringify({ folder: sinks, file, largeFile, ports: peers.ports });
      const { code, signal, stdout, stderr } = await runNode(
        'worker-lives.cjs',
        [placement, String(ROUNDS), place],
        // Few arenas: glibc's have their most when many workers happen to allocate at once.
        { execArgv: ['--expose-gc'], env: { MALLOC_ARENA_MAX: '2' }, limitMs: 250_000 },
      );
      expect({ code, signal, stderr }).toEqual({ code: 0, signal: null, stderr: '' });
      // A duplicate that outlived its worker would hold the connection open.
      await peers.ended();
      const { ended, before, after }: { ended: number; before: Left; after: Left } =
        JSON.parse(stdout);
      // Enough of them that what allocators keep, up to 28 MiB, is the smaller part.
      const measured = (ended / ROUNDS) * (ROUNDS - 1);
      const grownKib = (after.rss - before.rss) / 1024 / measured;
      console.log(`${ended} workers: ${stdout.trim()} +${grownKib.toFixed(1)} KiB each`);
      expect(ended).toBeGreaterThanOrEqual(200 * ROUNDS);
      expect(after.descriptors).toBeLessThanOrEqual(before.descriptors);
      // A close that Node's fs has begun and its threads haven't is never made when the worker ends.
      expect(after.files).toBeLessThanOrEqual(before.files + 5);
      expect(after.threads).toBeLessThanOrEqual(before.threads);
      if (!hasSanitizers) expect(grownKib).toBeLessThan(MOST_KIB_EACH);
      expect(fs.readdirSync(sinks).flatMap((lane) => fs.readdirSync(`${sinks}/${lane}`))).toEqual(
        [],
      );
    },
    300_000,
  );
});

const nothingLeft = [
  { grown: 0, closed: 0 },
  { grown: 0, closed: 0 },
];

// A worker, when it ends, closes what its fs has opened: the numbers, whatever they name by then.
test.each(backends)('%s: what a worker opens is closed once, and only that', async (backend) => {
  const pipe = fifo();
  const { code, stdout, stderr } = await runNode('worker-files.cjs', [pipe, backend]);
  expect(stderr).toBe('');
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toEqual({
    'opened by Node': nothingLeft,
    'opened by native code': nothingLeft,
    'a device': nothingLeft,
    'a directory': nothingLeft,
    'a FIFO': nothingLeft,
    'a pipe': nothingLeft,
    'a pipe, left open': nothingLeft,
  });
});
