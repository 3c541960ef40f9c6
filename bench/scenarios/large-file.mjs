// One large file to one receiver: what a byte costs.
import path from 'node:path';
import { checkTargets } from '../lib/checks.mjs';
import { compile } from '../lib/compile.mjs';
import { startDiscardingReceiver } from '../lib/discard.mjs';
import { fromBench } from '../lib/paths.mjs';
import { find } from '../lib/peers.mjs';
import { nodeTrial, runTrial } from '../lib/processes.mjs';
import { runRounds } from '../lib/rounds.mjs';
import { MiB, makeFile, makeResident } from '../lib/scratch.mjs';

export const name = 'large-file';

/** Cheap, and the ratio to C is a matter of a few percent. */
const ROUNDS = 9;

const TARGETS = [
  { what: 'process CPU, to sendfile in C', figure: 'cpuSeconds', to: 'sendfile-c', atMost: 1.05 },
  {
    what: 'throughput, to sendfile in C',
    figure: 'megabytesPerSecond',
    to: 'sendfile-c',
    atLeast: 0.97,
  },
  { what: 'process CPU, to pipe()', figure: 'cpuSeconds', to: 'pipe', atMost: 1 / 5 },
  { what: 'process CPU, to pipe() with 1 MiB', figure: 'cpuSeconds', to: 'pipe-1m', atMost: 1 / 2 },
];

/** @param {import('../run.mjs').Context} context */
export async function run({ scratch, quick, core, receiver: remote, rounds: fewest, log }) {
  const rounds = quick ? fewest : ROUNDS;
  const size = (quick ? 256 : 1024) * MiB;
  log('making files');
  const file = makeFile(path.join(scratch, 'large'), size);
  const warmUp = makeFile(path.join(scratch, 'large-warm-up'), 16 * MiB);
  // Those know of this machine only.
  const peer = remote ? {} : compile('bench/peers/sendfile.c');
  const java = core || remote ? {} : find('java');
  const receiver = await startDiscardingReceiver(remote);
  const { host, port } = receiver;

  const ways = await runRounds({
    ways: [
      ...(peer.program ? ['sendfile-c'] : []),
      'transfer',
      'pipe',
      'pipe-1m',
      ...(java.program ? ['java'] : []),
    ],
    rounds,
    log,
    runTrial: async (way) => {
      const peers = {
        'sendfile-c': [peer.program],
        java: [java.program, fromBench('peers/TransferTo.java')],
      };
      const command = peers[way]
        ? [...peers[way], `${port}`, file, warmUp]
        : nodeTrial('send.mjs', { way, host, port, files: [file], warmUp });
      makeResident(file);
      const trial = await runTrial(command);
      if (trial.bytes !== size) throw new Error(`${way} sent ${trial.bytes} bytes`);
      return { ...trial, megabytesPerSecond: size / trial.seconds / 1e6 };
    },
  });
  await receiver.stop();
  return {
    name,
    title: `one resident file of ${size / MiB} MiB to one receiver, which discards`,
    rounds,
    ways,
    checks: checkTargets(ways, TARGETS),
    missing: [
      peer.missing && `sendfile loop in C (${peer.missing})`,
      receiver.missing,
      java.missing,
    ].filter(Boolean),
  };
}
