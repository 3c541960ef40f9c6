// Many files at once: what the event loop is left with.
import path from 'node:path';
import { checkTargets } from '../lib/checks.mjs';
import { startDiscardingReceiver } from '../lib/discard.mjs';
import { nodeTrial, runTrial } from '../lib/processes.mjs';
import { runRounds } from '../lib/rounds.mjs';
import { MiB, makeFile, makeResident } from '../lib/scratch.mjs';

export const name = 'many-files';

const FILES = 64;
/** Rounds, from the first on, in which the event loop's delay is measured too. */
const LOOP_DELAY_ROUNDS = 3;
const TARGETS = [
  {
    what: 'JavaScript thread CPU, to pipe()',
    figure: 'jsThreadSeconds',
    to: 'pipe',
    atMost: 1 / 40,
  },
  { what: 'process CPU, to pipe()', figure: 'cpuSeconds', to: 'pipe', atMost: 1 / 3 },
  { what: 'event loop delay p99, to pipe()', figure: 'loopDelayP99Ms', to: 'pipe', atMost: 1 },
];

/** @param {import('../run.mjs').Context} context */
export async function run({ scratch, quick, receiver: remote, rounds, log }) {
  const size = (quick ? 16 : 64) * MiB;
  log('making files');
  const files = Array.from({ length: FILES }, (_, index) =>
    makeFile(path.join(scratch, `many-${index}`), size),
  );
  const receiver = await startDiscardingReceiver(remote);
  const total = FILES * size;

  const ways = await runRounds({
    ways: ['transfer', 'pipe', 'pipe-1m'],
    rounds,
    log,
    runTrial: async (way, round) => {
      const send = async (loopDelay) => {
        const { host, port } = receiver;
        const parameters = { way, host, port, files, warmUp: files[0], loopDelay };
        files.forEach(makeResident);
        const trial = await runTrial(nodeTrial('send.mjs', parameters));
        if (trial.bytes !== total) throw new Error(`${way} sent ${trial.bytes} bytes`);
        return trial;
      };
      const trial = await send(false);
      return {
        ...trial,
        megabytesPerSecond: total / trial.seconds / 1e6,
        ...(round > 0 && round <= LOOP_DELAY_ROUNDS && (await send(true))),
      };
    },
  });
  await receiver.stop();
  return {
    name,
    title: `${FILES} resident files of ${size / MiB} MiB at once to one receiver, which discards`,
    rounds,
    ways,
    checks: checkTargets(ways, TARGETS),
    missing: receiver.missing ? [receiver.missing] : [],
  };
}
