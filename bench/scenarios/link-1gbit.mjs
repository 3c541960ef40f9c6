// A large file over a link of 1 Gbit/s, which every way can fill: what the same throughput costs.
import path from 'node:path';
import { checkTargets } from '../lib/checks.mjs';
import { compile } from '../lib/compile.mjs';
import { makeNetwork } from '../lib/network.mjs';
import { nodeTrial, runTrial, startReceiver } from '../lib/processes.mjs';
import { runRounds } from '../lib/rounds.mjs';
import { MiB, makeFile, makeResident } from '../lib/scratch.mjs';

export const name = 'link-1gbit';

const ROUNDS = 3;
const TARGETS = [
  { what: 'throughput, to pipe()', figure: 'megabytesPerSecond', to: 'pipe', atLeast: 0.97 },
  { what: 'process CPU, to pipe()', figure: 'cpuSeconds', to: 'pipe', atMost: 1 / 3 },
];

/** @param {import('../run.mjs').Context} context */
export async function run({ scratch, quick, rounds: fewest, log }) {
  const rounds = quick ? fewest : ROUNDS;
  const size = (quick ? 64 : 256) * MiB;
  const title = `${size / MiB} MiB to one receiver, which discards, over a link of 1 Gbit/s`;
  const none = (reason) => ({ name, title, rounds, ways: {}, checks: [], missing: [reason] });
  const { program, missing } = compile('bench/receiver/receiver.c');
  if (!program) return none(`the receiver in C (${missing})`);
  const { network, remove, missing: missingNetwork } = makeNetwork('1gbit');
  if (!network) return none(`a network of its own: ${missingNetwork}`);
  try {
    const file = makeFile(path.join(scratch, 'link'), size);
    const warmUp = makeFile(path.join(scratch, 'link-warm-up'), MiB);
    const receiver = await startReceiver([...network.client, program, 'discard', 'any']);
    const ways = await runRounds({
      ways: ['transfer', 'pipe', 'pipe-1m'],
      rounds,
      log,
      warmUp: false,
      runTrial: async (way) => {
        makeResident(file);
        const { port } = receiver;
        const parameters = { way, host: network.clientHost, port, files: [file], warmUp };
        const trial = await runTrial([...network.server, ...nodeTrial('send.mjs', parameters)]);
        if (trial.bytes !== size) throw new Error(`${way} sent ${trial.bytes} bytes`);
        return { ...trial, megabytesPerSecond: size / trial.seconds / 1e6 };
      },
    });
    await receiver.stop();
    return { name, title, rounds, ways, checks: checkTargets(ways, TARGETS), missing: [] };
  } finally {
    remove();
  }
}
