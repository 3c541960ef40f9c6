// examples/kafka-log, as kafkajs's producer uses it; kcat reads what it has produced.
import { CompressionTypes } from 'kafkajs';
import { describe, expect, onTestFinished, test } from 'vitest';
import { pattern } from './helpers/files';
import { expectSame } from './helpers/http';
import { type Batch, type Broker, kcat, readLog, startBroker } from './helpers/kafka';
import { kafkajs, startProducer, tap } from './helpers/kafkajs';
import { until } from './helpers/process';

const MIB = 1024 * 1024;

const consume = (broker: Broker, topic: string, ...args: string[]) =>
  kcat(broker, ['-C', '-e', '-q', '-X', 'fetch.wait.max.ms=10', '-t', topic, '-o', '0', ...args]);

const texts = (count: number, what = 'message') =>
  Array.from({ length: count }, (_, i) => ({ value: `${what} ${i}` }));

const printed = (messages: { value: string }[]) =>
  messages.map(({ value }) => `${value}\n`).join('');

/** Fails unless a batch is on disk as it was sent, but for its base offset. */
function expectUntouched(batch: Batch, sent: Buffer): void {
  expect(sent.indexOf(batch.bytes.subarray(8))).toBeGreaterThan(0);
}

describe('acks', () => {
  test.each([
    { acks: -1, codec: 'none', compression: CompressionTypes.None },
    { acks: 1, codec: 'none', compression: CompressionTypes.None },
    { acks: 0, codec: 'none', compression: CompressionTypes.None },
    { acks: -1, codec: 'gzip', compression: CompressionTypes.GZIP },
    { acks: 1, codec: 'gzip', compression: CompressionTypes.GZIP },
    { acks: 0, codec: 'gzip', compression: CompressionTypes.GZIP },
  ])('$acks, $codec', async ({ acks, codec, compression }) => {
    const broker = await startBroker();
    const { socketFactory, sent } = tap();
    const producer = await startProducer(broker, { socketFactory });
    const messages = texts(300);
    for (let i = 0; i < 3; i++) {
      const some = messages.slice(i * 100, (i + 1) * 100);
      const results = await producer.send({ topic: 'topic', messages: some, acks, compression });
      if (acks === 0) expect(results).toEqual([]);
      else {
        const result = { partition: 0, errorCode: 0, baseOffset: String(i * 100) };
        expect(results).toMatchObject([{ topicName: 'topic', ...result }]);
      }
    }
    await until(() => broker.produced().length === 3, 'all is there');
    expect(String(await consume(broker, 'topic'))).toBe(printed(messages));
    const batches = readLog(broker, 'topic');
    expect(batches.map((batch) => batch.codec)).toEqual([codec, codec, codec]);
    for (const batch of batches) expectUntouched(batch, sent());
    await broker.stop();
  });

  test('acks that there are none of', async () => {
    const broker = await startBroker();
    const producer = await startProducer(broker);
    const sent = producer.send({ topic: 'topic', messages: texts(1), acks: 2 });
    await expect(sent).rejects.toMatchObject({ type: 'INVALID_REQUIRED_ACKS' });
    await producer.send({ topic: 'topic', messages: texts(1) });
    expect(String(await consume(broker, 'topic'))).toBe('message 0\n');
  });
});

test('several topics and partitions in one request, small and large batches in turn', async () => {
  const broker = await startBroker('--partitions', '3');
  const { socketFactory, sent } = tap();
  const producer = await startProducer(broker, { socketFactory });
  const large = pattern(100_000).toString('base64');
  const topics = ['first', 'second', 'third'];
  const messagesOf = (topic: string) =>
    [0, 1, 2].flatMap((partition) => {
      // Every other batch is large.
      const isLarge = (topics.indexOf(topic) + partition) % 2 === 1;
      return texts(10, `${topic} ${partition} ${isLarge ? large.slice(partition) : ''}`).map(
        (message) => ({ ...message, partition }),
      );
    });
  const topicMessages = topics.map((topic) => ({ topic, messages: messagesOf(topic) }));
  for (let round = 0; round < 2; round++) {
    const results = await producer.sendBatch({ topicMessages });
    expect(results).toHaveLength(9);
    for (const { errorCode, baseOffset } of results) {
      expect({ errorCode, baseOffset }).toEqual({ errorCode: 0, baseOffset: String(round * 10) });
    }
  }
  for (const { topic, messages } of topicMessages) {
    for (const partition of [0, 1, 2]) {
      const own = printed(messages.filter((message) => message.partition === partition));
      const consumed = await consume(broker, topic, '-p', String(partition));
      expectSame(consumed, Buffer.from(own + own));
      const batches = readLog(broker, topic, partition);
      expect(batches).toHaveLength(2);
      for (const batch of batches) expectUntouched(batch, sent());
    }
  }
  for (const { bytes, backend } of broker.produced()) {
    expect(backend).toBe(bytes > MIB ? 'splice' : 'memory');
  }
  expect(broker.produced()).toHaveLength(18);
  await broker.stop();
});

test('requests that are sent without waiting for answers', async () => {
  const broker = await startBroker();
  const { socketFactory, sent } = tap();
  const producer = await startProducer(broker, { socketFactory });
  const values = Array.from({ length: 40 }, (_, i) =>
    // Spliced ones and others, behind each other in the socket.
    i % 3 === 0 ? pattern(700_000, i).toString('latin1') : `small ${i}.`,
  );
  const asked = [...values];
  await producer.send({ topic: 'topic', messages: [{ value: 'first' }] });
  const results = await Promise.all(
    values.map((value) => producer.send({ topic: 'topic', messages: [{ value }] })),
  );
  // kafkajs encodes them all at once, and sends what is ready.
  const bytes = sent();
  const at = (value: string) => bytes.indexOf(value);
  const ordered = values.sort((a, b) => at(a) - at(b));
  const offsets = new Map(results.map(([result], i) => [asked[i], Number(result?.baseOffset)]));
  expect(ordered.map((value) => offsets.get(value))).toEqual(ordered.map((_, i) => i + 1));
  const consumed = await consume(broker, 'topic', '-f', '%s');
  expectSame(consumed, Buffer.from(['first', ...ordered].join('')));
  await broker.stop();
});

test('a message that is as large as may be, and one that is larger', async () => {
  const broker = await startBroker('--max-batch-bytes', String(8 * MIB));
  const producer = await startProducer(broker);
  const value = pattern(8 * MIB - 200, 3);
  await producer.send({ topic: 'topic', messages: [{ value }] });
  const tooLarge = producer.send({ topic: 'topic', messages: [{ value: pattern(8 * MIB) }] });
  await expect(tooLarge).rejects.toMatchObject({ type: 'MESSAGE_TOO_LARGE' });
  // The connection is of use still.
  await producer.send({ topic: 'topic', messages: [{ value: 'small' }] });
  expectSame(await consume(broker, 'topic', '-c', '1', '-f', '%s'), value);
  expect(String(await consume(broker, 'topic', '-o', '1', '-f', '%s'))).toBe('small');
  expect(broker.produced().map(({ backend, error }) => backend ?? error)).toEqual([
    'splice',
    'MESSAGE_TOO_LARGE',
    'memory',
  ]);
  await broker.stop();
});

test('keys, headers, NULLs and times', async () => {
  const broker = await startBroker();
  const producer = await startProducer(broker);
  await producer.send({
    topic: 'topic',
    messages: [
      { key: 'k', value: 'v', headers: { h: 'ü', list: ['1', '2'] }, timestamp: '1000' },
      { key: null, value: null, timestamp: '2000' },
    ],
  });
  await producer.send({ topic: 'topic', messages: [{ value: 'third', timestamp: '3000' }] });
  const consumed = String(await consume(broker, 'topic', '-J'))
    .trim()
    .split('\n');
  expect(consumed.map((line) => JSON.parse(line))).toMatchObject([
    { offset: 0, ts: 1000, key: 'k', payload: 'v', headers: ['h', 'ü', 'list', '1', 'list', '2'] },
    { offset: 1, ts: 2000, key: null, payload: null },
    { offset: 2, ts: 3000, payload: 'third' },
  ]);
  // kcat's -o that comes last counts. Times lead to batches.
  expect(String(await consume(broker, 'topic', '-o', 's@2500', '-f', '%o '))).toBe('2 ');
  expect(String(await consume(broker, 'topic', '-o', 's@2000', '-f', '%o '))).toMatch(
    /^(0 )?1 2 $/,
  );
});

test('its admin client: topics, partitions, offsets', async () => {
  const broker = await startBroker('--partitions', '2');
  const producer = await startProducer(broker);
  for (const topic of ['one', 'two']) {
    const messages = texts(5).map((message) => ({ ...message, partition: 1, timestamp: '1000' }));
    await producer.send({ topic, messages });
  }
  const admin = kafkajs(broker).admin();
  onTestFinished(() => admin.disconnect());
  await admin.connect();
  expect((await admin.listTopics()).sort()).toEqual(['one', 'two']);
  const cluster = await admin.describeCluster();
  const [host, port] = broker.address.split(':');
  expect(cluster.brokers).toMatchObject([{ host, port: Number(port) }]);
  const { topics } = await admin.fetchTopicMetadata({ topics: ['one'] });
  expect(topics).toMatchObject([{ name: 'one' }]);
  const ids = topics[0]?.partitions.map(({ partitionId }) => partitionId);
  expect(ids?.sort()).toEqual([0, 1]);
  const offsets = await admin.fetchTopicOffsets('one');
  expect(offsets.sort((a, b) => a.partition - b.partition)).toEqual([
    { partition: 0, offset: '0', low: '0', high: '0' },
    { partition: 1, offset: '5', low: '0', high: '5' },
  ]);
  const byTime = await admin.fetchTopicOffsetsByTimestamp('one', 500);
  expect(byTime.sort((a, b) => a.partition - b.partition)).toEqual([
    { partition: 0, offset: '0' }, // none: the end
    { partition: 1, offset: '0' },
  ]);
  const misnamed = producer.send({ topic: 'a/b', messages: texts(1) });
  await expect(misnamed).rejects.toMatchObject({ cause: { type: 'INVALID_TOPIC_EXCEPTION' } });
});

test('kafkajs and kcat produce to one partition, kcat follows', async () => {
  const broker = await startBroker();
  const producer = await startProducer(broker);
  await producer.send({ topic: 'topic', messages: [{ value: 'k 0' }] });
  const following = ['-C', '-q', '-t', 'topic', '-o', '0', '-c', '141'];
  const followed = kcat(broker, following);
  for (let i = 1; i <= 60; i++) {
    const value = `k ${i}${i % 15 === 0 ? 'x'.repeat(500_000) : ''}`;
    const compression = i % 2 === 0 ? CompressionTypes.GZIP : CompressionTypes.None;
    const args = ['-P', '-t', 'topic', '-p', '0', '-z', 'lz4'];
    await Promise.all([
      producer.send({ topic: 'topic', messages: [{ value }], compression }),
      i % 15 === 0 && kcat(broker, args, { input: printed(texts(20, `c ${i}`)) }),
    ]);
  }
  const lines = String(await followed)
    .trim()
    .split('\n');
  expect(lines).toHaveLength(141);
  const own = lines
    .filter((line) => line.startsWith('k'))
    .map((line) => Number.parseInt(line.slice(2), 10));
  expect(own).toEqual(Array.from({ length: 61 }, (_, i) => i));
  const kcats = lines.filter((line) => line.startsWith('c'));
  for (const i of [15, 30, 45, 60]) {
    expect(kcats.filter((line) => line.startsWith(`c ${i} `))).toEqual(
      texts(20, `c ${i}`).map(({ value }) => value),
    );
  }
  readLog(broker, 'topic');
  await broker.stop();
});
