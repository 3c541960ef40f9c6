// examples/kafka-log: its files, what it makes of them when it opens them, and a disk that is full.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, expect, test } from 'vitest';
import { pattern, scratchFolder } from './helpers/files';
import {
  type Broker,
  type BrokerOptions,
  batch,
  type Client,
  concat,
  int8,
  int16,
  int32,
  int64,
  logged,
  logOf,
  openBroker,
  partitionFolder,
  readBatches,
  segments,
  tree,
  ways,
} from './helpers/kafka-wire';
import { fill, mountedImage, whyNoMount } from './helpers/mounts';
import { until } from './helpers/process';

const NOTHING = Buffer.alloc(0);

/** Opens a broker and a connection to it. */
async function open(options: BrokerOptions = {}): Promise<Broker & { client: Client }> {
  const broker = await openBroker(options);
  const client = broker.connect();
  await client.metadata(['t']);
  return { ...broker, client };
}

async function produceAll(client: Client, batches: Buffer[]): Promise<number> {
  let end = 0;
  for (const records of batches) {
    const { error, baseOffset } = await client.produce('t', records);
    expect(error).toBe(0);
    end = baseOffset + records.readInt32BE(57);
  }
  return end;
}

/** Everything from an offset, by as many fetches as it takes. */
async function readAll(client: Client, offset = 0): Promise<Buffer> {
  const parts: Buffer[] = [];
  for (let next = offset; ; ) {
    const { error, records, highWatermark } = await client.read('t', next);
    expect(error).toBe(0);
    if (next === highWatermark) return concat(...parts);
    const last = readBatches(records).at(-1);
    expect(last?.lastOffset).toBeGreaterThanOrEqual(next);
    next = (last?.lastOffset ?? 0) + 1;
    parts.push(records);
  }
}

/** Fetches from each offset, which must give the batch that has it, and asks for each time. */
async function expectFound(client: Client, end: number, step = 1) {
  for (let offset = 0; offset < end; offset += step) {
    const { error, records, highWatermark } = await client.read('t', offset, { maxBytes: 1 });
    expect([offset, error, highWatermark]).toEqual([offset, 0, end]);
    const [found] = readBatches(records);
    const holds = found && found.baseOffset <= offset && offset <= found.lastOffset;
    expect([offset, holds]).toEqual([offset, true]);
    // Its time is its base offset (see `mixed`).
    const { offset: byTime } = await client.listOffset('t', found?.baseOffset ?? -9);
    expect([offset, byTime]).toEqual([offset, found?.baseOffset]);
  }
}

/** Batches of many sizes and counts, each of a time that is its base offset; the end of the log. */
function mixed(count: number): { batches: Buffer[]; end: number } {
  const batches: Buffer[] = [];
  let end = 0;
  for (let i = 0; i < count; i++) {
    const sizes = [0, 5, 100, 40, 3000, 10, 6000, 1, 20_000, 300];
    const values = Array.from({ length: 1 + (i % 4) }, (_, n) =>
      pattern((sizes[(i * 7 + n) % sizes.length] as number) + (i % 3), i),
    );
    batches.push(batch({ values, timestamp: end }));
    end += values.length;
  }
  return { batches, end };
}

/** What a batch is in the log. */
function atOffset(records: Buffer, offset: number): Buffer {
  return concat(int64(offset), records.subarray(8));
}

describe('segments', () => {
  test.each(ways)(
    'of a batch but its base offset is changed, by $way',
    async ({ way, spliceFrom, size }) => {
      const { client, folder, ...broker } = await open({ spliceFrom });
      const batches = [1, 2, 3].map((i) => {
        const records = batch({
          values: [pattern(size, i), 'x', pattern(i, i)],
          baseOffset: 1000 * i,
        });
        records.writeInt32BE(i, 12); // the leader's epoch, which Kafka would change
        return records;
      });
      await produceAll(client, batches);
      expect(logOf(folder, 't').equals(concat(...batches.map((b, i) => atOffset(b, 3 * i))))).toBe(
        true,
      );
      expect((await client.read('t')).records.equals(logOf(folder, 't'))).toBe(true);
      const line = (i: number) => `${batches[i]?.length} bytes at offset ${3 * i} by ${way}`;
      for (const i of batches.keys()) await logged({ ...broker, folder }, new RegExp(line(i)));
    },
  );

  test('are rolled by size, and indexed', async () => {
    const segmentBytes = 60_000;
    const { client, folder, close } = await open({ segmentBytes });
    const { batches, end } = mixed(150);
    await produceAll(client, batches);
    const files = segments(folder, 't');
    expect(files.length).toBeGreaterThan(5);
    const first = files.map((file) => Number(path.basename(file, '.log')));
    for (const [i, file] of files.entries()) {
      const content = fs.readFileSync(file);
      expect(content.length).toBeLessThanOrEqual(segmentBytes);
      const own = readBatches(content);
      expect(own[0]?.baseOffset).toBe(first[i]);
      expect((own.at(-1)?.lastOffset ?? 0) + 1).toBe(first[i + 1] ?? end);
      const index = file.replace(/log$/, 'index');
      expect([file, fs.existsSync(index)]).toEqual([file, i < files.length - 1]);
      // It would not have fitted.
      const next = files[i + 1];
      if (next) {
        const size = fs.readFileSync(next).readInt32BE(8) + 12;
        expect(content.length + size).toBeGreaterThan(segmentBytes);
      }
    }
    await expectFound(client, end);
    expect((await readAll(client)).equals(logOf(folder, 't'))).toBe(true);
    await close();

    const again = await open({ folder, segmentBytes });
    await expectFound(again.client, end);
    expect((await readAll(again.client)).equals(logOf(folder, 't'))).toBe(true);
    // It goes on where it was, in the same segment.
    expect((await again.client.produce('t', batch())).baseOffset).toBe(end);
    expect(segments(folder, 't').length).toBeLessThanOrEqual(files.length + 1);
    readBatches(logOf(folder, 't'));
  });

  test('a batch that is larger than a segment has one of its own', async () => {
    const { client, folder, close } = await open({ segmentBytes: 1000, spliceFrom: 4096 });
    const sizes = [5000, 10, 10, 300_000, 10, 300_000, 300_000];
    await produceAll(
      client,
      sizes.map((size) => batch({ size })),
    );
    const counts = segments(folder, 't').map((file) => readBatches(fs.readFileSync(file)).length);
    expect(counts).toEqual([1, 2, 1, 1, 1, 1]);
    await close();
    const again = await open({ folder, segmentBytes: 1000 });
    expect(readBatches(await readAll(again.client))).toHaveLength(sizes.length);
  });

  test('many small batches in one', async () => {
    const { client, folder, close } = await open();
    const batches = Array.from({ length: 1500 }, (_, i) => batch({ values: ['x'], timestamp: i }));
    const end = await produceAll(client, batches);
    expect(segments(folder, 't')).toHaveLength(1);
    await expectFound(client, end, 7);
    await close();
    await expectFound((await open({ folder })).client, end, 7);
  });

  test('closed and opened again and again', async () => {
    const folder = scratchFolder();
    let end = 0;
    for (let round = 0; round < 8; round++) {
      // What it is opened with may differ.
      const { client, close } = await open({
        folder,
        segmentBytes: 3000 + 1000 * round,
        partitions: 3 - (round % 3),
      });
      const { topics } = await client.metadata(['t']);
      expect(topics[0]?.partitions).toHaveLength(3);
      end = await produceAll(client, [batch({ size: 1000 }), batch({ values: ['a', 'b'] })]);
      expect(end).toBe(3 * (round + 1));
      await close();
    }
    const { client } = await open({ folder });
    const all = readBatches(await readAll(client));
    expect(all).toHaveLength(16);
    expect((await client.read('t', 24)).highWatermark).toBe(24);
  });
});

interface Template {
  folder: string;
  /** Of the last segment: its file, and where its last batch begins. */
  last: string;
  lastFrom: number;
  content: Buffer;
  end: number;
}

/** A closed log of a few segments, whose last has a few batches. */
async function makeTemplate(): Promise<Template> {
  const { client, folder, close } = await open({ segmentBytes: 700 });
  const batches = Array.from({ length: 12 }, (_, i) =>
    batch({ values: [pattern(50, i), 'more'], timestamp: 2 * i }),
  );
  const end = await produceAll(client, batches);
  await close();
  const files = segments(folder, 't');
  expect(files).toHaveLength(3);
  const last = files.at(-1) as string;
  const content = fs.readFileSync(last);
  expect(readBatches(content)).toHaveLength(2);
  const lastFrom = content.length - (readBatches(content).at(-1)?.bytes.length ?? 0);
  return { folder, last: path.relative(folder, last), lastFrom, content, end };
}

/** Opens a log; it must have its first `batches` batches, and go on behind them. */
async function expectRecovered(folder: string, content: Buffer, end: number) {
  const { client, close } = await open({ folder, segmentBytes: 700 });
  expect((await client.read('t', end)).highWatermark).toBe(end);
  const all = await readAll(client);
  expect(all.equals(content)).toBe(true);
  const before = logOf(folder, 't');
  expect(before.equals(content)).toBe(true);
  const more = batch({ values: ['more'], timestamp: 1000 });
  expect(await client.produce('t', more)).toMatchObject({ error: 0, baseOffset: end });
  expect((await readAll(client)).equals(concat(content, atOffset(more, end)))).toBe(true);
  expect(await client.listOffset('t', 1000)).toMatchObject({ error: 0, offset: end });
  client.close();
  await close();
}

describe('recovery', () => {
  /** Runs over copies of a log whose last segment has been changed. */
  async function each(
    changes: Iterable<[what: string, last: Buffer, kept: boolean]>,
  ): Promise<void> {
    const template = await makeTemplate();
    const { folder, last, lastFrom, content, end } = template;
    const sealed = logOf(folder, 't').subarray(0, -content.length);
    const scratch = scratchFolder();
    for (const [what, changed, kept] of changes) {
      const copy = path.join(scratch, 'copy');
      fs.cpSync(folder, copy, { recursive: true });
      fs.writeFileSync(path.join(copy, last), changed);
      const rest = kept ? content : content.subarray(0, lastFrom);
      try {
        await expectRecovered(copy, concat(sealed, rest), kept ? end : end - 2);
      } catch (error) {
        throw new Error(`${what}: ${(error as Error).message}`, { cause: error });
      }
      fs.rmSync(copy, { recursive: true });
    }
  }

  test('of a last batch that was cut off, at each byte', async () => {
    const { content, lastFrom } = await makeTemplate();
    const cuts = Array.from({ length: content.length - lastFrom }, (_, i) => lastFrom + i);
    await each(cuts.map((at) => [`at ${at}`, content.subarray(0, at), false]));
  });

  test('of a last batch of which a bit has changed, in each byte', async () => {
    const { content, lastFrom } = await makeTemplate();
    const places = Array.from({ length: content.length - lastFrom }, (_, i) => lastFrom + i);
    await each(
      places
        .map((at) => {
          const changed = Buffer.from(content);
          changed[at] = (content[at] as number) ^ (1 << (at % 8));
          return [`at ${at - lastFrom}`, changed, false] as [string, Buffer, boolean];
        })
        .filter((_, i) => i < 12 || i >= 16), // the leader's epoch is nobody's business
    );
  });

  test('of what stands behind the last batch', async () => {
    const { content, lastFrom, end } = await makeTemplate();
    const whole = content.subarray(lastFrom);
    /** The head of a batch that would come next, as far as it says. */
    const next = (length: number, count: number, crc: number) =>
      concat(int64(end), int32(length), int32(0), int8(2), int32(crc), int16(0), int32(count - 1));
    const tails: [string, Buffer][] = [
      ...[1, 7, 12, 60, 61, 62, 5000].map((n): [string, Buffer] => [`${n} zeros`, Buffer.alloc(n)]),
      ...[1, 61, 5000].map((n): [string, Buffer] => [`${n} of 0xff`, Buffer.alloc(n, 0xff)]),
      ...[1, 11, 61, 20_000].map((n): [string, Buffer] => [`${n} random`, pattern(n, n)]),
      ['the last batch again', whole],
      ['the first batches again', content],
      ['a batch of a later offset', atOffset(whole, end + 1)],
      ['a batch of an earlier offset', atOffset(whole, end - 1)],
      ['a next batch, but for its end', atOffset(whole, end).subarray(0, -1)],
      // A scan must come to an end, and not by them.
      ...[-12, -13, -1000, -0x80000000, 0, -1, 1, 9, 20, 48, 49, 0x7fffffff].map(
        (length): [string, Buffer] => [
          `a batch that says ${length}`,
          concat(next(length, 1, 0), Buffer.alloc(30), int32(1), Buffer.alloc(200)),
        ],
      ),
    ];
    await each(tails.map(([what, tail]) => [what, concat(content, tail), true]));
  });

  test('of a bit in the midst: what follows it is cut off', async () => {
    const { client, folder, close } = await open();
    await produceAll(
      client,
      [1, 2, 3, 4].map((i) => batch({ size: 100 * i, timestamp: i })),
    );
    await close();
    const [file = ''] = segments(folder, 't');
    const content = fs.readFileSync(file);
    const batches = readBatches(content);
    const keep = concat(...batches.slice(0, 2).map(({ bytes }) => bytes));
    const changed = Buffer.from(content);
    changed[keep.length + 100] = 0xff;
    fs.writeFileSync(file, changed);
    await expectRecovered(folder, keep, 2);
  });

  test('of a segment that has just begun, and of a partition', async () => {
    const { folder, end } = await makeTemplate();
    const name = `${end}`.padStart(20, '0');
    const content = logOf(folder, 't');
    fs.writeFileSync(path.join(partitionFolder(folder, 't'), `${name}.log`), '');
    await expectRecovered(folder, content, end);
    const empty = scratchFolder();
    fs.mkdirSync(partitionFolder(empty, 't'));
    await expectRecovered(empty, NOTHING, 0);
    const torn = scratchFolder();
    fs.mkdirSync(partitionFolder(torn, 't'));
    fs.writeFileSync(path.join(partitionFolder(torn, 't'), `${'0'.repeat(20)}.log`), 'torn');
    await expectRecovered(torn, NOTHING, 0);
  });

  test('of an index that is not what it should be', async () => {
    const segmentBytes = 60_000;
    const { client, folder, close } = await open({ segmentBytes });
    const { batches, end } = mixed(150);
    await produceAll(client, batches);
    await close();
    const content = logOf(folder, 't');
    const [first = '', second = ''] = segments(folder, 't').map((f) => f.replace(/log$/, 'index'));
    const good = fs.readFileSync(first);
    expect(good.length).toBeGreaterThan(24 * 2);
    const changes: [string, () => void][] = [
      ['missing', () => fs.rmSync(first)],
      [
        'all missing',
        () => {
          for (const file of segments(folder, 't'))
            fs.rmSync(file.replace(/log$/, 'index'), { force: true });
        },
      ],
      ['empty', () => fs.writeFileSync(first, '')],
      ['cut off', () => fs.truncateSync(first, good.length - 1)],
      ['cut off after an entry', () => fs.truncateSync(first, 24)],
      ['cut off in an entry', () => fs.truncateSync(first, 25)],
      ['longer', () => fs.appendFileSync(first, Buffer.alloc(24))],
      ['much longer', () => fs.appendFileSync(first, good)],
      ['random', () => fs.writeFileSync(first, pattern(good.length))],
      ['zeros', () => fs.writeFileSync(first, Buffer.alloc(good.length))],
      ['of 0xff', () => fs.writeFileSync(first, Buffer.alloc(good.length, 0xff))],
      ['of another segment', () => fs.copyFileSync(second, first)],
      ['of another segment, the other way', () => fs.copyFileSync(first, second)],
      [
        'half written',
        () => {
          fs.rmSync(first);
          fs.writeFileSync(`${first}.new`, good.subarray(0, 30));
        },
      ],
      [
        'text',
        () => fs.writeFileSync(first, 'this is no index, nor has it ever been one'.repeat(4)),
      ],
      [
        'of the last',
        () =>
          fs.writeFileSync(segments(folder, 't').at(-1)?.replace(/log$/, 'index') as string, 'x'),
      ],
    ];
    for (const [what, change] of changes) {
      change();
      const again = await open({ folder, segmentBytes });
      try {
        await expectFound(again.client, end, 7);
        expect((await readAll(again.client)).equals(content)).toBe(true);
      } catch (error) {
        throw new Error(`${what}: ${(error as Error).message}`, { cause: error });
      }
      again.client.close();
      await again.close();
      // It has been made anew.
      if (what !== 'cut off after an entry')
        expect([what, fs.readFileSync(first).equals(good)]).toEqual([what, true]);
      fs.writeFileSync(first, good);
    }
  });

  test('files that are nothing to it', async () => {
    const { folder, end } = await makeTemplate();
    const content = logOf(folder, 't');
    const own = partitionFolder(folder, 't');
    const foreign = [
      path.join(folder, 'README'),
      path.join(folder, '.lock'),
      path.join(folder, 'a file-0'),
      path.join(folder, 'u-0.bak'),
      path.join(own, 'README'),
      path.join(own, '1.log'),
      path.join(own, `${'0'.repeat(20)}.log.bak`),
      path.join(own, `${'0'.repeat(20)}.log~`),
      path.join(own, `${'0'.repeat(19)}x.log`),
      path.join(own, 'leader-epoch-checkpoint'),
    ];
    for (const file of foreign) fs.writeFileSync(file, 'foreign');
    fs.mkdirSync(path.join(folder, 'lost+found'));
    fs.mkdirSync(path.join(own, 'folder'));
    await expectRecovered(folder, content, end);
    for (const file of foreign) expect(fs.readFileSync(file, 'utf8')).toBe('foreign');
    const { client } = await open({ folder });
    expect((await client.metadata(null)).topics.map(({ name }) => name)).toEqual(['t']);
  });

  test('a file that is called as a partition would be', async () => {
    const { folder, end } = await makeTemplate();
    const content = logOf(folder, 't');
    const file = path.join(folder, 'notes-2026');
    fs.writeFileSync(file, 'foreign');
    await expectRecovered(folder, content, end);
    expect(fs.readFileSync(file, 'utf8')).toBe('foreign');
    expect(fs.readdirSync(folder).sort()).toEqual(['notes-2026', 't-0']);
  });
});

describe(`a full disk${whyNoMount()}`, () => {
  test.skipIf(whyNoMount()).each(ways)('by $way', async ({ way, spliceFrom, size }) => {
    const folder = path.join(mountedImage(6), 'log');
    const broker = await open({ folder, spliceFrom, partitions: 2 });
    const { client } = broker;
    const one = (i: number) => batch({ values: [pattern(size, i)] });
    await produceAll(client, [one(0), one(1)]);
    const filler = fill(folder, 2.5 * size);
    const answers: number[] = [];
    for (let i = 2; i < 8; i++) answers.push((await client.produce('t', one(i))).error);
    // While it is full, the connection stays in step.
    expect(answers).toEqual([
      ...Array(answers.indexOf(56)).fill(0),
      ...Array(8 - 2 - answers.indexOf(56)).fill(56),
    ]);
    expect(answers.indexOf(56)).toBeGreaterThanOrEqual(1);
    const count = 2 + answers.indexOf(56);
    await logged(broker, /^produce t-0: KAFKA_STORAGE_ERROR$/);
    const expected = concat(...Array.from({ length: count }, (_, i) => atOffset(one(i), i)));
    expect(logOf(folder, 't').equals(expected)).toBe(true);
    const { records, highWatermark } = await client.read('t');
    expect(highWatermark).toBe(count);
    expect(records.equals(expected)).toBe(true);
    // Nor does the other partition, or anybody else, get anything in.
    const other = broker.connect();
    expect((await other.produce('t', one(9), 1)).error).toBe(56);
    expect(logOf(folder, 't', 1)).toHaveLength(0);
    fs.rmSync(filler);
    expect(await client.produce('t', one(count))).toMatchObject({ error: 0, baseOffset: count });
    expect(await other.produce('t', one(9), 1)).toMatchObject({ error: 0, baseOffset: 0 });
    await logged(broker, new RegExp(`at offset ${count} by ${way}$`));
    const more = concat(expected, atOffset(one(count), count));
    expect((await client.read('t')).records.equals(more)).toBe(true);
    await broker.close();
    const again = await open({ folder });
    expect((await again.client.read('t')).records.equals(more)).toBe(true);
  });

  test.skipIf(whyNoMount())('when a segment is to be begun, or a topic', async () => {
    const folder = path.join(mountedImage(6), 'log');
    const options = { folder, segmentBytes: 20_000, spliceFrom: 10_000 };
    const broker = await open(options);
    const { client } = broker;
    const one = (i: number) => batch({ values: [pattern(i % 2 ? 12_000 : 9000, i)] });
    await produceAll(client, [0, 1, 2].map(one));
    const filler = fill(folder, 0);
    for (let i = 0; i < 5; i++) {
      expect([i, (await client.produce('t', one(3))).error]).toEqual([i, 56]);
      const { topics } = await client.metadata([`new-${i}`]);
      expect(topics).toHaveLength(1);
      expect([0, 56]).toContain(topics[0]?.error);
    }
    expect(readBatches(await readAll(client))).toHaveLength(3);
    fs.rmSync(filler);
    await produceAll(client, [3, 4, 5, 6, 7].map(one));
    for (let i = 0; i < 5; i++) {
      expect((await client.metadata([`new-${i}`])).topics[0]?.error).toBe(0);
      expect((await client.produce(`new-${i}`, batch())).error).toBe(0);
    }
    const expected = concat(...Array.from({ length: 8 }, (_, i) => atOffset(one(i), i)));
    expect((await readAll(client)).equals(expected)).toBe(true);
    expect(logOf(folder, 't').equals(expected)).toBe(true);
    await broker.close();
    const again = await open(options);
    expect((await readAll(again.client)).equals(expected)).toBe(true);
    await until(() => !tree(folder).some((name) => name.includes('.new')), 'no half index is left');
  });
});
