import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, expect, test } from 'vitest';
import { transfer } from 'zerocopy';
import { backends, expectResult } from './helpers/backends';
import { pattern, scratchFolder, testFile } from './helpers/files';
import { link, receive } from './helpers/sockets';

const SIZE = 200_000;

describe.each(backends)('%s', (backend) => {
  test.each([
    { offset: 0, length: 0, expected: [0, 0] },
    { offset: 0, length: 1, expected: [0, 1] },
    { offset: 1, length: 100_000, expected: [1, 100_001] },
    { offset: 4095, length: 4098, expected: [4095, 8193] },
    { offset: 150_000, expected: [150_000, SIZE] },
    { offset: SIZE - 1, length: 1, expected: [SIZE - 1, SIZE] },
    { offset: SIZE - 1, length: 100, expected: [SIZE - 1, SIZE] },
    { length: SIZE, expected: [0, SIZE] },
    { length: SIZE + 1, expected: [0, SIZE] },
    { length: Number.MAX_SAFE_INTEGER, expected: [0, SIZE] },
    { offset: SIZE, expected: [SIZE, SIZE] },
    { offset: SIZE, length: 10, expected: [SIZE, SIZE] },
    { offset: SIZE + 1, expected: [SIZE, SIZE] },
    { offset: Number.MAX_SAFE_INTEGER, length: Number.MAX_SAFE_INTEGER, expected: [SIZE, SIZE] },
  ])('offset $offset, length $length', async ({ expected: [start, end], ...range }) => {
    const file = testFile(SIZE);
    const { sink, peer } = await link();
    const received = receive(peer);
    const result = await transfer(file.path, sink, { ...range, backend });
    sink.end();
    const wanted = file.content.subarray(start, end);
    expectResult(result, backend, wanted.length);
    expect((await received).equals(wanted)).toBe(true);
  });

  test('a sparse file over 5 GiB, whole', async () => {
    const size = 5 * 2 ** 30 + 3;
    const file = sparseFile(size);
    const { sink, peer } = await link();
    // Not kept: each mark is compared where it comes by, and all else must be 0.
    let at = 0;
    let wrong = 0;
    const zeros = Buffer.alloc(1024 * 1024);
    peer.on('data', (chunk: Buffer) => {
      const mark = MARKS.find((mark) => mark < at + chunk.length && mark + MARK.length > at);
      if (mark === undefined) {
        if (chunk.compare(zeros, 0, chunk.length) !== 0) wrong += 1;
      } else {
        const from = Math.max(0, mark - at);
        const seen = chunk.subarray(from, mark + MARK.length - at);
        const skipped = Math.max(0, at - mark);
        if (!seen.equals(MARK.subarray(skipped, skipped + seen.length))) wrong += 1;
      }
      at += chunk.length;
    });
    peer.resume();
    const result = await transfer(file, sink, { backend });
    sink.end();
    await new Promise((resolve) => peer.once('end', resolve));
    expectResult(result, backend, size);
    expect(at).toBe(size);
    expect(wrong).toBe(0);
  }, 120_000);

  test('a range beyond 4 GiB', async () => {
    const file = sparseFile(5 * 2 ** 30 + 3);
    const { sink, peer } = await link();
    const received = receive(peer);
    const [, mark = 0] = MARKS;
    const options = { offset: mark - 100_000, length: 200_000, backend };
    expectResult(await transfer(file, sink, options), backend, 200_000);
    sink.end();
    const bytes = await received;
    expect(bytes.length).toBe(200_000);
    expect(bytes.subarray(100_000, 100_000 + MARK.length).equals(MARK)).toBe(true);
    expect(bytes.subarray(0, 100_000).every((byte) => byte === 0)).toBe(true);
  });
});

const MARK = pattern(5000);
const MARKS = [2 ** 31 - 2500, 2 ** 32 + 12_345];

function sparseFile(size: number): string {
  const file = path.join(scratchFolder(), 'sparse');
  const fd = fs.openSync(file, 'w');
  fs.ftruncateSync(fd, size);
  for (const mark of MARKS) fs.writeSync(fd, MARK, 0, MARK.length, mark);
  fs.closeSync(fd);
  return file;
}
