// A producer of batches of several sizes: from which on splice costs less than memory.
import { rmSync } from 'node:fs';
import path from 'node:path';
import { compileClients, startBroker } from '../lib/kafka.mjs';
import { runRounds } from '../lib/rounds.mjs';
import { MiB, writeOut } from '../lib/scratch.mjs';

export const name = 'kafka-produce';

const ROUNDS = 3;
const SIZES_KIB = [16, 64, 256, 512, 1024, 4096]; // a record has a KiB
const WARM_UP_KIB = 32 * 1024;
const WAYS = ['produce-splice', 'produce-memory'];
const COMPARED = {
  'process CPU': 'cpuMicrosecondsPerMiB',
  'JavaScript thread CPU': 'jsMicrosecondsPerMiB',
};

const titleOf = (sizeKiB) =>
  sizeKiB < 1024 ? `batches of ${sizeKiB} KiB` : `batches of ${sizeKiB / 1024} MiB`;

/** @param {import('../run.mjs').Context} context */
export async function run({ scratch, quick, rounds: fewest, log }) {
  const rounds = quick ? fewest : ROUNDS;
  const most = quick ? 128 : 512;
  const title =
    `one producer, 5 requests in flight, sends ${most} MiB to a log on a disk ` +
    `(${most / 4} MiB by batches of 16 KiB)`;
  const { clients, missing } = compileClients();
  if (!clients) return { name, title, rounds, ways: {}, checks: [], missing: [missing] };

  const parts = [];
  for (const sizeKiB of SIZES_KIB) {
    const kibibytes = (sizeKiB < 64 ? most / 4 : most) * 1024;
    const ways = await runRounds({
      ways: WAYS,
      rounds,
      log: (message) => log(`${titleOf(sizeKiB)}: ${message}`),
      warmUp: false,
      runTrial: (way) => produceTrial(way, clients.producer, scratch, sizeKiB, kibibytes),
    });
    parts.push({ title: titleOf(sizeKiB), ways });
  }
  const notes = Object.entries(COMPARED).map(([what, figure]) =>
    crossoverLine(parts, what, figure),
  );
  return { name, title, rounds, ways: {}, parts, notes, checks: [], missing: [] };
}

async function produceTrial(way, producer, scratch, sizeKiB, kibibytes) {
  const folder = path.join(scratch, 'kafka-produce');
  const broker = await startBroker(way, folder);
  const produce = (amount) => broker.produce(producer, sizeKiB, amount / sizeKiB);
  await produce(WARM_UP_KIB);
  const trial = await broker.measure(() => produce(kibibytes));
  await broker.stop();
  rmSync(folder, { recursive: true });
  writeOut(scratch);
  const { backend, bytes, seconds, cpuSeconds, jsThreadSeconds } = trial;
  const microsecondsPerMiB = (spent) => (spent * 1e6) / (bytes / MiB);
  return {
    backend,
    megabytesPerSecond: bytes / seconds / 1e6,
    cpuMicrosecondsPerMiB: microsecondsPerMiB(cpuSeconds),
    jsMicrosecondsPerMiB: microsecondsPerMiB(jsThreadSeconds),
  };
}

/** From which size on, that and all larger ones, splice takes less. */
function crossoverLine(parts, what, figure) {
  const [splice, memory] = WAYS;
  const less = ({ ways }) =>
    ways[splice].figures[figure].median < ways[memory].figures[figure].median;
  const from = parts.findLastIndex((part) => !less(part)) + 1;
  if (from === parts.length) {
    return `memory takes less ${what} up to ${parts.at(-1).title}, the largest`;
  }
  return `splice takes less ${what} from ${parts[from].title} on`;
}
