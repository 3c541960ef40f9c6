// One large upload into a file: what a received byte costs.
import { rmSync } from 'node:fs';
import path from 'node:path';
import { checkTargets } from '../lib/checks.mjs';
import { compile } from '../lib/compile.mjs';
import { nodeTrial, pinned, runTrial, startReceiver } from '../lib/processes.mjs';
import { runRounds } from '../lib/rounds.mjs';
import {
  MiB,
  makeFile,
  makeResident,
  mustBeEqual,
  mustHaveSize,
  writeOut,
} from '../lib/scratch.mjs';

export const name = 'receive-file';

const TARGETS = [
  { what: 'process CPU, to pipe()', figure: 'cpuSeconds', to: 'pipe-to-file', atMost: 1 / 2 },
  {
    what: 'JavaScript thread CPU, to pipe()',
    figure: 'jsThreadSeconds',
    to: 'pipe-to-file',
    atMost: 1 / 20,
  },
];

/** @param {import('../run.mjs').Context} context */
export async function run({ scratch, quick, rounds, log }) {
  const size = (quick ? 256 : 1024) * MiB;
  const title = `${size / MiB} MiB from a socket into a file`;
  const { program, missing } = compile('bench/peers/source.c');
  if (!program) {
    const reason = `the source in C (${missing})`;
    return { name, title, rounds, ways: {}, checks: [], missing: [reason] };
  }
  log('making files');
  const source = makeFile(path.join(scratch, 'receive-source'), size);
  const warmUpSource = makeFile(path.join(scratch, 'receive-warm-up'), 16 * MiB);
  const file = path.join(scratch, 'received');
  const mode = pinned ? 'poll' : 'sleep';
  const sender = await startReceiver([program, mode, source]);
  const warmUpSender = await startReceiver([program, mode, warmUpSource]);

  const ways = await runRounds({
    ways: ['transfer', 'pipe-to-file'],
    rounds,
    log,
    runTrial: async (way, round) => {
      const parameters = { way, port: sender.port, warmUpPort: warmUpSender.port, file };
      makeResident(source);
      const trial = await runTrial(nodeTrial('receive.mjs', parameters));
      if (trial.bytes !== size) throw new Error(`${way} received ${trial.bytes} bytes`);
      mustHaveSize(file, size);
      if (round === 0) mustBeEqual(file, source);
      rmSync(file);
      writeOut(scratch);
      return { ...trial, megabytesPerSecond: size / trial.seconds / 1e6 };
    },
  });
  await Promise.all([sender.stop(), warmUpSender.stop()]);
  return { name, title, rounds, ways, checks: checkTargets(ways, TARGETS), missing: [] };
}
