// Brokers of the Kafka log of examples/, and their clients.
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { compile } from './compile.mjs';
import { fromBench } from './paths.mjs';
import { cores, pinned, runToEnd, startServer } from './processes.mjs';
import { idleSecondsOf } from './readings.mjs';
import { runRounds } from './rounds.mjs';
import { MiB, makeResident, writeOut } from './scratch.mjs';

const TOPIC = 'bench';
/** The folder of its one partition. */
const PARTITION = `${TOPIC}-0`;
const KiB = 1024;
/** What clients have by default, as max.in.flight.requests.per.connection. */
const IN_FLIGHT = 5;
/** A batch of a log that is fetched. */
const RECORDS = 64;

export const CONSUMERS = 10;
/** Of each consumer: enough for V8 to have compiled what there is to compile. */
const WARM_UP_BYTES = 128 * MiB;

const mode = pinned ? 'poll' : 'sleep';

/**
 * Where the broker and its clients are: a host that it listens on, and what goes before the
 * commands of each.
 * @typedef {{ host: string, server: string[], client: string[] }} Network
 */

/** @type {Network} */
const loopback = { host: '127.0.0.1', server: [], client: [] };

/** The programs of the clients. `missing` says why they can't be had. */
export function compileClients() {
  const consumer = compile('bench/peers/kafka-consumer.c');
  const producer = compile('bench/peers/kafka-producer.c');
  const missing = consumer.missing ?? producer.missing;
  if (missing) return { missing: `Kafka clients in C (${missing})` };
  return { clients: { consumer: consumer.program, producer: producer.program } };
}

/**
 * Starts a broker in a process of its own.
 * @param {string} way a way of trials/kafka.mjs
 * @param {string} folder of its log
 * @param {Network} [network]
 */
export async function startBroker(way, folder, network = loopback) {
  const { host, server, client } = network;
  const parameters = JSON.stringify({ way, folder, host });
  const command = [...server, process.execPath, fromBench('trials/kafka.mjs'), parameters];
  const { port, ask, stop } = await startServer(command);
  /** Runs a client of it to its end. @param {string} program @param {number[]} rest */
  const runFrom = async (where, program, ...rest) => {
    const words = [program, mode, host, port, TOPIC, ...rest];
    return JSON.parse(await runToEnd('peer', [...where, ...words.map(String)]));
  };
  const run = (program, ...rest) => runFrom(client, program, ...rest);
  return {
    /** @param {string} program @param {number} records of a KiB, in each of so many batches */
    produce: (program, records, batches) => run(program, records, batches, IN_FLIGHT),
    /** @param {string} program @param {number} consumers who read so many bytes each */
    fetch: (program, consumers, bytes, fetchBytes) => run(program, consumers, bytes, fetchBytes),
    /** The same from the broker's own host, so that no network is in the way. */
    fetchThere: (program, ...rest) => runFrom(server, program, ...rest),
    /** Figures of the clients' run, and of the broker meanwhile. @param {() => Promise<object>} work */
    measure: async (work) => {
      await ask('start');
      const result = await work();
      return { ...(await ask('stop')), ...result };
    },
    stop,
  };
}

/**
 * A log of at least `size` bytes, filled through a broker the first time that it is asked for.
 * @param {string} producer
 * @param {string} scratch
 * @param {number} size
 */
async function filledLog(producer, scratch, size) {
  const folder = path.join(scratch, 'kafka-fetch');
  if (existsSync(folder)) return folder;
  const broker = await startBroker('produce-memory', folder);
  await broker.produce(producer, RECORDS, Math.ceil(size / (RECORDS * KiB)));
  await broker.stop();
  writeOut(scratch);
  return folder;
}

/** Reads the log of a folder to its end. @param {string} folder */
function makeLogResident(folder) {
  const partition = path.join(folder, PARTITION);
  for (const name of readdirSync(partition)) makeResident(path.join(partition, name));
}

/**
 * Trials of consumers that read a hot log from its beginning, all at once. Each has a broker of its
 * own, which has answered some fetches before.
 * @param {object} options
 * @param {string[]} options.ways of trials/kafka.mjs
 * @param {{ consumer: string, producer: string }} options.clients
 * @param {string} options.scratch
 * @param {number} options.logBytes
 * @param {number} options.bytes that each consumer reads, at least
 * @param {number} options.fetchBytes that it asks for at a time
 * @param {Network} [options.network]
 * @param {number} options.rounds
 * @param {(message: string) => void} options.log
 */
export async function runFetches(options) {
  const { ways, clients, scratch, logBytes, bytes, fetchBytes, network, rounds, log } = options;
  log('filling the log');
  const folder = await filledLog(clients.producer, scratch, logBytes);
  return runRounds({
    ways,
    rounds,
    log,
    warmUp: false,
    runTrial: async (way) => {
      makeLogResident(folder);
      const broker = await startBroker(way, folder, network);
      const fetch = (most) => broker.fetch(clients.consumer, CONSUMERS, most, fetchBytes);
      const most = Math.min(logBytes, WARM_UP_BYTES);
      await broker.fetchThere(clients.consumer, CONSUMERS, most, fetchBytes);
      const stopCore = network && startCoreReading();
      const { fetches, ...trial } = await broker.measure(() => fetch(bytes));
      const core = stopCore?.();
      await broker.stop();
      const { cpuSeconds, jsThreadSeconds, seconds } = trial;
      if (trial.bytes < CONSUMERS * bytes) throw new Error(`${way} sent ${trial.bytes} bytes`);
      return {
        ...trial,
        megabytesPerSecond: trial.bytes / seconds / 1e6,
        cpuPercent: (cpuSeconds / seconds) * 100,
        ...core,
        jsMicrosecondsPerFetch: (jsThreadSeconds / fetches) * 1e6,
      };
    },
  });
}

/** The share of the broker's core that is used, by whatever it is. */
function startCoreReading() {
  if (!cores) return () => ({});
  const began = performance.now();
  const idleBefore = idleSecondsOf(cores.measured);
  return () => {
    const idle = idleSecondsOf(cores.measured) - idleBefore;
    return { coreBusyPercent: (1 - idle / ((performance.now() - began) / 1000)) * 100 };
  };
}

/** Of the ways but `transfer`, the one that takes the least of the process's CPU. */
export function bestOfStreams(ways) {
  const cpu = (way) => ways[way].figures.cpuSeconds.median;
  const streams = Object.keys(ways).filter((way) => way !== 'transfer');
  return streams.reduce((best, way) => (cpu(way) < cpu(best) ? way : best));
}
