// examples/kafka-log, as kcat uses it.
import { execFile, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { pattern, scratchFolder } from './helpers/files';
import { expectSame } from './helpers/http';
import {
  type Broker,
  codecs,
  kcat,
  program,
  readLog,
  startBroker,
  startBrokerWith,
  startKcat,
} from './helpers/kafka';
import { sleep, until } from './helpers/process';
import { foreignEnvironment } from './helpers/sanitizers';
import { whyNoStrace } from './helpers/skips';

const KIB = 1024;
const MIB = 1024 * KIB;

/** So many numbered lines of `length` bytes each, the newline among them, that compress a little. */
function writeLines(file: string, count: number, length: number, first = 0): void {
  const fd = fs.openSync(file, 'w');
  const filler = pattern(64 * KIB).toString('hex');
  for (let at = 0; at < count; at += 10_000) {
    let text = '';
    for (let i = at; i < Math.min(count, at + 10_000); i++) {
      const number = String(first + i).padStart(9, '0');
      const start = (i * 61) % (filler.length - length);
      text += `${number} ${filler.slice(start, start + length - 11)}\n`;
    }
    fs.writeSync(fd, text);
  }
  fs.closeSync(fd);
}

function lines(count: number, length: number): { file: string; content: Buffer } {
  const file = path.join(scratchFolder(), 'lines');
  writeLines(file, count, length);
  return { file, content: fs.readFileSync(file) };
}

const digest = async (file: string) => {
  const hash = createHash('sha256');
  for await (const chunk of fs.createReadStream(file, { highWaterMark: MIB })) hash.update(chunk);
  return hash.digest('hex');
};

// An end is told when a fetch has brought nothing.
const QUICK = ['-q', '-X', 'fetch.wait.max.ms=10'];

/** What a topic has, by lines, from `offset` to its end. */
const consume = (broker: Broker, topic: string, offset: string | number, ...args: string[]) =>
  kcat(broker, ['-C', '-e', ...QUICK, '-t', topic, '-o', String(offset), ...args]);

/** One message a line. */
const produce = (broker: Broker, topic: string, file: string, ...args: string[]) =>
  kcat(broker, ['-P', '-t', topic, ...args, '-l', file]);

/** A message of its own, in a batch of its own. */
function produceText(broker: Broker, topic: string, text: string, ...args: string[]) {
  const file = path.join(scratchFolder(), 'text');
  fs.writeFileSync(file, text);
  return kcat(broker, ['-P', '-t', topic, ...args, file]);
}

/** kcat's metadata. */
async function metadata(broker: Broker, ...args: string[]) {
  const { brokers, topics } = JSON.parse(String(await kcat(broker, ['-L', '-J', ...args])));
  return { brokers, topics } as {
    brokers: { id: number; name: string }[];
    topics: { topic: string; error?: string; partitions: { partition: number }[] }[];
  };
}

const sum = (numbers: number[]) => numbers.reduce((a, b) => a + b, 0);

describe('byte for byte', () => {
  test.each(codecs)('a file of messages, %s', async (codec) => {
    const broker = await startBroker();
    const { file, content } = lines(20_000, 200);
    await produce(broker, 'lines', file, '-p', '0', '-z', codec);
    const to = path.join(scratchFolder(), 'consumed');
    await kcat(broker, ['-C', '-e', ...QUICK, '-t', 'lines', '-o', 'beginning'], { to });
    expectSame(fs.readFileSync(to), content);

    const one = await consume(broker, 'lines', 12_345, '-c', '1');
    expectSame(one, content.subarray(12_345 * 200, 12_346 * 200));

    const batches = readLog(broker, 'lines');
    expect(sum(batches.map(({ count }) => count))).toBe(20_000);
    // What compressing would make larger, librdkafka sends as it is: a batch of a line or two.
    const some = batches.filter(({ count }) => count > 10);
    expect(new Set(some.map((batch) => batch.codec))).toEqual(new Set([codec]));
    const stored = sum(batches.map(({ bytes }) => bytes.length));
    if (codec !== 'none') expect(stored).toBeLessThan(content.length);
    expect(sum(broker.produced('lines').map(({ bytes }) => bytes))).toBe(stored);
    expect(broker.produced('lines')).toHaveLength(batches.length);
    const fetched = broker.fetched();
    expect(sum(fetched.map(({ bytes }) => bytes))).toBeGreaterThanOrEqual(stored);
    for (const { bytes, backend } of fetched) {
      if (bytes > 32 * KIB) expect(backend).toBe('sendfile');
      else expect(['read', 'sendfile']).toContain(backend);
    }
    await broker.stop();
  });

  test.each(['default', 'never'])('one message of several MiB, spliced: %s', async (spliced) => {
    const limits = ['--max-batch-bytes', String(32 * MIB)];
    const never = spliced === 'never' ? ['--splice-from', '1000000000'] : [];
    const broker = await startBroker(...limits, ...never);
    const file = path.join(scratchFolder(), 'message');
    const message = pattern(20 * MIB + 1);
    fs.writeFileSync(file, message);
    await kcat(broker, ['-P', '-t', 'large', '-X', 'message.max.bytes=50000000', file]);
    const [answer, ...more] = broker.produced();
    expect(more).toEqual([]);
    expect(answer).toMatchObject({ backend: spliced === 'never' ? 'memory' : 'splice', offset: 0 });
    expectSame(await consume(broker, 'large', 'beginning', '-f', '%s'), message);
    expect(broker.fetched()).toMatchObject([{ backend: 'sendfile', bytes: answer?.bytes }]);
    expect(readLog(broker, 'large')).toHaveLength(1);
    await broker.stop();
  });

  test('small batches go through memory and come by read, large ones by splice and sendfile', async () => {
    const broker = await startBroker();
    await produceText(broker, 'small', 'tiny');
    await produceText(broker, 'small', 'small');
    const { file, content } = lines(2000, 1000);
    const large = ['-X', 'linger.ms=1000', '-X', 'batch.size=900000'];
    await produce(broker, 'large', file, '-p', '0', ...large);
    expect(String(await consume(broker, 'small', 0, '-f', '[%s]'))).toBe('[tiny][small]');
    expectSame(await consume(broker, 'large', 0), content);
    const ways = (answers: { backend?: string | undefined }[]) => [
      ...new Set(answers.map(({ backend }) => backend)),
    ];
    expect(ways(broker.produced('small'))).toEqual(['memory']);
    const { length } = broker.produced('large');
    const spliced = broker.produced('large').filter(({ bytes }) => bytes > 500_000);
    expect(ways(spliced)).toEqual(['splice']);
    expect(spliced.length).toBeGreaterThanOrEqual(length - 1); // the last one may be short
    const fetched = broker.fetched();
    expect(ways(fetched.filter(({ bytes }) => bytes < 1000))).toEqual(['read']);
    expect(ways(fetched.filter(({ bytes }) => bytes > 64 * KIB))).toEqual(['sendfile']);
  });

  test('keys, headers, empty messages and NULLs, timestamps', async () => {
    const broker = await startBroker();
    const file = path.join(scratchFolder(), 'keyed');
    fs.writeFileSync(file, 'a:1\nb:\n:3\nä:ö');
    const before = Date.now();
    await produce(broker, 'keyed', file, '-p', '0', '-Z', '-K', ':', '-H', 'h=1', '-H', 'i=ü');
    const envelopes = String(await consume(broker, 'keyed', 0, '-J'))
      .trim()
      .split('\n');
    const messages = envelopes.map((line) => JSON.parse(line));
    const headers = ['h', '1', 'i', 'ü'];
    expect(messages).toMatchObject([
      { offset: 0, key: 'a', payload: '1', headers },
      { offset: 1, key: 'b', payload: null, headers },
      { offset: 2, key: null, payload: '3', headers },
      { offset: 3, key: 'ä', payload: 'ö', headers },
    ]);
    for (const { ts, tstype } of messages) {
      expect(tstype).toBe('create');
      expect(ts).toBeGreaterThanOrEqual(before);
      expect(ts).toBeLessThanOrEqual(Date.now());
    }
  });

  test('without native code', async () => {
    const broker = await startBrokerWith({ env: { ZEROCOPY_BACKEND: 'stream' } });
    const { file, content } = lines(20_000, 200);
    await produce(broker, 'lines', file, '-p', '0', '-z', 'zstd');
    await produceText(broker, 'large', String(content), '-X', 'message.max.bytes=10000000');
    expectSame(await consume(broker, 'lines', 0), content);
    expectSame(await consume(broker, 'large', 0, '-f', '%s'), content);
    expect(new Set(broker.fetched().map(({ backend }) => backend))).toEqual(new Set(['stream']));
    expect(broker.produced('large')).toMatchObject([{ backend: 'stream' }]);
    expect(broker.produced('lines').map(({ backend }) => backend)).not.toContain('splice');
    expect(sum(readLog(broker, 'lines').map(({ count }) => count))).toBe(20_000);
    await broker.stop();
  });
});

describe('where it begins and ends', () => {
  test('from any offset, also amid a batch', async () => {
    const broker = await startBroker('--segment-bytes', '20000');
    const { file, content } = lines(1000, 100);
    await produce(broker, 'lines', file, '-p', '0', '-X', 'batch.num.messages=10');
    expect(readLog(broker, 'lines').length).toBeGreaterThanOrEqual(100);
    const from = (first: number, count = 1000) =>
      String(content.subarray(first * 100, (first + count) * 100));

    for (const offset of [0, 1, 9, 10, 537, 999]) {
      expect(String(await consume(broker, 'lines', offset))).toBe(from(offset));
    }
    expect(String(await consume(broker, 'lines', 'beginning'))).toBe(from(0));
    for (const count of [1, 10, 15, 1000]) {
      expect(String(await consume(broker, 'lines', -count))).toBe(from(1000 - count));
    }
    expect(String(await consume(broker, 'lines', 'end'))).toBe('');
    expect(String(await consume(broker, 'lines', 1000))).toBe('');
    for (const [offset, count] of [
      [0, 1],
      [537, 5],
      [995, 5],
      [8, 500],
    ] as const) {
      const some = await consume(broker, 'lines', offset, '-c', String(count));
      expect(String(some)).toBe(from(offset, count));
    }
    // Out of range: the beginning, if so asked, or an error.
    const reset = ['-X', 'topic.auto.offset.reset=earliest'];
    expect(String(await consume(broker, 'lines', 1001, ...reset))).toBe(from(0));
    const error = ['-X', 'topic.auto.offset.reset=error'];
    await expect(consume(broker, 'lines', 1001, ...error)).rejects.toThrow(/out of range/i);
  });

  test('from a time', async () => {
    const broker = await startBroker();
    for (const text of ['one', 'two', 'three']) {
      await produceText(broker, 'timed', text);
      await sleep(20);
    }
    const [one = 0, two = 0, three = 0] = String(await consume(broker, 'timed', 0, '-f', '%T '))
      .split(' ')
      .map(Number);
    for (const [time, texts] of [
      [0, 'one two three '],
      [one, 'one two three '],
      [one + 1, 'two three '],
      [two, 'two three '],
      [three, 'three '],
      [three + 1, ''],
    ] as const) {
      expect(String(await consume(broker, 'timed', `s@${time}`, '-f', '%s '))).toBe(texts);
    }
    const asked = (time: number) => kcat(broker, ['-Q', '-t', `timed:0:${time}`]);
    expect(String(await asked(two))).toBe('timed [0] offset 1\n');
    expect(String(await asked(three + 1))).toBe('timed [0] offset -1\n');
    expect(String(await asked(-1))).toBe('timed [0] offset 3\n');
    expect(String(await asked(-2))).toBe('timed [0] offset 0\n');
  });

  test('partitions and topics, and what is told of them', async () => {
    const broker = await startBroker('--partitions', '4');
    const { file, content } = lines(4000, 100);
    const [first, second] = [content.subarray(0, 200_000), content.subarray(200_000)];
    await Promise.all([
      produce(broker, 'spread', file, '-X', 'sticky.partitioning.linger.ms=0'),
      produceText(broker, 'other-1', String(first), '-p', '3'),
      produceText(broker, 'other.2_3', String(second), '-p', '0'),
    ]);
    const counts = [0, 1, 2, 3].map((partition) =>
      sum(readLog(broker, 'spread', partition).map(({ count }) => count)),
    );
    expect(sum(counts)).toBe(4000);
    for (const count of counts) expect(count).toBeGreaterThan(0);

    const all = String(await consume(broker, 'spread', 'beginning', '-f', '%p %s\n'));
    const consumed = all.trim().split('\n');
    // All of them, and each partition's in its order.
    expect(consumed.map((line) => Number(line.slice(2, 11))).sort((a, b) => a - b)).toEqual(
      Array.from({ length: 4000 }, (_, i) => i),
    );
    for (const partition of ['0', '1', '2', '3']) {
      const own = consumed.filter((line) => line[0] === partition);
      expect(own).toEqual([...own].sort());
      expect(own).toHaveLength(counts[Number(partition)] ?? 0);
      const alone = await consume(broker, 'spread', 0, '-p', partition, '-f', '%p %s\n');
      expect(String(alone).trim().split('\n')).toEqual(own);
    }
    expect(broker.fetched().some(({ partitions = 0 }) => partitions > 1)).toBe(true);
    expectSame(await consume(broker, 'other-1', 0, '-f', '%s', '-p', '3'), first);
    expectSame(await consume(broker, 'other.2_3', 0, '-f', '%s', '-p', '0'), second);

    const { brokers, topics } = await metadata(broker);
    expect(brokers).toMatchObject([{ name: broker.address }]);
    expect(topics.map(({ topic }) => topic).sort()).toEqual(['other-1', 'other.2_3', 'spread']);
    for (const { partitions } of topics) expect(partitions).toHaveLength(4);
    expect((await metadata(broker, '-t', 'spread')).topics).toHaveLength(1);
    const asked = [0, 1, 2, 3].flatMap((partition) => ['-t', `spread:${partition}:-1`]);
    const ends = await kcat(broker, ['-Q', ...asked]);
    expect(String(ends).trim().split('\n').sort()).toEqual(
      counts.map((count, partition) => `spread [${partition}] offset ${count}`),
    );
  });

  test('a topic that a consumer asks for is not made, one with a bad name neither', async () => {
    const broker = await startBroker();
    await expect(consume(broker, 'absent', 0)).rejects.toThrow(/unknown topic/i);
    await expect(produceText(broker, 'a/b', 'text', '-p', '0')).rejects.toThrow();
    await expect(produceText(broker, '..', 'text', '-p', '0')).rejects.toThrow();
    expect((await metadata(broker)).topics).toEqual([]);
    expect(fs.readdirSync(broker.folder)).toEqual([]);
  });
});

describe('many', () => {
  test('200,000 messages of 1 KiB, by several segments', { timeout: 120_000 }, async () => {
    const broker = await startBroker('--segment-bytes', String(32 * MIB));
    const folder = scratchFolder();
    const [file, to] = [path.join(folder, 'produced'), path.join(folder, 'consumed')];
    writeLines(file, 200_000, KIB + 1);
    await produce(broker, 'many', file, '-p', '0');
    await kcat(broker, ['-C', '-e', ...QUICK, '-t', 'many', '-o', 'beginning'], { to });
    expect(fs.statSync(to).size).toBe(200_000 * (KIB + 1));
    expect(await digest(to)).toBe(await digest(file));

    const segments = fs.readdirSync(path.join(broker.folder, 'many-0'));
    const logs = segments.filter((name) => name.endsWith('.log'));
    expect(logs.length).toBeGreaterThanOrEqual(7);
    for (const name of logs) {
      expect(fs.statSync(path.join(broker.folder, 'many-0', name)).size).toBeLessThanOrEqual(
        32 * MIB,
      );
    }
    const stored = sum(readLog(broker, 'many').map(({ bytes }) => bytes.length));
    expect(sum(broker.produced().map(({ bytes }) => bytes))).toBe(stored);
    const large = broker.produced().filter(({ bytes }) => bytes > 512 * KIB);
    expect(sum(large.map(({ bytes }) => bytes))).toBeGreaterThan(stored / 2);
    for (const { backend } of large) expect(backend).toBe('splice');
    const sent = broker.fetched().filter(({ bytes }) => bytes > 64 * KIB);
    expect(sum(sent.map(({ bytes }) => bytes))).toBeGreaterThan(stored * 0.99);
    for (const { backend } of sent) expect(backend).toBe('sendfile');
    await broker.stop();

    // What a broker that has been restarted finds is the same, as a clean log of several segments.
    const again = await startBroker('--data', broker.folder);
    const tail = await consume(again, 'many', 199_990);
    expectSame(tail, fs.readFileSync(file).subarray(-10 * (KIB + 1)));
    const middle = await consume(again, 'many', 123_456, '-c', '1');
    expect(String(middle.subarray(0, 9))).toBe('000123456');
    await again.stop();
  });

  test('producers and consumers at once', async () => {
    const broker = await startBroker();
    await metadata(broker, '-t', 'shared');
    const folder = scratchFolder();
    const files = [0, 1, 2].map((i) => path.join(folder, String(i)));
    for (const [i, file] of files.entries()) writeLines(file, 20_000, 200, i * 100_000);
    const args = ['-C', '-q', '-t', 'shared', '-o', 'beginning', '-c', '60000'];
    const consumers = ['one', 'two'].map((name) => {
      const to = path.join(folder, name);
      return kcat(broker, args, { to }).then(() => fs.readFileSync(to, 'utf8'));
    });
    await Promise.all(files.map((file) => produce(broker, 'shared', file, '-p', '0')));
    const [one = '', two] = await Promise.all(consumers);
    expect(two).toBe(one);
    const consumed = one.split('\n');
    // Each producer's messages are there, in its order.
    for (const [i, file] of files.entries()) {
      const own = consumed.filter((line) => Math.floor(Number(line.slice(0, 9)) / 100_000) === i);
      expect(`${own.join('\n').trimEnd()}\n`).toBe(fs.readFileSync(file, 'utf8'));
    }
    expect(sum(readLog(broker, 'shared').map(({ count }) => count))).toBe(60_000);
    await broker.stop();
  });

  test('clients that are killed amid a batch, or stop amid a fetch', async () => {
    const broker = await startBroker();
    const idle = broker.sockets();
    const { file, content } = lines(50_000, KIB);
    const dies = startKcat(broker, ['-P', '-t', 'topic', '-p', '0', '-l', file]);
    await until(() => broker.produced().length >= 5, 'it produces');
    dies.child.kill('SIGKILL');
    await until(() => broker.sockets() === idle, 'its connection is closed');
    await produceText(broker, 'topic', 'after it');
    readLog(broker, 'topic');

    const stops = startKcat(broker, ['-C', '-t', 'topic', '-o', 'beginning']);
    await until(() => broker.fetched().length >= 1, 'it consumes');
    stops.child.kill('SIGSTOP');
    const all = await consume(broker, 'topic', 'beginning');
    const there = all.length - 'after it\n'.length;
    expect(there % KIB).toBe(0);
    expectSame(all.subarray(0, there), content.subarray(0, there));
    expect(String(all.subarray(there))).toBe('after it\n');
    stops.child.kill('SIGKILL');
    await until(() => broker.sockets() === idle, 'its connection is closed');
    await broker.stop();
  });

  test('no descriptor is left behind', async () => {
    const broker = await startBroker();
    const idle = broker.sockets();
    const { file, content } = lines(20_000, 200);
    const round = async () => {
      await produce(broker, 'topic', file, '-p', '0', '-z', 'zstd');
      expectSame(await consume(broker, 'topic', -20_000), content);
      await consume(broker, 'topic', 0, '-c', '1'); // and leaves amid an answer, perhaps
      await metadata(broker);
      await until(() => broker.sockets() === idle, 'its connections are closed');
    };
    await round();
    const before = broker.descriptors();
    for (let i = 0; i < 3; i++) await round();
    await until(() => broker.descriptors() <= before, 'its pipes are closed');
    await broker.stop();
  });
});

describe('waiting', () => {
  // Longer than any test: what wakes a fetch is not its time.
  const PATIENT = ['-X', 'fetch.wait.max.ms=200000', '-X', 'socket.timeout.ms=300000'];
  const fetches = (broker: Broker) => broker.answers().filter(({ api }) => api === 'fetch').length;
  const follow = (broker: Broker, topic: string, ...args: string[]) =>
    startKcat(broker, ['-C', '-u', '-t', topic, '-f', '%s\n', ...args]);
  const wait = (broker: Broker, topic: string, ...args: string[]) =>
    follow(broker, topic, '-o', 'beginning', ...PATIENT, ...args);

  test('a message reaches those that wait for it, and idle ones cost nothing', async () => {
    const broker = await startBroker('--partitions', '2');
    await metadata(broker, '-t', 'awaited');
    const consumers = [wait(broker, 'awaited', '-p', '1'), wait(broker, 'awaited', '-p', '1')];
    let expected = '';
    const tell = async (i: number) => {
      await produceText(broker, 'awaited', `message ${i}`, '-p', '1');
      expected += `message ${i}\n`;
      const got = () => consumers.every((consumer) => String(consumer.stdout()) === expected);
      await until(got, `message ${i} is there`);
    };
    await tell(0);
    // Told of when it has gone, which may be a moment after it has come.
    await until(() => broker.fetched().length >= consumers.length, 'both fetches are told of');
    const before = fetches(broker);
    expect(before).toBeLessThanOrEqual(4);
    await sleep(1000);
    expect(fetches(broker)).toBe(before);
    for (let i = 1; i <= 20; i++) {
      await tell(i);
      await produceText(broker, 'awaited', 'nobody waits for that', '-p', '0');
    }
    // A fetch of each for each message.
    expect(fetches(broker) - before).toBeLessThanOrEqual(2 * 20);
    await broker.stop();
  });

  test('one who waits for several partitions, from their ends', async () => {
    const broker = await startBroker('--partitions', '3');
    for (const partition of ['0', '1', '2']) {
      await produceText(broker, 'awaited', 'before', '-p', partition);
    }
    const begun = Date.now();
    const waitMs = 1000;
    const consumer = follow(broker, 'awaited', '-o', 'end', '-X', `fetch.wait.max.ms=${waitMs}`);
    // What kcat asks of the next partition stands behind its fetch of those before.
    await until(() => consumer.stderr().split('Reached end').length > 3, 'it knows all ends');
    let expected = '';
    for (let i = 0; i < 12; i++) {
      await produceText(broker, 'awaited', `message ${i}`, '-p', String(i % 3));
      expected += `message ${i}\n`;
      await until(() => String(consumer.stdout()) === expected, `message ${i} is there`);
    }
    // One for each message, and those that brought nothing.
    expect(fetches(broker)).toBeLessThanOrEqual(12 + 6 + (Date.now() - begun) / waitMs);
    await broker.stop();
  });

  test('until there are min_bytes', async () => {
    const broker = await startBroker();
    const [first, second] = ['a'.repeat(60_000), 'b'.repeat(60_000)];
    await produceText(broker, 'awaited', first);
    const consumer = wait(broker, 'awaited', '-X', 'fetch.min.bytes=100000');
    await sleep(700);
    expect(consumer.stdout()).toHaveLength(0);
    await produceText(broker, 'awaited', second);
    await until(() => consumer.stdout().length >= 120_002, 'both are there');
    expect(String(consumer.stdout())).toBe(`${first}\n${second}\n`);
    await until(() => broker.fetched().length > 0, 'the fetch is told of');
    expect(broker.fetched()).toHaveLength(1);
    await broker.stop();
  });

  test('no longer than fetch.wait.max.ms', async () => {
    const broker = await startBroker();
    await metadata(broker, '-t', 'awaited');
    follow(broker, 'awaited', '-X', 'fetch.wait.max.ms=100');
    await until(() => fetches(broker) >= 3, 'empty answers come');
    const [before, begun] = [fetches(broker), Date.now()];
    await until(() => fetches(broker) >= before + 8, 'more of them come');
    const lasted = Date.now() - begun;
    expect(fetches(broker) - before).toBeLessThanOrEqual(lasted / 95 + 2);
    await broker.stop();
  });

  test.each(['SIGTERM', 'SIGINT'] as const)('%s while some wait', async (signal) => {
    const broker = await startBroker();
    await produceText(broker, 'awaited', 'text');
    const consumers = [wait(broker, 'awaited'), wait(broker, 'awaited')];
    const got = () => consumers.every((consumer) => String(consumer.stdout()) === 'text\n');
    await until(got, 'they wait for more');
    await broker.stop(signal);
    expect(readLog(broker, 'awaited')).toHaveLength(1);
  });
});

describe('main.mjs', () => {
  test('the kcat lines that it prints work', async () => {
    const broker = await startBroker();
    await until(() => broker.greeting.some((line) => line.includes('kcat -L')), 'all is printed');
    expect(broker.greeting[1]).toBe('');
    const outputs: string[] = [];
    for (const line of broker.greeting.filter((line) => line.includes('kcat '))) {
      const env = foreignEnvironment();
      outputs.push((await promisify(execFile)('sh', ['-c', line], { env })).stdout);
    }
    const [produced, consumed, last, listed, ...more] = outputs;
    expect({ produced, consumed, last, more }).toEqual({
      produced: '',
      consumed: '999998\n999999\n1000000\n',
      last: '999998\n999999\n1000000\n',
      more: [],
    });
    expect(listed).toContain(`at ${broker.address}`);
    expect(listed).toContain('topic "numbers" with 1 partitions');
    await broker.stop();
  });

  test('a log of its own goes with it', async () => {
    const TMPDIR = scratchFolder();
    const broker = await startBrokerWith({ env: { TMPDIR }, temporary: true });
    expect(path.dirname(broker.folder)).toBe(TMPDIR);
    await produceText(broker, 'topic', 'text');
    expect(readLog(broker, 'topic')).toHaveLength(1);
    await broker.stop();
    expect(fs.readdirSync(TMPDIR)).toEqual([]);
  });

  test.each([
    ['--partitions', '0'],
    ['--segment-bytes', '-1'],
    ['--splice-from', '1k'],
    ['--max-batch-bytes', ''],
    ['--nonsense'],
  ])('refuses %s %s', async (...args) => {
    const TMPDIR = scratchFolder();
    const env = { ...process.env, TMPDIR };
    const ended = spawnSync(process.execPath, [program, '0', ...args], { env, timeout: 10_000 });
    expect(ended.status).toBe(1);
    expect(String(ended.stderr)).toContain(args[0]);
    expect(fs.readdirSync(TMPDIR)).toEqual([]);
  });
});

const why = whyNoStrace('-D', '-f');

test.skipIf(why)(`no record of a large fetch is read or written${why}`, async () => {
  const folder = scratchFolder();
  // With -D the broker is the child, strace is not. A file for each thread.
  const wrapper = ['strace', '-D', '-ff', '-o', path.join(folder, 'thread')];
  const broker = await startBrokerWith({ wrapper });
  const { file, content } = lines(32 * KIB, KIB);
  await produce(broker, 'traced', file, '-p', '0');
  const traces = () => fs.readdirSync(folder).filter((name) => name.startsWith('thread'));
  const before = new Map(traces().map((name) => [name, fs.statSync(path.join(folder, name)).size]));
  expectSame(await consume(broker, 'traced', 0), content);
  await broker.stop();

  const moved = new Map<string, number>();
  for (const name of traces()) {
    const text = String(fs.readFileSync(path.join(folder, name)).subarray(before.get(name) ?? 0));
    // All calls that move bytes, of which none is splice here.
    const calls = text.matchAll(/^(\w*(?:read|write|send|recv|splice|copy)\w*)\(.* = (\d+)$/gm);
    for (const [, call = '', result] of calls) {
      moved.set(call, (moved.get(call) ?? 0) + Number(result));
    }
  }
  const stored = sum(readLog(broker, 'traced').map(({ bytes }) => bytes.length));
  expect(stored).toBeGreaterThan(content.length);
  const sent = moved.get('sendfile') ?? 0;
  expect(sent).toBeGreaterThan(0.99 * stored);
  moved.delete('sendfile');
  // Requests, what is around records in answers, some headers of batches, probes, the log.
  expect(sum([...moved.values()])).toBeLessThan(0.005 * stored);
});
