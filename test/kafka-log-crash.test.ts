// What examples/kafka-log has acknowledged survives it, whenever it is killed.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { pattern, scratchFolder } from './helpers/files';
import { type Broker, kcat, program, readLog, startBroker, startKcat } from './helpers/kafka';
import { startProducer, tap } from './helpers/kafkajs';
import { sleep, until } from './helpers/process';

const MIB = 1024 * 1024;
const ways = [
  { way: 'splice', from: '1' },
  { way: 'memory', from: '1000000000' },
];

const consume = async (broker: Broker, topic: string, ...args: string[]) => {
  const quick = ['-C', '-e', '-q', '-X', 'fetch.wait.max.ms=10', '-t', topic];
  return String(await kcat(broker, [...quick, '-o', 'beginning', ...args]));
};

/** Bytes of a partition's segments, by name. */
function sizesOf(folder: string, partition: string): Map<string, number> {
  const root = path.join(folder, partition);
  const names = fs.readdirSync(root).filter((name) => name.endsWith('.log'));
  return new Map(names.sort().map((name) => [name, fs.statSync(path.join(root, name)).size]));
}

const filler = pattern(MIB).toString('hex');

/** A message that nobody else sends: known by its number alone. */
function messageOf(id: number): string {
  const mixed = Math.imul(id + 1, 2654435761) >>> 0;
  // Small ones, most of them, and some of up to 200 kB.
  const length = mixed % 7 === 0 ? mixed % 200_000 : mixed % 500;
  return `${id} ${filler.slice(id % 1000, (id % 1000) + length)}`;
}

/** Kills a broker that may be at its recovery. */
async function killAmidStart(folder: string): Promise<void> {
  const child = spawn(process.execPath, [program, '0', '--data', folder], { stdio: 'ignore' });
  onTestFinished(() => {
    child.kill('SIGKILL');
  });
  await sleep(50 + Math.random() * 100);
  child.kill('SIGKILL');
  await once(child, 'exit');
}

test.each(ways)(
  'killed at any moment, again and again: by $way',
  {
    timeout: 120_000,
  },
  async ({ way, from }) => {
    const folder = path.join(scratchFolder(), 'log');
    const start = () =>
      startBroker(
        ...['--data', folder, '--partitions', '2', '--segment-bytes', String(2 * MIB)],
        ...['--splice-from', from],
      );
    const acked = new Map<string, number>(); // partition and offset: id
    let ids = 0;
    let inMidProduce = 0;

    /** Produces until the broker is gone. */
    async function work(producer: Awaited<ReturnType<typeof startProducer>>, partition: number) {
      for (;;) {
        const own = Array.from({ length: 1 + (ids % 4) }, () => ids++);
        const messages = own.map((id) => ({ value: messageOf(id), partition }));
        try {
          const [result] = await producer.send({ topic: 'topic', messages });
          for (const [i, id] of own.entries()) {
            acked.set(`${partition} ${Number(result?.baseOffset) + i}`, id);
          }
        } catch {
          inMidProduce++;
          return;
        }
      }
    }

    async function check(broker: Broker) {
      const stored = new Map<string, number>();
      for (const line of (await consume(broker, 'topic', '-f', '%p %o %s\n')).split('\n')) {
        const [partition = '', offset, id] = line.split(' ', 3);
        if (!partition) continue;
        const at = `${partition} ${offset}`;
        expect(line === `${at} ${messageOf(Number(id))}`, `${at} is what was sent`).toBe(true);
        stored.set(at, Number(id));
      }
      for (const [at, id] of acked) expect(`${at}: ${stored.get(at)}`).toBe(`${at}: ${id}`);
      expect(new Set(stored.values()).size).toBe(stored.size); // none is there twice
      const batches = [0, 1].flatMap((partition) => readLog(broker, 'topic', partition));
      expect(batches.reduce((sum, { count }) => sum + count, 0)).toBe(stored.size);
    }

    for (let round = 0; round < 12; round++) {
      if (round % 3 === 2) await killAmidStart(folder);
      const broker = await start();
      if (round > 0) await check(broker);
      const before = acked.size;
      const producer = await startProducer(broker);
      const working = Promise.all([0, 1, 0, 1].map((partition) => work(producer, partition)));
      await until(() => acked.size > before, 'it produces');
      await sleep(Math.random() * 100);
      await broker.kill();
      await working;
      await producer.disconnect();
      expect(new Set(broker.produced().map(({ backend }) => backend))).toEqual(new Set([way]));
    }
    const broker = await start();
    await check(broker);
    expect(inMidProduce).toBe(12 * 4);
    expect(sizesOf(folder, 'topic-0').size).toBeGreaterThan(1);
    await broker.stop();
  },
);

// What has come of a batch of 5 MiB when the broker dies.
test.each([
  { name: 'half of it', limit: 3 * MIB, segment: 'the same' },
  { name: 'all but a byte', limit: 5 * MIB, segment: 'the same' },
  { name: 'half of it', limit: 3 * MIB, segment: 'a new' },
  { name: 'its header', limit: 200, segment: 'a new' },
])('a batch of which $name is there, in $segment segment', async ({ limit, segment }) => {
  const folder = path.join(scratchFolder(), 'log');
  const rolls = segment === 'a new' ? ['--segment-bytes', String(4 * MIB)] : [];
  const start = () => startBroker('--data', folder, ...rolls);
  const broker = await start();
  const before = await startProducer(broker);
  for (const value of ['one', 'two']) await before.send({ topic: 'topic', messages: [{ value }] });
  const clean = sizesOf(folder, 'topic-0');
  const size = () => [...sizesOf(folder, 'topic-0').values()].reduce((a, b) => a + b, 0);
  const cleanSize = size();

  const producer = await startProducer(broker, tap(limit));
  const value = Buffer.alloc(5 * MIB, 'x');
  const sent = expect(producer.send({ topic: 'topic', messages: [{ value }] })).rejects.toThrow();
  // The request has more than the batch, the batch a header of 61 bytes that is written first.
  const least = Math.max(61, limit - 300);
  await until(() => size() >= cleanSize + least, 'what has come is there');
  // Who reads meanwhile sees nothing of it.
  expect(await consume(broker, 'topic')).toBe('one\ntwo\n');
  await broker.kill();
  await sent;
  expect(size()).toBeGreaterThan(cleanSize);

  const again = await start();
  expect(size()).toBe(cleanSize);
  for (const [name, bytes] of clean) expect(sizesOf(folder, 'topic-0').get(name)).toBe(bytes);
  expect(readLog(again, 'topic').map(({ count }) => count)).toEqual([1, 1]);
  const after = await startProducer(again);
  const [result] = await after.send({ topic: 'topic', messages: [{ value: 'three' }] });
  expect(result?.baseOffset).toBe('2');
  await after.send({ topic: 'topic', messages: [{ value }] });
  expect(await consume(again, 'topic')).toBe(`one\ntwo\nthree\n${value}\n`);
  readLog(again, 'topic');
  await again.stop();
});

test('kcat goes on where it was, when the broker is back', { timeout: 60_000 }, async () => {
  const COUNT = 20_000;
  const BATCH = 10;
  const KILLS = 5;
  const folder = scratchFolder();
  const file = path.join(folder, 'lines');
  const line = (i: number) => `${String(i).padStart(8, '0')} ${filler.slice(i, i + 300)}\n`;
  fs.writeFileSync(file, Array.from({ length: COUNT }, (_, i) => line(i)).join(''));
  const options = ['--data', path.join(folder, 'log'), '--segment-bytes', String(MIB)];
  let broker = await startBroker(...options);
  const { port } = broker;
  await kcat(broker, ['-L', '-t', 'topic']); // makes it

  const patient = [
    '-E',
    '-q',
    '-X',
    'reconnect.backoff.ms=10',
    '-X',
    'reconnect.backoff.max.ms=50',
  ];
  const sparse = `batch.num.messages=${BATCH}`;
  const inTurn = 'max.in.flight.requests.per.connection=1';
  const produce = ['-P', '-t', 'topic', '-X', sparse, '-X', inTurn, '-X', 'retry.backoff.ms=10'];
  const producer = startKcat(broker, [...patient, ...produce, '-l', file]);
  const consumer = startKcat(broker, [...patient, '-C', '-u', '-t', 'topic', '-o', 'beginning']);
  for (let kills = 0; kills < KILLS; kills++) {
    const enough = 50 + Math.random() * 250;
    await until(() => broker.produced().length > enough, 'it has produced');
    await broker.kill();
    broker = await startBroker(String(port), ...options);
  }
  expect(await producer.ended).toBe(0);

  const all = await consume(broker, 'topic');
  await until(() => consumer.stdout().length >= all.length, 'all is consumed');
  expect(String(consumer.stdout()) === all, 'whoever follows reads the same').toBe(true);
  // A batch whose acknowledgement got lost is sent again; nothing else comes twice, or late.
  let next = 0;
  let again = 0;
  for (const text of all.trim().split('\n')) {
    const number = Number.parseInt(text, 10);
    expect(`${text}\n` === line(number), `${number} is what was sent`).toBe(true);
    if (number < next) again++;
    else expect(number).toBe(next++);
  }
  expect(next).toBe(COUNT);
  expect(again).toBeLessThanOrEqual(KILLS * BATCH);
  readLog(broker, 'topic');
  consumer.child.kill();
  await broker.stop();
});
