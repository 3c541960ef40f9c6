import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { expect, test } from 'vitest';
import { transfer } from 'zerocopy';
import { pattern, scratchFolder, testFile } from './helpers/files';
import { asNobody } from './helpers/limits';
import { mounted } from './helpers/mounts';
import { runNode, until, warmers } from './helpers/process';
import { whyNotRoot } from './helpers/skips';
import { link, receive } from './helpers/sockets';

const MIB = 1024 * 1024;
const SIZES = [0, 1000, 40_000, 3 * MIB];
const noMount = whyNotRoot('to mount');
const needsRoot = whyNotRoot('to become another user');

/** Transfers files of several sizes; and once resident, they need no warmers. */
async function transfersFrom(folder: string) {
  for (const size of SIZES) {
    const content = pattern(size);
    const file = path.join(folder, `f${size}`);
    fs.writeFileSync(file, content);
    const { sink, peer } = await link();
    const received = receive(peer);
    const result = await transfer(file, sink, { backend: 'native' });
    sink.end();
    expect(result.transferred).toBe(size);
    expect(['read', 'sendfile']).toContain(result.backend);
    expect((await received).equals(content)).toBe(true);
  }
  await until(() => warmers() === 0, 'the warmers are gone');
  let passes = 0;
  // One that the machine's load made slow may go by a warmer; not all of them.
  for (let i = 0; i < 5; i++) {
    const { sink, peer } = await link();
    peer.resume();
    await transfer(path.join(folder, `f${3 * MIB}`), sink, { backend: 'native' });
    if (warmers() === 0) passes += 1;
    else await until(() => warmers() === 0, 'the warmers are gone');
  }
  expect(passes).toBeGreaterThan(0);
}

test.skipIf(noMount)(`tmpfs${noMount}`, async () => {
  await transfersFrom(mounted('tmpfs', 'size=16m'));
});

test.skipIf(noMount)(`overlayfs${noMount}`, async () => {
  const folder = scratchFolder();
  for (const name of ['lower', 'upper', 'work']) fs.mkdirSync(path.join(folder, name));
  const layers = `lowerdir=${folder}/lower,upperdir=${folder}/upper,workdir=${folder}/work`;
  await transfersFrom(mounted('overlay', layers));
});

test('the disk of this repository', () => transfersFrom(scratchFolder()));

test('a file that is not resident is warmed first, and sent right', async () => {
  const file = testFile(9 * MIB + 5);
  evict(file.path);
  const { sink, peer } = await link();
  const received = receive(peer);
  const result = await transfer(file.path, sink, { backend: 'native' });
  sink.end();
  expect(result).toEqual({ transferred: 9 * MIB + 5, backend: 'sendfile' });
  expect(warmers()).toBeGreaterThan(0);
  expect((await received).equals(file.content)).toBe(true);
  await until(() => warmers() === 0, 'the warmers are gone');
});

test('a small file that is not resident', async () => {
  const file = testFile(5000);
  evict(file.path);
  const { sink, peer } = await link();
  const received = receive(peer);
  expect((await transfer(file.path, sink, { backend: 'native' })).transferred).toBe(5000);
  sink.end();
  expect((await received).equals(file.content)).toBe(true);
});

test.skipIf(needsRoot)(`a file of another user${needsRoot}`, async () => {
  const folder = scratchFolder();
  const file = testFile(2 * MIB, folder);
  fs.chmodSync(folder, 0o755);
  // Who may pass is on the disk too: the first to ask opens the file on a warmer.
  const [command = '', ...rest] = [...asNobody, 'head', '-c', '1', file.path];
  execFileSync(command, rest);
  const { code, stdout, stderr } = await runNode('send.mjs', [file.path], { wrapper: asNobody });
  expect(stderr).toBe('');
  expect(code).toBe(0);
  const report = JSON.parse(stdout);
  expect(report).toMatchObject({ transferred: 2 * MIB, backend: 'sendfile', right: true });
  expect(report.warmers).toBe(0);
});

/** Takes a file's pages out of the page cache (dd's way to posix_fadvise). */
function evict(file: string): void {
  execFileSync('sync', [file]);
  execFileSync('dd', [`of=${file}`, 'oflag=nocache', 'conv=notrunc,fdatasync', 'count=0'], {
    stdio: 'ignore',
  });
}
