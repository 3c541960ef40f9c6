// examples/kafka-log: what a fetch gives, when it gives it, and clients that don't wait for it.
import { describe, expect, test } from 'vitest';
import {
  API_VERSIONS,
  type Broker,
  batch,
  type Client,
  concat,
  FETCH,
  fetchBody,
  LIST_OFFSETS,
  leavesNothing,
  listOffsetsBody,
  METADATA,
  metadataBody,
  onlyPartition,
  openBroker,
  openLog,
  PRODUCE,
  produceBody,
  readBatches,
  readFetch,
  request,
} from './helpers/kafka-wire';
import { openDescriptors, sleep, until } from './helpers/process';
import { receiveBytes } from './helpers/sockets';

const MIB = 1024 * 1024;

/** Fills `t`-`partition` with batches of so many bytes and two records each; returns their ends. */
async function fill(client: Client, sizes: number[], partition = 0): Promise<number[]> {
  await client.metadata(['t']);
  const ends: number[] = [];
  for (const size of sizes) {
    const values = ['', Buffer.alloc(size, 'x')];
    const records = batch({ values });
    expect((await client.produce('t', records, partition)).error).toBe(0);
    ends.push((ends.at(-1) ?? 0) + records.length);
  }
  return ends;
}

/** Base offsets of batches, which must be whole. */
const offsetsOf = (records: Buffer) => readBatches(records).map(({ baseOffset }) => baseOffset);

describe('which batches', () => {
  test('from each offset, with each limit', async () => {
    const broker = await openBroker({ segmentBytes: 40_000 });
    const client = broker.connect();
    const sizes = [100, 10_000, 1, 0, 20_000, 300, 50_000, 100, 7000, 7000, 7000, 100_000, 5];
    const ends = await fill(client, sizes);
    const lengths = ends.map((end, i) => end - (ends[i - 1] ?? 0));
    const last = 2 * sizes.length;
    for (let offset = 0; offset < last; offset++) {
      const first = offset >> 1;
      for (const limit of [
        0, 1, 500, 4096, 10_200, 17_000, 40_000, 70_000, 1_000_000, 0x7fffffff,
      ]) {
        const options = { maxBytes: 0x7fffffff };
        const byPartition = onlyPartition(
          await client.fetch([{ topic: 't', offset, maxBytes: limit }], options),
        );
        const byAll = await client.read('t', offset, { maxBytes: limit });
        for (const part of [byPartition, byAll]) {
          expect(part).toMatchObject({ error: 0, highWatermark: last });
          const got = offsetsOf(part.records);
          const at = `${offset}, ${limit}`;
          expect([at, got[0]]).toEqual([at, 2 * first]);
          if (got.length > 1) expect([at, part.records.length <= limit]).toEqual([at, true]);
          expect(part.records).toHaveLength(
            lengths.slice(first, first + got.length).reduce((a, b) => a + b),
          );
        }
      }
    }
  });

  test('at the end, beyond, before', async () => {
    const { connect } = await openLog();
    const client = connect();
    expect(await client.read('t', 2)).toMatchObject({ error: 0, records: Buffer.alloc(0) });
    for (const offset of [3, 1e9, 2n ** 53n, 2n ** 63n - 1n, -1, -2, -(2n ** 63n)]) {
      const { error, records } = await client.read('t', offset, { minBytes: 1, maxWaitMs: 60_000 });
      expect([offset, error, records.length]).toEqual([offset, 1, 0]);
    }
    for (const [topic, partition] of [
      ['none', 0],
      ['t', 1],
      ['t', -1],
      ['t', 0x7fffffff],
      ['', 0],
      ['../t', 0],
    ] as const) {
      const options = { minBytes: 1, maxWaitMs: 60_000 };
      const answer = await client.fetch([{ topic, partition }], options);
      expect(onlyPartition(answer)).toMatchObject({ error: 3, partition });
      expect(answer.topics[0]?.topic).toBe(topic);
    }
    expect((await client.fetch([])).topics).toEqual([]);
  });

  test('in a session, which are not kept: 70', async () => {
    const { connect } = await openLog();
    const client = connect();
    for (const version of [7, 11]) {
      const body = fetchBody(version, [{ topic: 't' }]);
      const sessionAt = 4 + 4 + 4 + 4 + 1;
      body.writeInt32BE(5, sessionAt);
      const { error, session, topics } = readFetch(version, await client.ask(FETCH, version, body));
      expect({ error, session, topics }).toEqual({ error: 70, session: 0, topics: [] });
      // To begin one is an ordinary fetch.
      body.writeInt32BE(0, sessionAt);
      body.writeInt32BE(0, sessionAt + 4);
      const full = readFetch(version, await client.ask(FETCH, version, body));
      expect(full).toMatchObject({ error: 0, session: 0 });
      expect(offsetsOf(onlyPartition(full).records)).toEqual([0]);
    }
  });

  test('an empty partition', async () => {
    const broker = await openBroker();
    const client = broker.connect();
    await client.metadata(['t']);
    expect(await client.read('t', 0)).toMatchObject({ error: 0, highWatermark: 0 });
    expect(await client.read('t', 1)).toMatchObject({ error: 1 });
    expect(await client.listOffset('t', -1)).toMatchObject({ error: 0, offset: 0 });
    expect(await client.listOffset('t', -2)).toMatchObject({ error: 0, offset: 0 });
    expect(await client.listOffset('t', 0)).toMatchObject({ error: 0, offset: -1 });
  });

  test('several partitions, of several topics', async () => {
    const broker = await openBroker({ partitions: 3 });
    const client = broker.connect();
    await fill(client, [1000, 1000], 0);
    await fill(client, [50_000, 10], 1);
    await client.metadata(['u']);
    await client.produce('u', batch({ values: ['u'] }), 2);
    const wanted = [
      { topic: 't', partition: 2 },
      { topic: 't', partition: 1 },
      { topic: 'none', partition: 0 },
      { topic: 't', partition: 0, offset: 2 },
      { topic: 'u', partition: 2 },
      { topic: 't', partition: 0, offset: 99 },
      { topic: 't', partition: 0, offset: 0 },
    ];
    const parts = async (options: { maxBytes?: number }) => {
      const { topics } = await client.fetch(wanted, options);
      return topics.flatMap(({ topic, partitions }) =>
        partitions.map((p) => [`${topic}-${p.partition}`, p.error, offsetsOf(p.records)]),
      );
    };
    expect(await parts({})).toEqual([
      ['t-2', 0, []],
      ['t-1', 0, [0, 2]],
      ['none-0', 3, []],
      ['t-0', 0, [2]],
      ['u-2', 0, [0]],
      ['t-0', 1, []],
      ['t-0', 0, [0, 2]],
    ]);
    // At least one of the first that has any, and of the others what there is room for.
    for (const maxBytes of [0, 1, 50_000]) {
      expect((await parts({ maxBytes })).map(([, , offsets]) => offsets)).toEqual([
        ...[[], [0], [], [], [], [], []],
      ]);
    }
    const some = await parts({ maxBytes: 51_500 });
    expect(some.map(([, , offsets]) => offsets)).toEqual([[], [0, 2], [], [2], [0], [], []]);
  });

  test('negative limits: one batch', async () => {
    const broker = await openBroker();
    const client = broker.connect();
    await fill(client, [10, 10]);
    const { records } = await client.read('t', 0, { maxBytes: -1 });
    expect(offsetsOf(records)).toEqual([0]);
    const answer = await client.fetch([{ topic: 't', maxBytes: -0x80000000 }]);
    expect(offsetsOf(onlyPartition(answer).records)).toEqual([0]);
    expect(offsetsOf((await client.read('t', 0, { minBytes: -1 })).records)).toEqual([0, 2]);
    expect(offsetsOf((await client.read('t', 0, { maxWaitMs: -1 })).records)).toEqual([0, 2]);
  });

  test('more than an answer can have: it is no more than it says', async () => {
    const broker = await openBroker();
    const client = broker.connect();
    await fill(client, [15 * MIB, 15 * MIB, 15 * MIB]);
    // 45 MiB, a hundred times: more than 2 ** 31 bytes.
    const asking = broker.connect({ raw: true });
    const wanted = Array.from({ length: 100 }, () => ({ topic: 't' }));
    asking.send(FETCH, 11, fetchBody(11, wanted));
    const length = (await receiveBytes(asking.socket, 4)).readInt32BE();
    expect(length).toBeGreaterThan(15 * MIB);
    asking.socket.resetAndDestroy();
    // Others are served.
    expect((await client.apiVersions()).error).toBe(0);
  });
});

describe('ListOffsets', () => {
  test('by time', async () => {
    const broker = await openBroker({ segmentBytes: 20_000 });
    const client = broker.connect();
    await client.metadata(['t']);
    expect(await client.listOffset('t', 0)).toMatchObject({ error: 0, timestamp: -1, offset: -1 });
    // Over several segments and index entries; once in a while time stands still, or goes back.
    const times = Array.from(
      { length: 60 },
      (_, i) => 1000 + 10 * (i - (i % 7 === 6 ? 30 : i % 3)),
    );
    for (const [i, timestamp] of times.entries()) {
      const values = [Buffer.alloc(i % 5 ? 300 : 5000), ''];
      expect((await client.produce('t', batch({ values, timestamp }))).error).toBe(0);
    }
    const least = Math.min(...times);
    const most = Math.max(...times);
    for (let time = least - 20; time <= most + 20; time += 5) {
      const i = times.findIndex((own) => own >= time);
      const expected = {
        partition: 0,
        error: 0,
        timestamp: times[i] ?? -1,
        offset: i < 0 ? -1 : 2 * i,
      };
      expect([time, await client.listOffset('t', Math.max(time, 0))]).toEqual([time, expected]);
    }
    expect(await client.listOffset('t', -1)).toMatchObject({ error: 0, offset: 120 });
    expect(await client.listOffset('t', -2)).toMatchObject({ error: 0, offset: 0 });
    expect(await client.listOffset('none', -1)).toMatchObject({ error: 3 });
    expect(await client.listOffset('t', -1, 1)).toMatchObject({ error: 3 });
    expect(await client.listOffset('t', -1, -1)).toMatchObject({ error: 3 });
    // A date that has no meaning: an answer, at least.
    expect((await client.listOffset('t', -3)).partition).toBe(0);
    expect((await client.listOffset('t', Number.MIN_SAFE_INTEGER)).partition).toBe(0);
  });
});

describe('long polls', () => {
  async function openEmpty(): Promise<Broker & { client: Client }> {
    const broker = await openBroker({ partitions: 2 });
    const client = broker.connect();
    await client.metadata(['t']);
    return { ...broker, client };
  }
  const LONG = { minBytes: 1, maxWaitMs: 60_000 };

  test('end by what is produced', async () => {
    const { connect, client } = await openEmpty();
    await leavesNothing(async () => {
      const consumer = connect();
      const answer = consumer.read('t', 0, LONG);
      await sleep(30);
      expect(consumer.arrived).toEqual([]);
      await client.produce('t', batch({ values: ['news'] }));
      const { records, highWatermark } = await answer;
      expect(readBatches(records)[0]?.values.map(String)).toEqual(['news']);
      expect(highWatermark).toBe(1);
      consumer.close();
    });
  });

  test('wait for min_bytes', async () => {
    const { connect, client } = await openEmpty();
    const one = batch({ size: 1000 });
    const consumer = connect();
    const wanted = [{ topic: 't' }, { topic: 't', partition: 1 }];
    const asked = consumer.fetch(wanted, { ...LONG, minBytes: 3 * one.length });
    for (const partition of [0, 1]) {
      await client.produce('t', one, partition);
      await sleep(20);
      expect(consumer.arrived).toEqual([]);
    }
    await client.produce('t', one, 1);
    const parts = (await asked).topics.flatMap(({ partitions }) => partitions);
    expect(parts.map(({ records }) => offsetsOf(records))).toEqual([[0], [0, 1]]);
  });

  test('end by time, with what there is', async () => {
    const { connect, client } = await openEmpty();
    await client.produce('t', batch({ values: ['little'] }));
    await leavesNothing(async () => {
      const consumer = connect();
      const started = performance.now();
      const { records } = await consumer.read('t', 0, { minBytes: 1_000_000, maxWaitMs: 80 });
      expect(performance.now() - started).toBeGreaterThan(75);
      expect(offsetsOf(records)).toEqual([0]);
      expect((await consumer.read('t', 1, { minBytes: 1, maxWaitMs: 20 })).records).toHaveLength(0);
      consumer.close();
    });
  });

  test('end at once where there is nothing to wait for', async () => {
    const { client } = await openEmpty();
    expect(await client.read('t', 0, { minBytes: 0, maxWaitMs: 60_000 })).toMatchObject({
      error: 0,
    });
    expect(await client.read('t', 0, { minBytes: 1, maxWaitMs: 0 })).toMatchObject({ error: 0 });
    expect(await client.read('t', 5, LONG)).toMatchObject({ error: 1 });
    const mixed = await client.fetch([{ topic: 't' }, { topic: 'none' }], LONG);
    expect(mixed.topics.map(({ partitions }) => partitions[0]?.error)).toEqual([0, 3]);
  });

  test('end by the client going', async () => {
    const { connect, client } = await openEmpty();
    await leavesNothing(async () => {
      const consumers = Array.from({ length: 50 }, () => connect());
      for (const consumer of consumers)
        consumer.send(FETCH, 11, fetchBody(11, [{ topic: 't' }], LONG));
      await sleep(50);
      for (const consumer of consumers) consumer.socket.resetAndDestroy();
    });
    // An end may be that of its requests only: such a one waits its time.
    await leavesNothing(async () => {
      const consumer = connect();
      const body = fetchBody(11, [{ topic: 't' }], { minBytes: 1, maxWaitMs: 200 });
      consumer.send(FETCH, 11, body);
      await sleep(20);
      consumer.close();
    });
    await client.produce('t', batch());
  });

  test('end by the broker closing', async () => {
    const { connect, close } = await openEmpty();
    const consumer = connect();
    consumer.send(FETCH, 11, fetchBody(11, [{ topic: 't' }], LONG));
    await sleep(30);
    await close();
    await consumer.ended;
  });

  test('a hundred hear of one batch', async () => {
    const { connect, client } = await openEmpty();
    await leavesNothing(async () => {
      const consumers = Array.from({ length: 100 }, () => connect());
      const answers = consumers.map((consumer) => consumer.read('t', 0, LONG));
      await sleep(50);
      await client.produce('t', batch({ size: 2000 }));
      for (const { records } of await Promise.all(answers)) expect(offsetsOf(records)).toEqual([0]);
      for (const consumer of consumers) consumer.close();
    });
  });
});

describe('connections', () => {
  test('requests without waiting for answers: in their order', async () => {
    const { connect, first } = await openLog();
    const client = connect();
    const records = batch({ size: 300_000 });
    const kinds = [
      (id: number) => request(API_VERSIONS, 2, id),
      (id: number) => request(FETCH, 11, id, fetchBody(11, [{ topic: 't' }])),
      (id: number) => request(METADATA, 5, id, metadataBody(5, ['t'])),
      (id: number) => request(PRODUCE, 7, id, produceBody([{ topic: 't', records }])),
      // This one waits, and all that follow it.
      (id: number) =>
        request(FETCH, 11, id, fetchBody(11, [{ topic: 't' }], { minBytes: 1e9, maxWaitMs: 30 })),
      (id: number) =>
        request(LIST_OFFSETS, 3, id, listOffsetsBody(3, [{ topic: 't', timestamp: -1 }])),
    ];
    const ids = Array.from({ length: 60 }, (_, i) => 1000 - i);
    client.write(
      concat(...ids.map((id, i) => (kinds[i % kinds.length] as (id: number) => Buffer)(id))),
    );
    await client.answer(ids.at(-1) as number);
    expect(client.arrived).toEqual(ids);
    // Each fetch has what was produced before it.
    const fetched = readFetch(11, await client.answer(ids.at(-5) as number));
    const batches = readBatches(onlyPartition(fetched).records);
    expect(batches[0]?.bytes.equals(first)).toBe(true);
    expect(batches).toHaveLength(10);
  });

  test('a client that ends behind its last request gets its answers', async () => {
    const { connect } = await openLog({ spliceFrom: 1024 });
    await leavesNothing(async () => {
      const client = connect();
      const records = batch({ size: 500_000 });
      client.send(
        FETCH,
        11,
        fetchBody(11, [{ topic: 't', offset: 2 }], { minBytes: 1, maxWaitMs: 50 }),
      );
      client.send(PRODUCE, 7, produceBody([{ topic: 't', records }]));
      const last = client.send(FETCH, 11, fetchBody(11, [{ topic: 't' }]));
      client.socket.end();
      expect(await client.ended).toBe('end');
      expect(client.arrived).toEqual([1, 2, 3]);
      const { records: got } = onlyPartition(readFetch(11, await client.answer(last)));
      expect(offsetsOf(got)).toEqual([0, 2]);
      // One that says nothing at all, too.
      const silent = connect();
      silent.socket.end();
      expect(await silent.ended).toBe('end');
    });
  });

  test('a reset in the midst of an answer', async () => {
    const broker = await openBroker();
    const client = broker.connect();
    await fill(client, [10 * MIB, 10 * MIB]);
    await leavesNothing(async () => {
      for (const after of [4, 1000, 100_000]) {
        const consumer = broker.connect({ raw: true });
        consumer.send(FETCH, 11, fetchBody(11, [{ topic: 't' }]));
        await receiveBytes(consumer.socket, after);
        consumer.socket.resetAndDestroy();
      }
    });
    expect(offsetsOf((await client.read('t')).records)).toEqual([0, 2]);
  });

  test('a slow reader of a large answer, and others meanwhile', async () => {
    const broker = await openBroker();
    const client = broker.connect();
    await fill(client, [15 * MIB, 15 * MIB]);
    const slow = broker.connect();
    slow.socket.pause();
    const asked = [1, 2].map(() => slow.ask(FETCH, 11, fetchBody(11, [{ topic: 't' }])));
    for (let i = 0; i < 10; i++) {
      expect((await client.produce('t', batch())).error).toBe(0);
      expect(offsetsOf((await client.read('t', 4 + i)).records)).toEqual([4 + i]);
      slow.socket.resume();
      await sleep(2);
      slow.socket.pause();
    }
    slow.socket.resume();
    const all = offsetsOf((await client.read('t')).records);
    expect(all).toHaveLength(12);
    for (const bytes of await Promise.all(asked)) {
      const got = offsetsOf(onlyPartition(readFetch(11, bytes)).records);
      expect(got.length).toBeGreaterThanOrEqual(2);
      expect(got).toEqual(all.slice(0, got.length));
    }
  });

  test('200 at once', async () => {
    const { connect } = await openLog({ spliceFrom: 4096 });
    await leavesNothing(async () => {
      const clients = Array.from({ length: 200 }, () => connect());
      const offsets = await Promise.all(
        clients.map(async (client, i) => {
          const { error, baseOffset } = await client.produce(
            't',
            batch({ size: i % 2 ? 100 : 20_000 }),
          );
          expect(error).toBe(0);
          const { records } = await client.read('t', baseOffset, { maxBytes: 1 });
          expect(offsetsOf(records)).toEqual([baseOffset]);
          return baseOffset;
        }),
      );
      expect(offsets.sort((a, b) => a - b)).toEqual(Array.from({ length: 200 }, (_, i) => i + 2));
      for (const client of clients) client.close();
    });
    const { records } = await connect().read('t');
    expect(readBatches(records)).toHaveLength(201);
  });

  test('closing the broker ends them all', async () => {
    const before = openDescriptors();
    const { connect, close } = await openLog();
    const clients = Array.from({ length: 20 }, () => connect());
    await Promise.all(clients.map((client) => client.apiVersions()));
    await close();
    for (const client of clients) {
      await client.ended;
      client.close();
    }
    await until(() => openDescriptors() <= before, 'its descriptors are closed');
  });
});
