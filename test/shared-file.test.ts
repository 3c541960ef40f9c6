// Transfers of one path share one open file, for as long as any of them needs it.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { transfer } from 'zerocopy';
import { pattern, testFile } from './helpers/files';
import { mountedImage, whyNoMount } from './helpers/mounts';
import { openDescriptors } from './helpers/process';
import { link, receive } from './helpers/sockets';

const BEFORE = pattern(4 * 1024 * 1024, 2);

test('one that ends leaves the file to one that still waits for its turn', async () => {
  const file = testFile(300_000);
  const other = testFile(300_000);
  fs.writeFileSync(other.path, pattern(300_000, 3));
  const [first, second] = await Promise.all([link(), link()]);
  const descriptors = openDescriptors();

  second.sink.write(BEFORE); // which nobody reads yet
  const waiting = transfer(file.path, second.sink, { backend: 'native', endSink: true });
  const received = receive(first.peer);
  await transfer(file.path, first.sink, { backend: 'native', endSink: true });
  expect((await received).equals(file.content)).toBe(true);

  // Whatever number has become free is another file's now.
  const others = Array.from({ length: 8 }, () => fs.openSync(other.path, 'r'));
  onTestFinished(() => others.forEach(fs.closeSync));
  expect(openDescriptors() - descriptors).toBeGreaterThanOrEqual(8);

  const all = await receive(second.peer);
  const expected = Buffer.concat([BEFORE, file.content]);
  expect(all.equals(expected)).toBe(true);
  expect(await waiting).toEqual({ transferred: file.content.length, backend: 'sendfile' });
});

const noBtrfs = whyNoMount('btrfs');

test.skipIf(noBtrfs !== '')(
  `also on btrfs, whose files are of no device that is mounted${noBtrfs}`,
  async () => {
    const file = path.join(mountedImage(120, 'btrfs'), 'file');
    const content = pattern(300_000, 4);
    fs.writeFileSync(file, content);
    const links = await Promise.all([link(), link()]);
    const counts: number[] = [];
    const transfers = links.map(({ sink }) => {
      sink.write(BEFORE); // which nobody reads yet
      const waiting = transfer(file, sink, { backend: 'native', endSink: true });
      counts.push(openDescriptors());
      return waiting;
    });
    expect(counts[1]).toBe(counts[0]);
    const all = await Promise.all(links.map(({ peer }) => receive(peer)));
    for (const bytes of all) expect(bytes.equals(Buffer.concat([BEFORE, content]))).toBe(true);
    await Promise.all(transfers);
  },
);
