// How many movers it takes: throughput by their number, on all cores.
import path from 'node:path';
import { compile } from '../lib/compile.mjs';
import { nodeTrial, runTrial, startReceiver } from '../lib/processes.mjs';
import { runRounds } from '../lib/rounds.mjs';
import { MiB, makeFile, makeResident } from '../lib/scratch.mjs';

export const name = 'movers';

const FILES = 64;
const COUNTS = [1, 2, 3, 4, 8];

/** @param {import('../run.mjs').Context} context */
export async function run({ scratch, quick, rounds, log }) {
  const size = (quick ? 4 : 16) * MiB;
  const total = FILES * size;
  const title = `${FILES} resident files of ${size / MiB} MiB at once, by number of movers, pinned to no core`;
  const { program, missing } = compile('bench/receiver/receiver.c');
  if (!program) return { name, title, rounds, ways: {}, checks: [], missing: [missing] };
  const files = Array.from({ length: FILES }, (_, index) =>
    makeFile(path.join(scratch, 'movers', `${index}`), size),
  );
  const receiver = await startReceiver([program, 'discard']);
  const ways = await runRounds({
    ways: COUNTS.map((count) => `movers-${count}`),
    rounds,
    log,
    runTrial: async (way) => {
      files.forEach(makeResident);
      const parameters = { way: 'transfer', port: receiver.port, files, warmUp: files[0] };
      const movers = `ZEROCOPY_THREADS=${way.split('-')[1]}`;
      const command = ['env', movers, ...nodeTrial('send.mjs', parameters)];
      const trial = await runTrial(command, 'anywhere');
      if (trial.bytes !== total) throw new Error(`${trial.bytes} bytes were sent`);
      const { seconds, cpuSeconds } = trial;
      return { megabytesPerSecond: total / seconds / 1e6, cpuSeconds };
    },
  });
  await receiver.stop();
  const figure = 'megabytesPerSecond';
  const points = COUNTS.map((count) => {
    const { median, min, max } = ways[`movers-${count}`].figures[figure];
    return { x: count, median, min, max };
  });
  const x = { label: 'movers (ZEROCOPY_THREADS)', scale: 'linear' };
  const series = [{ title, x, figure, ways: { transfer: points } }];
  return { name, title, rounds, ways, series, checks: [], missing: [] };
}
