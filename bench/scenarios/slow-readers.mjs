// As many receivers as can be had that read nothing: what a transfer holds while it waits.
import path from 'node:path';
import { checkTargets } from '../lib/checks.mjs';
import { compile } from '../lib/compile.mjs';
import { nodeTrial, runTrial, startReceiver } from '../lib/processes.mjs';
import { runRounds } from '../lib/rounds.mjs';
import { MiB, makeFile } from '../lib/scratch.mjs';

export const name = 'slow-readers';

const TARGETS = [
  { what: 'resident memory each, to pipe()', figure: 'residentKiBEach', to: 'pipe', atMost: 1 / 8 },
  {
    what: 'resident KiB each, above a socket that is idle',
    figure: 'residentKiBEach',
    to: 'idle',
    atMost: 4,
    difference: true,
  },
];

/** V8's young generation grows with what is allocated, not with what is held: kept at its least. */
const NODE_OPTIONS = ['--expose-gc', '--max-semi-space-size=1'];

/** Each connection takes one of the 28 thousand ports that Linux gives out by itself. */
const MOST = 20_000;

/** @param {import('../run.mjs').Context} context */
export async function run({ scratch, quick, rounds, log }) {
  const few = quick ? 500 : 1000;
  const most = quick ? 2000 : MOST;
  const title = `transfers of a file of 1 MiB under way to receivers that read nothing, from ${few} on`;
  const { program, missing } = compile('bench/receiver/receiver.c');
  if (!program) {
    // net.Socket can't set the size of buffers, and the file would fit into the default ones.
    return {
      name,
      title,
      rounds,
      ways: {},
      checks: [],
      missing: [`the receiver in C (${missing})`],
    };
  }
  const file = makeFile(path.join(scratch, 'slow'), MiB);
  const ways = await runRounds({
    ways: ['transfer', 'idle', 'pipe'],
    rounds,
    log,
    // There is nothing to warm up: what is measured is not time.
    warmUp: false,
    runTrial: async (way) => {
      const receiver = await startReceiver([program, 'hold']);
      const parameters = { way, port: receiver.port, file, few, most };
      const trial = await runTrial(nodeTrial('hold.mjs', parameters, NODE_OPTIONS));
      await receiver.stop();
      return trial;
    },
  });
  return { name, title, rounds, ways, checks: checkTargets(ways, TARGETS), missing: [] };
}
