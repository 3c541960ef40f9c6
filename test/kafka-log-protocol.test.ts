// examples/kafka-log and what nobody should send: whatever comes, the broker answers by an error
// code or closes the connection, goes on, and keeps a clean log.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, expect, test } from 'vitest';
import { pattern, scratchFolder } from './helpers/files';
import { startBroker } from './helpers/kafka';
import {
  API_VERSIONS,
  APIS,
  array,
  batch,
  Client,
  concat,
  expectUntouched,
  FETCH,
  FIND_COORDINATOR,
  fetchBody,
  findCoordinatorBody,
  frame,
  int8,
  int16,
  int32,
  int64,
  kafkajsRequest,
  LIST_OFFSETS,
  leavesNothing,
  listOffsetsBody,
  logged,
  logOf,
  METADATA,
  metadataBody,
  openBroker,
  openLog,
  PRODUCE,
  produceBody,
  readApiVersions,
  readBatches,
  readFetch,
  readFindCoordinator,
  readListOffsets,
  readMetadata,
  readProduce,
  request,
  string,
  tree,
  ways,
} from './helpers/kafka-wire';
import { sleep, until } from './helpers/process';
import { hasSanitizers, noMeasuring } from './helpers/sanitizers';

const KIB = 1024;
const MIB = 1024 * KIB;

describe('each API in each version', () => {
  const records = batch({ values: ['hello', 'world'], timestamp: 5000 });
  type Ask = (version: number) => { body: Buffer; args?: object };
  const asks: Record<string, Ask> = {
    ApiVersions: () => ({ body: Buffer.alloc(0), args: {} }),
    Metadata: (version) => ({
      body: metadataBody(version, ['t', 'new']),
      args: { topics: ['t', 'new'] },
    }),
    // kafkajs makes batches of its own.
    Produce: () => ({
      body: produceBody([
        { topic: 't', records },
        { topic: 'none', records },
      ]),
    }),
    Fetch: (version) => {
      const wanted = { topic: 't', partition: 0, maxBytes: 1000 };
      const options = { maxWaitMs: 10, minBytes: 1, maxBytes: 2000 };
      return {
        body: fetchBody(version, [{ ...wanted, offset: 0 }], options),
        args: {
          maxWaitTime: 10,
          minBytes: 1,
          maxBytes: 2000,
          isolationLevel: 1,
          topics: [{ topic: 't', partitions: [{ ...wanted, fetchOffset: 0 }] }],
        },
      };
    },
    ListOffsets: (version) => ({
      body: listOffsetsBody(version, [{ topic: 't', timestamp: 5000 }]),
      args: {
        replicaId: -1,
        isolationLevel: 1,
        topics: [{ topic: 't', partitions: [{ partition: 0, timestamp: 5000 }] }],
      },
    }),
    FindCoordinator: (version) => ({
      body: findCoordinatorBody(version, 'group'),
      args: { groupId: 'group', coordinatorKey: 'group', coordinatorType: 0 },
    }),
  };

  for (const [name, key, min, max] of APIS) {
    for (let version = min; version <= max; version++) {
      test(`${name} ${version}`, async () => {
        const broker = await openBroker();
        const client = broker.connect();
        await client.metadata(['t']);
        expect((await client.produce('t', records)).error).toBe(0);
        const ask = (asks[name] as Ask)(version);
        // Of kafkajs only the decoder where it would make batches of its own.
        const kafkajs = await kafkajsRequest(
          name,
          version,
          7,
          ask.args ?? { acks: 1, timeout: 0, topicData: [] },
        );
        if (ask.args) {
          expect(request(key, version, 7, ask.body).toString('hex')).toBe(
            kafkajs.bytes.toString('hex'),
          );
        }
        const bytes = await client.ask(key, version, ask.body);
        const theirs = kafkajs.decode(bytes);
        if (key === API_VERSIONS) {
          const apiVersions = APIS.map(([, apiKey, minVersion, maxVersion]) => ({
            apiKey,
            // Offered, but not known: librdkafka compresses only for those who offer it.
            minVersion: apiKey === PRODUCE ? 0 : minVersion,
            maxVersion,
          }));
          const ours = readApiVersions(version, bytes);
          expect(ours.error).toBe(0);
          expect(ours.apis).toHaveLength(apiVersions.length);
          expect(await theirs).toMatchObject({
            errorCode: 0,
            apiVersions: expect.arrayContaining(apiVersions),
          });
        } else if (key === METADATA) {
          const ours = readMetadata(version, bytes);
          expect(ours.topics.map(({ name, error }) => [name, error])).toEqual([
            ['t', 0],
            ['new', 0],
          ]);
          const [node] = ours.brokers;
          expect(ours.brokers).toHaveLength(1);
          expect(node).toMatchObject({ host: '127.0.0.1', port: broker.port });
          if (version >= 1) expect(ours.controller).toBe(node?.id);
          expect(await theirs).toMatchObject({
            brokers: [{ nodeId: node?.id, host: '127.0.0.1', port: broker.port }],
            topicMetadata: ours.topics.map((topic) => ({
              topicErrorCode: 0,
              topic: topic.name,
              partitionMetadata: [
                { partitionErrorCode: 0, partitionId: 0, leader: node?.id, replicas: [node?.id] },
              ],
            })),
          });
        } else if (key === PRODUCE) {
          const ours = readProduce(version, bytes);
          const [done, unknown] = ours.topics.map(({ partitions }) => partitions);
          expect(done).toMatchObject([{ partition: 0, error: 0, baseOffset: 2 }]);
          expect(unknown).toMatchObject([{ partition: 0, error: 3, baseOffset: -1 }]);
          expect(await theirs).toMatchObject({
            topics: [
              { topicName: 't', partitions: [{ partition: 0, errorCode: 0, baseOffset: '2' }] },
              { topicName: 'none', partitions: [{ partition: 0, errorCode: 3 }] },
            ],
          });
        } else if (key === FETCH) {
          const [partition] = readFetch(version, bytes).topics.flatMap((topic) => topic.partitions);
          expect(partition).toMatchObject({ error: 0, highWatermark: 2, lastStable: 2 });
          const values = readBatches(partition?.records as Buffer).flatMap((b) => b.values);
          expect(values.map(String)).toEqual(['hello', 'world']);
          const messages = ['hello', 'world'].map((text, i) => ({
            offset: String(i),
            value: Buffer.from(text),
            timestamp: '5000',
          }));
          expect(await theirs).toMatchObject({
            responses: [
              { topicName: 't', partitions: [{ errorCode: 0, highWatermark: '2', messages }] },
            ],
          });
        } else if (key === LIST_OFFSETS) {
          const [partition] = readListOffsets(version, bytes).topics.flatMap((t) => t.partitions);
          expect(partition).toEqual({ partition: 0, error: 0, timestamp: 5000, offset: 0 });
          expect(await theirs).toMatchObject({
            responses: [
              { topic: 't', partitions: [{ errorCode: 0, timestamp: '5000', offset: '0' }] },
            ],
          });
        } else {
          expect(readFindCoordinator(version, bytes).error).toBe(15);
          expect(await theirs).toMatchObject({ errorCode: 15 });
        }
      });
    }
  }

  test.each(['Produce 3', 'Produce 7'])('%s as kafkajs encodes it', async (name) => {
    const version = Number(name.slice(-1));
    const broker = await openBroker();
    const client = broker.connect();
    await client.metadata(['t']);
    const messages = [{ key: Buffer.from('k'), value: Buffer.from('v'), headers: { a: 'b' } }];
    const { bytes, decode } = await kafkajsRequest('Produce', version, 1000, {
      acks: -1,
      timeout: 1000,
      compression: 1, // gzip
      topicData: [{ topic: 't', partitions: [{ partition: 0, firstSequence: 0, messages }] }],
    });
    client.write(bytes);
    expect(await decode(await client.answer(1000))).toMatchObject({
      topics: [{ partitions: [{ errorCode: 0, baseOffset: '0' }] }],
    });
    const fetch = await kafkajsRequest('Fetch', 11, 1001, {
      maxWaitTime: 0,
      minBytes: 0,
      maxBytes: 10_000,
      topics: [{ topic: 't', partitions: [{ partition: 0, fetchOffset: 0, maxBytes: 10_000 }] }],
    });
    client.write(fetch.bytes);
    expect(await fetch.decode(await client.answer(1001))).toMatchObject({
      responses: [{ partitions: [{ messages: [{ offset: '0', value: Buffer.from('v') }] }] }],
    });
  });

  test.each([3, 4, 99, 0x7fff, -1])('ApiVersions %i: error 35, in version 0', async (version) => {
    const broker = await openBroker();
    const client = broker.connect();
    // Version 3 as clients send it: a header of tagged fields, then compact strings.
    const compact = (text: string) => concat(int8(text.length + 1), Buffer.from(text));
    const body = concat(int8(0), compact('librdkafka'), compact('2.0.0'), int8(0));
    const answer = readApiVersions(0, await client.ask(API_VERSIONS, version, body));
    expect(answer.error).toBe(35);
    // Clients look there for what to use instead.
    expect(answer.apis).toContainEqual({ key: API_VERSIONS, min: 0, max: 2 });
    expect((await client.apiVersions()).error).toBe(0);
  });
});

test('a client without a name', async () => {
  const broker = await openBroker();
  const client = broker.connect();
  client.write(frame(concat(int16(API_VERSIONS), int16(0), int32(-7), string(null))));
  expect(readApiVersions(0, await client.answer(-7)).error).toBe(0);
});

describe('Metadata', () => {
  test('of all topics, of none, of those that are not there', async () => {
    const broker = await openBroker({ partitions: 3 });
    const client = broker.connect();
    const names = (answer: ReturnType<typeof readMetadata>) =>
      answer.topics.map(({ name, error }) => `${name}: ${error}`);
    expect(names(await client.metadata(['no'], false))).toEqual(['no: 3']);
    expect(tree(broker.folder)).not.toContain('no-0/');
    const made = await client.metadata(['a', 'b']);
    expect(names(made)).toEqual(['a: 0', 'b: 0']);
    expect(made.topics[0]?.partitions.map(({ id }) => id)).toEqual([0, 1, 2]);
    expect(names(await client.metadata(null)).sort()).toEqual(['a: 0', 'b: 0']);
    expect(names(await client.metadata([]))).toEqual([]);
    const old = readMetadata(0, await client.ask(METADATA, 0, metadataBody(0, [])));
    expect(names(old).sort()).toEqual(['a: 0', 'b: 0']);
    const twice = await client.metadata(['c', 'c']);
    expect(new Set(names(twice))).toEqual(new Set(['c: 0']));
  });

  test('names that are paths, or nothing of the kind', async () => {
    const scratch = scratchFolder();
    const folder = path.join(scratch, 'log');
    const broker = await openBroker({ folder });
    const client = broker.connect();
    const bad: (string | Buffer)[] = [
      '',
      '.',
      '..',
      '/',
      '../up',
      '../../up',
      'a/b',
      '/tmp/kafka-log-test',
      'a\\b',
      'a\0b',
      'a b',
      'a\n',
      'é',
      'a:b',
      '%2e%2e',
      '__proto__ ',
      'a'.repeat(250),
      'a'.repeat(32767),
      Buffer.from([0xff, 0xfe]),
      Buffer.from([0xc0, 0xae, 0xc0, 0xae]), // '..', overlong
    ];
    for (const name of bad) {
      const { topics } = await client.metadata([name]);
      expect([String(name), topics.map(({ error }) => error)]).toEqual([String(name), [17]]);
      expect([String(name), (await client.produce(name, batch())).error]).toEqual([
        String(name),
        3,
      ]);
      expect([String(name), (await client.read(name)).error]).toEqual([String(name), 3]);
    }
    expect(fs.readdirSync(scratch)).toEqual(['log']);
    expect(tree(folder)).toEqual([]);
    const good = [
      'a'.repeat(249),
      '...',
      '.hidden',
      '-',
      '_',
      '__proto__',
      'constructor',
      'a-0',
      'a',
    ];
    for (const name of good) {
      const { topics } = await client.metadata([name]);
      expect([name, topics.map(({ error }) => error)]).toEqual([name, [0]]);
      expect([name, await client.produce(name, batch())]).toMatchObject([name, { error: 0 }]);
      expect([name, await client.read(name)]).toMatchObject([name, { error: 0, highWatermark: 1 }]);
    }
    expect(fs.readdirSync(scratch)).toEqual(['log']);
    expect(fs.readdirSync(folder).sort()).toEqual(good.map((name) => `${name}-0`).sort());
    // What they are called is found again.
    await broker.close();
    const again = (await openBroker({ folder })).connect();
    const { topics } = await again.metadata(null);
    expect(topics.map(({ name }) => name).sort()).toEqual(good.sort());
    for (const name of good) expect((await again.read(name)).highWatermark).toBe(1);
  });

  test('more topics than there may be: 44', async () => {
    const broker = await openBroker();
    const client = broker.connect();
    const names = Array.from({ length: 1000 }, (_, i) => `t${i}`);
    const made = await client.metadata(names);
    expect(new Set(made.topics.map(({ error }) => error))).toEqual(new Set([0]));
    const more = await client.metadata(['one-more', 't0']);
    expect(more.topics.map(({ error }) => error).sort()).toEqual([0, 44]);
    expect(fs.readdirSync(broker.folder)).toHaveLength(1000);
    // All at once, too.
    const clients = Array.from({ length: 20 }, () => broker.connect());
    await Promise.all(clients.map((other, i) => other.metadata([`x${i}`])));
    expect(fs.readdirSync(broker.folder)).toHaveLength(1000);
  });
});

/** A request of each kind, that nothing is wrong with. */
const requests: Record<string, Buffer> = {
  ApiVersions: request(API_VERSIONS, 2, 1),
  Metadata: request(METADATA, 5, 1, metadataBody(5, ['made'])),
  // Here the name comes last: a part of one would be a name too.
  'Metadata 0': request(METADATA, 0, 1, metadataBody(0, ['made'])),
  Produce: request(PRODUCE, 7, 1, produceBody([{ topic: 't', records: batch({ size: 50 }) }])),
  Fetch: request(FETCH, 11, 1, fetchBody(11, [{ topic: 't' }], { minBytes: 1 })),
  ListOffsets: request(LIST_OFFSETS, 3, 1, listOffsetsBody(3, [{ topic: 't', timestamp: -1 }])),
  FindCoordinator: request(FIND_COORDINATOR, 1, 1, findCoordinatorBody(1, 'group')),
};

/** The same, all that follows its header replaced. */
const withBody = (api: number, version: number, body: Buffer) => request(api, version, 1, body);

describe('what it closes the connection for', () => {
  const lastMinusOne = (body: Buffer) => body.subarray(0, -1);
  const huge = int32(0x7fffffff);
  const bad: [string, Buffer][] = [
    ['a frame of -1 bytes', frame(Buffer.alloc(20), -1)],
    ['a frame of -2147483648 bytes', frame(Buffer.alloc(20), -0x80000000)],
    ['a frame of 2147483647 bytes', frame(Buffer.alloc(20), 0x7fffffff)],
    ['a frame of 100 MiB and a byte', frame(Buffer.alloc(20), 100 * MIB + 1)],
    ['an empty frame', frame(Buffer.alloc(0))],
    ...[1, 2, 7, 8, 9].map((length): [string, Buffer] => [
      `a frame of ${length} bytes`,
      frame(requests.Metadata?.subarray(4, 4 + length) as Buffer),
    ]),
    ['HTTP', Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')],
    ['TLS', Buffer.from('16030102000100', 'hex')],
    ...[2 ** 15 - 1, -1, 4, 8, 9, 11, 17, 19, 22, 36].map((api): [string, Buffer] => [
      `API ${api}`,
      request(api, 0, 1),
    ]),
    ...APIS.filter(([, api]) => api !== API_VERSIONS).flatMap(([name, api, min, max]) =>
      [min - 1, max + 1, 99, -1, 0x7fff].map((version): [string, Buffer] => [
        `${name} ${version}`,
        request(api, version, 1, requests[name]?.subarray(18)),
      ]),
    ),
    ['a client id beyond the frame', frame(concat(int16(18), int16(0), int32(1), int16(0x7fff)))],
    ['Metadata: absurd count', withBody(METADATA, 5, concat(huge, string('x'), int8(1)))],
    ['Metadata: absurd length', withBody(METADATA, 5, concat(int32(1), int16(0x7fff), int8(1)))],
    ['Metadata: a null name', withBody(METADATA, 5, concat(array([string(null)]), int8(1)))],
    ['Metadata: a byte too few', withBody(METADATA, 5, lastMinusOne(metadataBody(5, ['x'])))],
    ['Metadata: a byte too many', withBody(METADATA, 5, concat(metadataBody(5, ['x']), int8(0)))],
    [
      'Metadata: more than a MiB of names',
      withBody(METADATA, 5, metadataBody(5, Array(100).fill('x'.repeat(20_000)))),
    ],
    [
      'Produce: absurd count of topics',
      withBody(PRODUCE, 7, concat(string(null), int16(-1), int32(0), huge)),
    ],
    [
      'Produce: absurd count of partitions',
      withBody(PRODUCE, 7, concat(string(null), int16(-1), int32(0), int32(1), string('t'), huge)),
    ],
    [
      'Produce: records beyond the frame',
      withBody(
        PRODUCE,
        7,
        concat(
          ...[string(null), int16(-1), int32(0), int32(1), string('t'), int32(1), int32(0)],
          ...[int32(1000), batch({ size: 100 })],
        ),
      ),
    ],
    [
      'Produce: a byte too many',
      withBody(PRODUCE, 7, concat(produceBody([{ topic: 'none', records: batch() }]), int8(0))),
    ],
    [
      'Fetch: absurd count of topics',
      withBody(FETCH, 4, concat(int32(-1), int32(0), int32(0), int32(1000), int8(0), huge)),
    ],
    ['Fetch: a byte too few', withBody(FETCH, 11, lastMinusOne(fetchBody(11, [{ topic: 't' }])))],
    [
      'Fetch: a byte too many',
      withBody(FETCH, 11, concat(fetchBody(11, [{ topic: 't' }]), int8(0))),
    ],
    ['ListOffsets: absurd count', withBody(LIST_OFFSETS, 3, concat(int32(-1), int8(0), huge))],
    ['FindCoordinator: a null key', withBody(FIND_COORDINATOR, 0, string(null))],
    ['ApiVersions: a byte too many', withBody(API_VERSIONS, 2, int8(0))],
  ];

  test('one at a time', async () => {
    const log = await openLog();
    await expectUntouched(log);
    const files = tree(log.folder);
    await leavesNothing(async () => {
      for (const [what, bytes] of bad) {
        const client = log.connect();
        client.write(bytes);
        await until(() => client.gone !== '', `it closes for ${what}`);
        expect([what, client.gone]).toEqual([what, expect.stringMatching(/^(end|ECONNRESET)$/)]);
        expect([what, client.arrived]).toEqual([what, []]);
        client.close();
      }
    });
    await expectUntouched(log);
    expect(tree(log.folder)).toEqual(files);
  });

  test('behind a good request, which is answered', async () => {
    const log = await openLog();
    for (const [what, bytes] of bad) {
      const client = log.connect();
      client.write(concat(request(API_VERSIONS, 0, 99), bytes));
      // A reset could overtake the answer, and tells the client no more than the end does.
      await client.ended;
      expect([what, client.arrived]).toEqual([what, [99]]);
      client.close();
    }
    await expectUntouched(log);
  });

  test('it says why', async () => {
    const log = await openLog();
    const client = log.connect();
    client.write(frame(Buffer.alloc(20), -1));
    await client.ended;
    await logged(log, /^closed 127\.0\.0\.1:\d+: \S/);
    expect(log.lines.filter((line) => line.startsWith('closed'))).toHaveLength(1);
  });
});

describe('frames cut off at every byte', () => {
  test.each(
    Object.keys(requests).flatMap((name) => [
      [name, 'ended', Number.POSITIVE_INFINITY] as const,
      [name, 'reset', 0] as const,
    ]),
  )('%s, %s', async (name, how, spliceFrom) => {
    const log = await openLog({ spliceFrom });
    const files = tree(log.folder);
    const bytes = requests[name] as Buffer;
    await leavesNothing(async () => {
      for (let at = 1; at < bytes.length; at++) {
        const client = log.connect();
        client.write(bytes.subarray(0, at));
        if (how === 'ended') {
          client.socket.end();
          await client.ended;
        } else {
          if (at % 4 === 0) await sleep(1); // now and then it has begun to read
          client.socket.resetAndDestroy();
        }
        expect([at, client.arrived]).toEqual([at, []]);
        client.close();
      }
    });
    await expectUntouched(log);
    expect(tree(log.folder)).toEqual(files);
    expect(log.lines.filter((line) => /^produce .* bytes at offset/.test(line))).toHaveLength(1);
  });

  test.each(ways)('a large batch, by $way', async ({ way, spliceFrom, size }) => {
    const log = await openLog({ spliceFrom });
    const whole = request(PRODUCE, 7, 1, produceBody([{ topic: 't', records: batch({ size }) }]));
    await leavesNothing(async () => {
      const cuts = [61, 100, 122, 123, 130, 1000, 4096, 65_536, 65_537, 131_072, 200_000];
      for (const at of [...cuts, whole.length - 1]) {
        for (const pause of [0, 5]) {
          const client = log.connect();
          client.write(whole.subarray(0, 61));
          await sleep(pause);
          if (at > 61) client.write(whole.subarray(61, at));
          if (pause > 0) {
            await sleep(pause);
            client.socket.resetAndDestroy();
          } else {
            client.socket.end();
            await client.ended;
          }
          expect(client.arrived).toEqual([]);
          client.close();
        }
      }
    });
    await expectUntouched(log);
    const client = log.connect();
    expect(await client.produce('t', batch({ size }))).toMatchObject({ error: 0, baseOffset: 2 });
    await logged(log, new RegExp(`^produce t-0: \\d+ bytes at offset 2 by ${way}$`));
    const batches = readBatches(logOf(log.folder, 't'));
    expect(batches.map(({ baseOffset }) => baseOffset)).toEqual([0, 2]);
  });

  test('in pieces of a byte each, it is answered', async () => {
    for (const { spliceFrom } of ways) {
      const log = await openLog({ spliceFrom: Math.min(spliceFrom, 64) });
      const client = log.connect();
      const bytes = concat(
        request(METADATA, 5, 1, metadataBody(5, ['t'])),
        request(PRODUCE, 7, 2, produceBody([{ topic: 't', records: batch({ size: 300 }) }])),
        request(FETCH, 11, 3, fetchBody(11, [{ topic: 't' }])),
      );
      for (const byte of bytes) {
        client.write(Buffer.of(byte));
        await new Promise(setImmediate);
      }
      expect(readMetadata(5, await client.answer(1)).topics[0]?.error).toBe(0);
      expect(readProduce(7, await client.answer(2)).topics[0]?.partitions).toMatchObject([
        { error: 0, baseOffset: 2 },
      ]);
      const answer = readFetch(11, await client.answer(3));
      const batches = readBatches(answer.topics[0]?.partitions[0]?.records as Buffer);
      expect(batches.map(({ baseOffset }) => baseOffset)).toEqual([0, 2]);
    }
  });
});

/** A generator of numbers below 1 that is the same each time. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

describe('fuzz', () => {
  const FRAMES = 1500;
  const bases = [
    ...Object.values(requests),
    request(PRODUCE, 3, 1, produceBody([{ topic: 't', records: batch({ size: 3000 }) }])),
    request(FETCH, 4, 1, fetchBody(4, [{ topic: 't', offset: 1 }, { topic: 'u' }])),
    request(METADATA, 0, 1, metadataBody(0, ['made', 't'])),
    request(PRODUCE, 5, 1, produceBody([{ topic: 't', records: null }], { acks: 0 })),
  ];

  function mutate(base: Buffer, random: () => number): Buffer {
    let bytes: Buffer = Buffer.from(base);
    const place = () => Math.floor(random() * bytes.length);
    for (let n = 1 + Math.floor(random() * 4); n > 0 && bytes.length > 4; n--) {
      const kind = Math.floor(random() * 6);
      const at = place();
      if (kind === 0) bytes[at] = Math.floor(random() * 256);
      else if (kind === 1) bytes[at] = (bytes[at] as number) ^ (1 << Math.floor(random() * 8));
      else if (kind === 2)
        bytes.fill(random() < 0.5 ? 0 : 0xff, at, Math.min(at + 4, bytes.length));
      else if (kind === 3) bytes = concat(bytes.subarray(0, at), bytes.subarray(place()));
      else if (kind === 4 && at + 4 <= bytes.length) bytes.writeInt32BE(0x7fffffff, at);
      else if (kind === 5) bytes = pattern(8 + Math.floor(random() * 200), n + at);
    }
    // Most of the time it goes on to be a frame, and the rest of it is looked at.
    if (random() < 0.8 && bytes.length > 4) bytes.writeInt32BE(bytes.length - 4);
    return bytes;
  }

  test.each([
    ['memory', Number.POSITIVE_INFINITY, 1],
    ['splice', 0, 2],
  ])('frames with something wrong, %s', async (_way, spliceFrom, seed) => {
    const scratch = scratchFolder();
    const log = await openLog({ spliceFrom, folder: path.join(scratch, 'log') });
    const random = seeded(seed);
    const one = async (bytes: Buffer) => {
      const client = log.connect();
      client.write(bytes);
      // A fetch would go on to wait: its client may only have ended its requests.
      const isFetch = bytes.length >= 6 && bytes.readInt16BE(4) === FETCH;
      if (random() < 0.5 && !isFetch) client.socket.end();
      // A frame that is too long is waited for, and so is a fetch.
      const waited = new Promise((resolve) => setTimeout(resolve, 15));
      await Promise.race([client.ended, client.answer(1).catch(() => {}), waited]);
      // Node's resetAndDestroy() fails while a shutdown(2) is under way, and the socket is never closed.
      const { writableEnded, writableFinished } = client.socket;
      if (writableEnded && !writableFinished) client.socket.destroy();
      else client.socket.resetAndDestroy();
    };
    await leavesNothing(async () => {
      for (let n = 0; n < FRAMES; n += 10) {
        const group = Array.from({ length: 10 }, () =>
          mutate(bases[Math.floor(random() * bases.length)] as Buffer, random),
        );
        await Promise.all(group.map(one));
      }
    }, log);
    // What has been mutated may still be good, and is in the log then; anything else isn't.
    const client = log.connect();
    const { error, records } = await client.read('t');
    expect(error).toBe(0);
    expect(records.equals(logOf(log.folder, 't'))).toBe(true);
    expect(records.subarray(0, log.first.length).equals(log.first)).toBe(true);
    readBatches(records);
    expect(fs.readdirSync(scratch)).toEqual(['log']);
    for (const name of fs.readdirSync(log.folder)) expect(name).toMatch(/^[\w.-]{1,249}-0$/);
    for (const name of tree(log.folder)) {
      expect(name).toMatch(/^[\w.-]+-0\/(0{20}\.log: \d+)?$/);
    }
    // And as it stands it can be opened.
    await log.close();
    const again = await openBroker({ folder: log.folder });
    expect((await again.connect().read('t')).records.equals(records)).toBe(true);
  });
});

describe(`memory${noMeasuring}`, () => {
  const statusOf = (pid: number, field: string) => {
    const status = fs.readFileSync(`/proc/${pid}/status`, 'utf8');
    return Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]) * KIB;
  };
  const upTo = (most: number, size: number) => {
    const records = concat(int64(0), int32(size - 12), int32(0), int8(2), Buffer.alloc(most));
    const topics = concat(int32(1), string('t'), int32(1), int32(0), int32(size), records);
    const body = concat(int16(PRODUCE), int16(7), int32(1), string('x'), string(null), int16(1));
    return frame(concat(body, int32(1000), topics), size + 1000);
  };

  test.each<[string, (client: Client) => void]>([
    // The header of a batch has to agree with itself to be waited for.
    ['large batches begun', (client) => client.write(begunBatch(15 * MIB, 1000))],
    ['batches that are too large begun', (client) => client.write(upTo(64 * KIB, 90 * MIB))],
    ['names without end', (client) => client.write(frame(Buffer.alloc(60 * KIB, 1), 100 * MIB))],
    [
      'requests whose answers are not read',
      (client) => {
        client.socket.pause();
        const all = request(METADATA, 5, 1, metadataBody(5, null));
        client.write(concat(...Array<Buffer>(4000).fill(all)));
      },
    ],
    [
      'fetches whose answers are not read',
      (client) => {
        client.socket.pause();
        const body = fetchBody(11, Array(50).fill({ topic: 't' }));
        client.write(concat(...Array<Buffer>(100).fill(request(FETCH, 11, 1, body))));
      },
    ],
  ])('%s', async (_what, start) => {
    const broker = await startBroker('--splice-from', '100000000');
    const pid = broker.child.pid as number;
    const client = new Client(broker.port);
    await client.metadata(Array.from({ length: 100 }, (_, i) => `topic-${i}`));
    await client.metadata(['t']);
    await client.produce('t', batch({ size: MIB }));
    const [before, descriptors] = [statusOf(pid, 'VmRSS'), broker.descriptors()];
    const clients = Array.from({ length: 100 }, () => new Client(broker.port));
    for (const other of clients) start(other);
    for (let i = 0; i < 10; i++) {
      await sleep(50);
      expect((await client.apiVersions()).error).toBe(0);
    }
    // A MiB for each is plenty. V8 lets garbage lie, since Node 26 more of it.
    const most = Number.parseInt(process.versions.node, 10) < 26 ? 150 : 250;
    if (!hasSanitizers) expect(statusOf(pid, 'VmHWM') - before).toBeLessThan(most * MIB);
    for (const other of clients) other.socket.resetAndDestroy();
    // But for a few that zerocopy keeps from its first transfer on.
    await until(() => broker.descriptors() <= descriptors + 4, 'they are closed');
    expect((await client.produce('t', batch())).baseOffset).toBe(1);
    await broker.stop();
  });
});

/** A Produce request of a batch of `size` bytes, of which so many are there. */
function begunBatch(size: number, there: number): Buffer {
  const records = Buffer.alloc(there);
  batch().copy(records, 0, 0, 61);
  records.writeInt32BE(size - 12, 8);
  const { length } = request(PRODUCE, 7, 1, produceBody([{ topic: 't', records }]));
  const bytes = request(PRODUCE, 7, 1, produceBody([{ topic: 't', records }]));
  bytes.writeInt32BE(length - 4 - there + size, 0);
  bytes.writeInt32BE(size, length - there - 4);
  return bytes;
}
