// What is to be seen of a whole process: its system calls, its user's limits.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { expect, test } from 'vitest';
import { scratchFolder } from './helpers/files';
import { asNobody } from './helpers/limits';
import { runNode } from './helpers/process';
import { whyNoStrace, whyNotRoot } from './helpers/skips';

const MIB = 1024 * 1024;
const needsRoot = whyNotRoot('to become another user');
const why = whyNoStrace('-f');

interface Report {
  backend: string;
  transferred: number;
  rest: number;
  right: boolean;
  whole: boolean;
  inode: string;
  pipeBytes?: number;
}

async function run(args: string[], wrapper: string[] = []): Promise<Report> {
  const { code, stdout, stderr } = await runNode('receive.mjs', args, { wrapper });
  expect(stderr).toBe('');
  expect(code).toBe(0);
  return JSON.parse(stdout);
}

test.skipIf(why).each([
  ['to the end', []],
  ['by length', ['--length', String(20 * MIB)]],
])(`%s: not a byte of the body is read by anybody${why}`, async (_how, extra) => {
  const folder = scratchFolder();
  const target = path.join(folder, 'target');
  const traces = path.join(folder, 'traces');
  fs.mkdirSync(traces);
  const report = await run(
    [target, '--bytes', String(20 * MIB), ...extra],
    // A file for each thread, so that no line is cut in two by another thread's.
    ['strace', '-ff', '-y', '-o', path.join(traces, 'thread')],
  );
  expect(report).toMatchObject({ backend: 'splice', transferred: 20 * MIB, right: true, rest: 0 });
  let main = '';
  const calls = fs.readdirSync(traces).flatMap((thread) => {
    const lines = fs.readFileSync(path.join(traces, thread), 'utf8').split('\n');
    if (lines[0]?.startsWith('execve')) main = thread;
    return lines.map((line) => ({
      thread,
      call: /^\w+/.exec(line)?.[0] ?? '',
      line,
      moved: Number(/\) += (\d+)/.exec(line)?.[1] ?? 0),
    }));
  });
  const sum = (list: typeof calls) => list.reduce((total, { moved }) => total + moved, 0);
  const source = `<socket:[${report.inode}]>`;

  const isRead = ({ call }: { call: string }) => /^(p?read|recv)/.test(call);
  const reads = calls.filter(isRead).filter(({ line }) => line.includes(source));
  expect(reads.filter(({ moved }) => moved > 0).map(({ line }) => line)).toEqual([]);
  // Nor out of the pipe between: there is only what goes into the file.
  const splices = calls.filter(({ call }) => call === 'splice');
  const taken = splices.filter(({ line }) => line.startsWith(`splice(`) && line.includes(source));
  const sunk = splices.filter(({ line }) => line.includes(target));
  expect(sum(taken)).toBe(20 * MIB);
  expect(sum(sunk)).toBe(20 * MIB);
  const writes = calls.filter(({ call, line }) => /^p?write/.test(call) && line.includes(target));
  expect(writes).toEqual([]);
  // Writing to a file may block: not on the thread of JavaScript.
  expect(sunk.filter(({ thread }) => thread === main)).toEqual([]);
});

test.skipIf(needsRoot)(
  `a user beyond pipe-user-pages-soft: tiny pipes, and all of it natively${needsRoot}`,
  async () => {
    const folder = scratchFolder();
    fs.chownSync(folder, 65534, 65534);
    const target = path.join(folder, 'target');
    for (const extra of [[], ['--length', String(3 * MIB + 1)]]) {
      const args = [target, '--bytes', String(5 * MIB + 3), '--crowded', ...extra];
      const report = await run(args, asNobody);
      // Two pages, or one: what is left to him.
      expect(report.pipeBytes).toBeLessThanOrEqual(2 * 4096);
      const transferred = extra.length ? 3 * MIB + 1 : 5 * MIB + 3;
      expect(report).toMatchObject({ backend: 'splice', transferred, right: true, whole: true });
    }
  },
);
