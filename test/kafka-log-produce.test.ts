// examples/kafka-log: batches that must not come into the log, and producers that stop midway.
import { describe, expect, test } from 'vitest';
import {
  array,
  batch,
  type Client,
  concat,
  int16,
  int32,
  leavesNothing,
  logged,
  logOf,
  openBroker,
  openLog,
  PRODUCE,
  produceBody,
  readBatches,
  readProduce,
  request,
  string,
  ways,
} from './helpers/kafka-wire';
import { sleep, until } from './helpers/process';

/** A Produce request of one batch, and where in it the batch begins. */
function produceRequest(id: number, records: Buffer, partition = 0, acks = -1) {
  const bytes = request(
    PRODUCE,
    7,
    id,
    produceBody([{ topic: 't', partition, records }], { acks }),
  );
  return { bytes, from: bytes.length - records.length };
}

describe.each(ways)('by $way', ({ way, spliceFrom, size }) => {
  test('batches that are wrong', async () => {
    const log = await openLog({ spliceFrom, maxBatchBytes: 1024 * 1024 });
    const client = log.connect();
    const good = batch({ size });
    const bad: [string, number, Buffer | null][] = [
      ['a bad CRC', 2, batch({ size, crc: 1 })],
      ['a flipped bit', 2, withFlipped(good, 200_000)],
      ['a flipped bit in the last byte', 2, withFlipped(good, good.length - 1)],
      ['a flipped attribute', 2, withFlipped(good, 22)],
      ['magic 0', 43, batch({ size, magic: 0 })],
      ['magic 1', 43, batch({ size, magic: 1 })],
      ['magic 3', 43, batch({ size, magic: 3 })],
      ['magic -1', 43, batch({ size, magic: -1 })],
      ['length too small', 87, batch({ size, length: size })],
      ['length too great', 87, batch({ size, length: size + 1000 })],
      ['length 0', 87, batch({ size, length: 0 })],
      ['length -12', 87, batch({ size, length: -12 })],
      ['length -1', 87, batch({ size, length: -1 })],
      ['length 2147483647', 87, batch({ size, length: 0x7fffffff })],
      ['count 0', 87, batch({ size, count: 0 })],
      ['count -1', 87, batch({ size, count: -1 })],
      ['count 2', 87, batch({ size, count: 2 })],
      ['count 2147483647', 87, batch({ size, count: 0x7fffffff })],
      ['last offset delta 1', 87, batch({ size, lastOffsetDelta: 1 })],
      ['last offset delta -1', 87, batch({ size, lastOffsetDelta: -1 })],
      ['none of either', 87, batch({ size, count: 0, lastOffsetDelta: -1 })],
      ['two batches', 87, concat(good, good)],
      ['bytes behind a batch', 87, concat(good, Buffer.alloc(1))],
      ['a batch without its end', 87, good.subarray(0, -1)],
      ['60 bytes', 87, good.subarray(0, 60)],
      ['no bytes', 87, Buffer.alloc(0)],
      ['null', 87, null],
      ['too large', 10, batch({ size: 1024 * 1024 })],
    ];
    for (const [what, error, records] of bad) {
      const answer = await client.produce('t', records);
      expect([what, answer.error, answer.baseOffset]).toEqual([what, error, -1]);
      expect(logOf(log.folder, 't').equals(log.first)).toBe(true);
    }
    expect((await client.read('t')).records.equals(log.first)).toBe(true);
    // The connection and the log are as if nothing had been.
    expect(await client.produce('t', good)).toMatchObject({ error: 0, baseOffset: 2 });
    await logged(log, new RegExp(`^produce t-0: ${good.length} bytes at offset 2 by ${way}$`));
    await logged(log, /^produce t-0: CORRUPT_MESSAGE$/);
    expect(readBatches(logOf(log.folder, 't'))).toHaveLength(2);
    // A batch may say whatever it likes of its offset.
    for (const baseOffset of [-1, 5, Number.MAX_SAFE_INTEGER]) {
      expect((await client.produce('t', batch({ size, baseOffset }))).error).toBe(0);
    }
    expect(readBatches(logOf(log.folder, 't')).map((b) => b.baseOffset)).toEqual([0, 2, 3, 4, 5]);
  });

  test('to nowhere', async () => {
    const log = await openLog({ spliceFrom });
    const client = log.connect();
    const records = batch({ size });
    for (const partition of [1, -1, 0x7fffffff, -0x80000000]) {
      expect((await client.produce('t', records, partition)).error).toBe(3);
    }
    expect((await client.produce('', records)).error).toBe(3);
    expect((await client.produce('../t', records)).error).toBe(3);
    expect((await client.produce('t-0', records)).error).toBe(3);
    expect(logOf(log.folder, 't').equals(log.first)).toBe(true);
    expect(await client.produce('t', records)).toMatchObject({ error: 0, baseOffset: 2 });
  });

  test('acks', async () => {
    const log = await openLog({ spliceFrom });
    const client = log.connect();
    const records = batch({ size });
    for (const acks of [2, 7, -2, 0x7fff, -0x8000]) {
      expect([acks, (await client.produce('t', records, 0, acks)).error]).toEqual([acks, 21]);
    }
    expect(await client.produce('t', records, 0, 1)).toMatchObject({ error: 0, baseOffset: 2 });
    expect(await client.produce('t', records, 0, -1)).toMatchObject({ error: 0, baseOffset: 3 });
    const before = client.arrived.length;
    // Nothing comes back for it, whatever it comes to; what comes next is the next answer.
    client.write(produceRequest(500, records, 0, 0).bytes);
    client.write(produceRequest(501, batch({ size, crc: 1 }), 0, 0).bytes);
    client.write(produceRequest(502, records, 9, 0).bytes);
    client.write(produceRequest(503, records).bytes);
    await client.answer(503);
    expect(client.arrived.slice(before)).toEqual([503]);
    const batches = readBatches(logOf(log.folder, 't'));
    expect(batches.map(({ baseOffset }) => baseOffset)).toEqual([0, 2, 3, 4, 5]);
  });

  test('good and bad in one request', async () => {
    const log = await openLog({ spliceFrom, partitions: 3 });
    const client = log.connect();
    const part = (index: number, records: Buffer) =>
      concat(int32(index), int32(records.length), records);
    const parts = [
      part(0, batch({ size, crc: 1 })),
      part(1, batch({ size })),
      part(7, batch({ size })),
      part(2, batch({ size, magic: 1 })),
      part(1, batch({ values: ['x', 'y'] })),
      part(0, batch({ size })),
    ];
    const topics = array([concat(string('t'), array(parts))]);
    const body = concat(string(null), int16(1), int32(1000), topics);
    const answer = readProduce(7, await client.ask(PRODUCE, 7, body)).topics;
    expect(answer).toHaveLength(1);
    const got = answer[0]?.partitions.map((p) => [p.partition, p.error, p.baseOffset]);
    expect(got).toEqual([
      [0, 2, -1],
      [1, 0, 0],
      [7, 3, -1],
      [2, 43, -1],
      [1, 0, 1],
      [0, 0, 2],
    ]);
    expect(readBatches(logOf(log.folder, 't', 1)).map((b) => b.lastOffset)).toEqual([0, 2]);
    expect(logOf(log.folder, 't', 2)).toHaveLength(0);
  });

  test.each(['goes on', 'ends', 'is reset'])(
    'a producer that stops in mid-batch, and then %s',
    async (then) => {
      const log = await openLog({ spliceFrom, partitions: 2 });
      const stalled = log.connect();
      const records = batch({ size });
      const { bytes } = produceRequest(1, records);
      await leavesNothing(async () => {
        stalled.write(bytes.subarray(0, bytes.length - 10_000));
        // It has got as far as it gets.
        await (way === 'splice'
          ? until(() => logOf(log.folder, 't').length > log.first.length + 200_000, 'it has begun')
          : sleep(50));
        const other = log.connect();
        expect(await other.produce('t', records, 1)).toMatchObject({ error: 0, baseOffset: 0 });
        const { highWatermark, records: seen } = await other.read('t');
        expect(highWatermark).toBe(2);
        expect(seen.equals(log.first)).toBe(true);
        expect(await other.listOffset('t', -1)).toMatchObject({ offset: 2 });
        expect(await other.listOffset('t', 5_000_000)).toMatchObject({ offset: -1 });
        // A long poll doesn't hear of it either.
        const poll = await other.read('t', 2, { minBytes: 1, maxWaitMs: 50 });
        expect(poll).toMatchObject({ error: 0, highWatermark: 2, records: Buffer.alloc(0) });
        const late = other.produce('t', batch({ values: ['late'] }));
        if (then === 'goes on') {
          await sleep(20);
          stalled.write(bytes.subarray(bytes.length - 10_000));
          const answer = readProduce(7, await stalled.answer(1)).topics[0]?.partitions[0];
          expect(answer?.error).toBe(0);
          const offsets = [answer?.baseOffset, (await late).baseOffset];
          // By splice it has the lock; by memory it comes when it is whole.
          expect(offsets).toEqual(way === 'splice' ? [2, 3] : [3, 2]);
        } else {
          await sleep(20);
          if (then === 'ends') stalled.socket.end();
          else stalled.socket.resetAndDestroy();
          expect(await late).toMatchObject({ error: 0, baseOffset: 2 });
          await stalled.ended;
          expect(stalled.arrived).toEqual([]);
        }
        const count = then === 'goes on' ? 3 : 2;
        const { records: all } = await other.read('t');
        expect(readBatches(all)).toHaveLength(count);
        expect(all.equals(logOf(log.folder, 't'))).toBe(true);
        other.close();
        stalled.close();
      });
    },
  );

  test('a broker that closes in mid-batch', async () => {
    const log = await openLog({ spliceFrom });
    const [stalled, waiting] = [log.connect(), log.connect()];
    const { bytes } = produceRequest(1, batch({ size }));
    stalled.write(bytes.subarray(0, bytes.length - 1));
    waiting.write(bytes.subarray(0, bytes.length - 1));
    await sleep(50);
    waiting.write(bytes.subarray(bytes.length - 1));
    await sleep(20);
    await log.close();
    await Promise.all([stalled.ended, waiting.ended]);
    expect(stalled.arrived).toEqual([]);
    // By splice it had to wait for the other, and must be refused then.
    expect(waiting.arrived).toEqual(way === 'memory' ? [1] : []);
    const count = 1 + waiting.arrived.length;
    expect(readBatches(logOf(log.folder, 't'))).toHaveLength(count);
    const again = await openBroker({ folder: log.folder });
    expect((await again.connect().read('t')).highWatermark).toBe(1 + count);
  });

  test('many producers, each with its own pace, and a consumer', async () => {
    const log = await openLog({ spliceFrom, segmentBytes: 5_000_000 });
    const rounds = 8;
    const clients = Array.from({ length: 6 }, () => log.connect());
    const produceAll = async (client: Client, i: number) => {
      for (let n = 0; n < rounds; n++) {
        const value = Buffer.alloc(i % 2 ? size : 200, `${i}:${n};`);
        const { bytes } = produceRequest(n + 1, batch({ values: [value] }));
        const middle = Math.floor((bytes.length * (n + 1)) / (rounds + 1));
        client.write(bytes.subarray(0, middle));
        await sleep(i % 3);
        client.write(bytes.subarray(middle));
        const answer = readProduce(7, await client.answer(n + 1)).topics[0]?.partitions[0];
        expect(answer?.error).toBe(0);
      }
    };
    const seen: Buffer[] = [];
    const total = clients.length * rounds + 2;
    const consumer = log.connect();
    const consume = async () => {
      for (let offset = 0; offset < total; ) {
        const { records, highWatermark } = await consumer.read('t', offset, {
          minBytes: 1,
          maxWaitMs: 1000,
          maxBytes: 700_000,
        });
        for (const { baseOffset, lastOffset, values } of readBatches(records)) {
          expect(baseOffset).toBe(offset);
          offset = lastOffset + 1;
          seen.push(...values);
        }
        expect(highWatermark).toBeGreaterThanOrEqual(offset);
      }
    };
    await Promise.all([...clients.map(produceAll), consume()]);
    expect(seen).toHaveLength(total);
    // Of each producer in its own order.
    for (const i of clients.keys()) {
      const own = seen.map((value) => value.subarray(0, 4).toString());
      const rounded = own.filter((text) => text.startsWith(`${i}:`));
      expect(rounded).toEqual(Array.from({ length: rounds }, (_, n) => `${i}:${n};`));
    }
  });
});

function withFlipped(bytes: Buffer, at: number): Buffer {
  const flipped = Buffer.from(bytes);
  flipped[at] = (flipped[at] as number) ^ 1;
  return flipped;
}

test('a batch that is not finished in 10 s: its producer is cut off, others go on', async () => {
  const log = await openLog({ spliceFrom: 1024 });
  const stalled = log.connect();
  const other = log.connect();
  const records = batch({ size: 300_000 });
  stalled.write(produceRequest(1, records).bytes.subarray(0, 100_000));
  await until(() => logOf(log.folder, 't').length > log.first.length, 'it has begun');
  const waiting = other.produce('t', records);
  // Bytes now and then are no way to hold the lock.
  const drip = setInterval(() => stalled.write(Buffer.alloc(10)), 500);
  const how = await stalled.ended;
  clearInterval(drip);
  expect(how).toMatch(/^(end|close|ECONNRESET|EPIPE)$/);
  expect(await waiting).toMatchObject({ error: 0, baseOffset: 2 });
  expect(readBatches(logOf(log.folder, 't')).map((b) => b.baseOffset)).toEqual([0, 2]);
  await logged(log, /^closed 127\.0\.0\.1:\d+: .*time/);
});
