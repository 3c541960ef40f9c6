// Which system calls are made, and on which thread.
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import { createServer } from 'node:net';
import * as path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { copyInChild, expectContent } from './helpers/copies';
import { scratchFolder, testFile } from './helpers/files';
import { runNode } from './helpers/process';
import { whyNoStrace, whyNotRoot } from './helpers/skips';
import { listenOnPort } from './helpers/sockets';

const why = whyNoStrace('-f');
const traced = test.skipIf(why);

interface Traced {
  thread: string;
  call: string;
  line: string;
}

/** Runs send.mjs on files, under strace; the calls that touch each of them. */
async function trace(
  files: string[],
  before?: () => void,
): Promise<{ main: string; calls: Traced[] }> {
  const folder = scratchFolder();
  const server = createServer((peer) => peer.resume());
  const port = await listenOnPort(server);
  onTestFinished(() => {
    server.close();
  });
  before?.();
  const { code, stderr } = await runNode('send.mjs', [...files, '--port', String(port)], {
    // A file for each thread, so that no line is cut in two by another thread's.
    wrapper: ['strace', '-ff', '-y', '-o', path.join(folder, 'thread')],
  });
  expect(stderr).toBe('');
  expect(code).toBe(0);
  let main = '';
  const calls = fs.readdirSync(folder).flatMap((thread) => {
    const lines = fs.readFileSync(path.join(folder, thread), 'utf8').split('\n');
    if (lines[0]?.startsWith('execve')) main = thread;
    return lines
      .filter((line) => files.some((file) => line.includes(file)) && !line.startsWith('execve'))
      .map((line) => ({ thread, call: /^\w+/.exec(line)?.[0] ?? '', line }));
  });
  return { main, calls };
}

const isProbe = ({ call, line }: Traced) => call === 'preadv2' && /iov_len=1\}/.test(line);

traced(`a large file: sendfile, and beside it only one-byte probes${why}`, async () => {
  const { main, calls } = await trace([testFile(20 * 1024 * 1024).path]);
  const sent = calls.filter(({ call }) => call === 'sendfile');
  expect(sent.length).toBeGreaterThan(2);
  // All of it on movers.
  expect(sent.filter(({ thread }) => thread === main)).toEqual([]);
  const allowed = new Set(['openat2', 'statx', 'sendfile', 'close']);
  expect(calls.filter((call) => !allowed.has(call.call) && !isProbe(call))).toEqual([]);
});

traced(`a short file: probed, sent and done on the JavaScript thread${why}`, async () => {
  const { main, calls } = await trace([testFile(40_000).path]);
  expect(new Set(calls.map(({ thread }) => thread))).toEqual(new Set([main]));
  expect(calls.map(({ call }) => call)).toEqual([
    'openat2',
    'statx',
    'preadv2',
    'preadv2',
    'sendfile',
    'close',
  ]);
});

traced(`a tiny file: one read that can't block${why}`, async () => {
  const { calls } = await trace([testFile(1000).path]);
  expect(calls.map(({ call }) => call)).toEqual(['openat2', 'statx', 'preadv2', 'close']);
  expect(calls[2]?.line).toContain('RWF_NOWAIT');
});

const whyNot = why || whyNotRoot('to drop the caches');

test.skipIf(whyNot)(
  `nothing that needs the disk is opened or read on the JavaScript thread${whyNot}`,
  async () => {
    const files = [testFile(1000).path, testFile(40_000).path, testFile(5 * 1024 * 1024).path];
    const { main, calls } = await trace(files, () => {
      execFileSync('sync');
      fs.writeFileSync('/proc/sys/vm/drop_caches', '3');
    });
    const onMain = calls.filter(({ thread }) => thread === main);
    const opens = onMain.filter(({ call }) => call.startsWith('open'));
    expect(opens.length).toBeGreaterThan(0);
    for (const { line } of opens) expect(line).toMatch(/RESOLVE_CACHED.*EAGAIN/);
    const reads = onMain.filter(({ call }) => call.includes('read'));
    for (const { line } of reads) expect(line).toMatch(/RWF_NOWAIT/);
    // The disk may be quick enough for a probe to find what the one before it has asked for.
    for (const [i, { call }] of onMain.entries()) {
      if (call === 'sendfile') expect(onMain[i - 1]?.line).toMatch(/RWF_NOWAIT\) += 1$/);
    }
    // The rest went on threads: libuv's opened, the warmers read, the movers sent.
    expect(calls.filter(({ call }) => call === 'sendfile').length).toBeGreaterThan(0);
    expect(calls.filter(({ call }) => call === 'readahead').length).toBeGreaterThan(0);
    const [large] = files.slice(-1);
    const warmed = calls.filter(
      ({ call, line }) => call === 'pread64' && line.includes(large ?? ''),
    );
    expect(warmed.length).toBeGreaterThanOrEqual((2 * 1024 * 1024) / 4096); // a step's
    for (const { line } of warmed) expect(line).toMatch(/, 1, \d+\)\s+= 1/);
  },
);

traced.each(['copyFile', 'transfer'])(
  `%s(): a file made anew is not truncated, which ext4 would have written out at once${why}`,
  async (how) => {
    const source = testFile(5000);
    const sink = path.join(scratchFolder(), 'sink');
    const log = path.join(scratchFolder(), 'log');
    const truncations = async () => {
      const wrapper = ['strace', '-f', '-qq', '-y', '-e', 'trace=ftruncate', '-o', log];
      await copyInChild(how, source.path, sink, {}, wrapper);
      expectContent(sink, source.content);
      const lines = fs.readFileSync(log, 'utf8').split('\n');
      return lines.filter((line) => line.includes(sink)).length;
    };
    expect(await truncations()).toBe(0);
    expect(await truncations()).toBe(1);
  },
);
