// copyFile(): holes stay holes, or become zeros.
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, expect, test } from 'vitest';
import { copyFile, type Progress } from 'zerocopy';
import { backends, type TestedBackend } from './helpers/backends';
import {
  allocated,
  expectCopied,
  expectSparseContent,
  GIB,
  MIB,
  newFile,
  otherFolder,
  roomyFolder,
  type SparseFile,
  sparseFile,
  wayBetween,
} from './helpers/copies';
import { fails } from './helpers/failures';
import { scratchFolder, testFile } from './helpers/files';
import { mountedImage, whyNoMount } from './helpers/mounts';
import { until } from './helpers/process';

/** What may come on top: blocks that are begun at the ends of the data, and those of the extents. */
const SLACK = 64 * 1024;

interface Shape {
  what: string;
  size: number;
  data: [at: number, length: number][];
}

const shapes: Shape[] = [
  { what: 'a hole at the start', size: 3 * MIB + 5, data: [[2 * MIB, MIB + 5]] },
  {
    what: 'a hole in the middle',
    size: 9 * MIB + 5,
    data: [
      [0, MIB],
      [8 * MIB, MIB + 5],
    ],
  },
  { what: 'a hole at the end', size: 8 * MIB + 5, data: [[0, MIB + 3]] },
  {
    what: 'holes all over',
    size: 40 * MIB,
    data: Array.from({ length: 30 }, (_, i): [number, number] => [i * 1_300_001, 5000 + i]),
  },
  { what: 'data of one byte in the middle', size: 5 * MIB, data: [[3 * MIB + 77, 1]] },
  { what: 'data in the last byte', size: 5 * MIB + 1, data: [[5 * MIB, 1]] },
  { what: 'a hole alone', size: 5 * MIB + 1, data: [] },
  { what: 'a hole of one byte', size: 1, data: [] },
  { what: 'a hole of 5 GiB alone', size: 5 * GIB + 3, data: [] },
  {
    what: 'a hole of 5 GiB between data',
    size: 5 * GIB + 2 * MIB + 3,
    data: [
      [0, MIB],
      [5 * GIB + MIB, MIB + 3],
    ],
  },
  { what: 'data about 4 GiB', size: 5 * GIB, data: [[4 * GIB - 5000, 10_000]] },
  { what: 'no hole', size: 3 * MIB + 5, data: [[0, 3 * MIB + 5]] },
];

/** Holes of GiBs, which streams would have to read through. */
const isLong = ({ size }: Shape) => size > GIB;

async function copiesSparsely(file: SparseFile, sink: string, backend: TestedBackend) {
  const way = wayBetween(path.dirname(file.path), path.dirname(sink));
  const result = await copyFile(file.path, sink, { backend });
  // Where there are no data, nothing goes any way.
  if (backend === 'stream' || file.data.length > 0) expectCopied(result, backend, file.size, way);
  else expect(result.transferred).toBe(file.size); // holes count
  expectSparseContent(sink, file);
}

describe('native', () => {
  test.each(shapes)('$what stays', async ({ size, data }) => {
    const file = sparseFile(size, data);
    const sink = newFile();
    await copiesSparsely(file, sink, 'native');
    expect(allocated(sink)).toBeLessThanOrEqual(allocated(file.path) + SLACK);
  });

  test.each(shapes)('$what stays, over a longer file without any', async ({ size, data }) => {
    if (size > GIB) return expectOverOldData(sparseFile(size, data), 9 * MIB);
    await expectOverOldData(sparseFile(size, data), size + MIB);
  });

  async function expectOverOldData(file: SparseFile, before: number) {
    const sink = testFile(before);
    await copiesSparsely(file, sink.path, 'native');
    expect(allocated(sink.path)).toBeLessThanOrEqual(allocated(file.path) + SLACK);
  }

  test.each(shapes)('$what stays, from one file system to another', async ({ size, data }) => {
    const [disk, memory] = [scratchFolder(), otherFolder()];
    for (const [from, to] of [
      [disk, memory],
      [memory, disk],
      [memory, memory],
    ] as const) {
      const file = sparseFile(size, data, from);
      const sink = newFile(to);
      await copiesSparsely(file, sink, 'native');
      expect(allocated(sink)).toBeLessThanOrEqual(allocated(file.path) + SLACK);
      fs.rmSync(file.path);
      fs.rmSync(sink);
    }
  });

  for (const type of ['xfs', 'btrfs'] as const) {
    const why = whyNoMount(type);
    test.skipIf(why !== '')(
      `they stay on ${type}, with and without a reflink${why}`,
      async () => {
        const folder = mountedImage(400, type);
        for (const { size, data } of shapes) {
          const inside = sparseFile(size, data, folder);
          const reflinked = newFile(folder);
          await copiesSparsely(inside, reflinked, 'native');
          expect(allocated(reflinked)).toBeLessThanOrEqual(allocated(inside.path) + SLACK);
          const out = newFile();
          await copiesSparsely(inside, out, 'native');
          expect(allocated(out)).toBeLessThanOrEqual(allocated(inside.path) + SLACK);
          fs.rmSync(inside.path);
          fs.rmSync(reflinked);
        }
      },
      60_000,
    );
  }

  test('a file of 2,000 holes', async () => {
    const data = Array.from({ length: 2000 }, (_, i): [number, number] => [i * 16_384, 4096]);
    const file = sparseFile(2000 * 16_384, data);
    const sink = newFile();
    await copiesSparsely(file, sink, 'native');
    expect(allocated(sink)).toBeLessThanOrEqual(allocated(file.path) + SLACK);
  });

  test('what is preallocated and unwritten reads as zeros', async () => {
    const file = testFile(3 * MIB);
    fs.truncateSync(file.path, 0);
    execFileSync('fallocate', ['-l', `${8 * MIB}`, file.path]);
    const fd = fs.openSync(file.path, 'r+');
    fs.writeSync(fd, file.content, 0, MIB, 5 * MIB);
    fs.closeSync(fd);
    const sink = newFile();
    const { transferred } = await copyFile(file.path, sink, { backend: 'native' });
    expect(transferred).toBe(8 * MIB);
    const data: SparseFile['data'] = [[5 * MIB, file.content.subarray(0, MIB)]];
    expectSparseContent(sink, { path: file.path, size: 8 * MIB, data });
  });

  test('a sparse file on a disk without room for its holes', async () => {
    const folder = roomyFolder();
    const file = sparseFile(64 * GIB, [[63 * GIB, MIB]], folder);
    const sink = newFile(folder);
    await copiesSparsely(file, sink, 'native');
  });

  test('progress counts holes', async () => {
    const [, , , shape] = shapes as [Shape, Shape, Shape, Shape];
    const file = sparseFile(shape.size, shape.data);
    const calls: Progress[] = [];
    const onProgress = (progress: Progress) => calls.push(progress);
    await copyFile(file.path, newFile(), { backend: 'native', onProgress });
    await until(() => calls.length > 0, 'there is progress');
    expect(calls.at(-1)).toEqual({ transferred: shape.size, total: shape.size });
  });

  test('a sparse source that shrinks meanwhile', async () => {
    const folder = roomyFolder();
    // Data for some tenths of a second, then a hole that is gone when it is reached.
    const file = sparseFile(4 * GIB, [[0, 512 * MIB]], folder);
    const sink = newFile(folder);
    const failed = fails(copyFile(file.path, sink, { backend: 'native' }));
    await until(() => allocated(sink) > 0, 'it is under way');
    fs.truncateSync(file.path, MIB);
    const error = await failed;
    expect(error.code).toBe('ERR_SOURCE_TRUNCATED');
    expect(error.transferred).toBeLessThan(4 * GIB);
    expect(fs.existsSync(sink)).toBe(false);
  }, 60_000);
});

describe('stream', () => {
  // Whether streams keep holes is left to them: their bytes are right.
  test.each(shapes.filter((shape) => !isLong(shape)))('$what', async ({ size, data }) => {
    const file = sparseFile(size, data);
    const longer = testFile(size + MIB);
    for (const sink of [newFile(), longer.path]) await copiesSparsely(file, sink, 'stream');
  });
});

describe.each(backends)('%s: holes: false', (backend) => {
  test.each(shapes.filter((shape) => !isLong(shape)))('$what', async ({ size, data }) => {
    const options = { backend, holes: false };
    for (const folder of [scratchFolder(), otherFolder()]) {
      const file = sparseFile(size, data);
      for (const sink of [newFile(folder), testFile(size + MIB, folder).path]) {
        expect((await copyFile(file.path, sink, options)).transferred).toBe(size);
        expectSparseContent(sink, file);
        expect(allocated(sink)).toBeGreaterThanOrEqual(size);
      }
    }
  });

  for (const type of ['xfs', 'btrfs'] as const) {
    const why = whyNoMount(type);
    test.skipIf(why !== '')(
      `on ${type}, where a reflink would keep them${why}`,
      async () => {
        const folder = mountedImage(400, type);
        const file = sparseFile(40 * MIB + 5, [[20 * MIB, MIB]], folder);
        const sink = newFile(folder);
        const { transferred } = await copyFile(file.path, sink, { backend, holes: false });
        expect(transferred).toBe(40 * MIB + 5);
        expectSparseContent(sink, file);
        expect(allocated(sink)).toBeGreaterThanOrEqual(40 * MIB + 5);
      },
      60_000,
    );
  }
});

describe.each(backends)('%s: holes: true', (backend) => {
  test('is the default', async () => {
    const file = sparseFile(3 * MIB, [[MIB, 5000]]);
    const [given, absent] = [newFile(), newFile()];
    await copyFile(file.path, given, { backend, holes: true });
    await copyFile(file.path, absent, { backend });
    for (const sink of [given, absent]) expectSparseContent(sink, file);
    expect(allocated(given)).toBe(allocated(absent));
  });
});
