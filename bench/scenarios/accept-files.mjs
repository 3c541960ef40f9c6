// A server that sends a file to whoever connects: what the JavaScript thread is left with, beside a
// server that sends nothing.
import path from 'node:path';
import { checkTargets } from '../lib/checks.mjs';
import { compile } from '../lib/compile.mjs';
import { fromBench } from '../lib/paths.mjs';
import { startReceiver, startServer } from '../lib/processes.mjs';
import { runRounds } from '../lib/rounds.mjs';
import { MiB, makeFile, makeResident } from '../lib/scratch.mjs';

export const name = 'accept-files';

const CONNECTIONS = 64;
const WARM_UP_ROUNDS = 50;
const TARGETS = [
  {
    what: 'JavaScript thread CPU, to no body',
    figure: 'jsThreadSeconds',
    to: 'empty',
    atMost: 1.3,
  },
];

/** @param {import('../run.mjs').Context} context */
export async function run({ scratch, quick, rounds, log }) {
  const size = (quick ? 16 : 64) * MiB;
  const title = `${size / MiB} MiB to each of ${CONNECTIONS} clients, which discard, from a net.Server`;
  const { program, missing } = compile('bench/peers/download.c');
  if (!program) return { name, title, rounds, ways: {}, checks: [], missing: [missing] };
  const file = makeFile(path.join(scratch, 'accept'), size);
  const small = makeFile(path.join(scratch, 'accept-small'), MiB);

  const ways = await runRounds({
    ways: ['transfer', 'empty', 'pipe'],
    rounds,
    log,
    runTrial: async (way) => {
      makeResident(file);
      const parameters = JSON.stringify({ way, connections: CONNECTIONS });
      const server = await startServer([
        process.execPath,
        fromBench('trials/accept.mjs'),
        parameters,
      ]);
      const download = async () => {
        const clients = await startReceiver([program, `${server.port}`, `${CONNECTIONS}`]);
        const result = await clients.ask('');
        await clients.stop();
        return result;
      };
      // V8 has compiled by then what there is to compile.
      await server.ask(`file ${small}`);
      for (let i = 0; i < WARM_UP_ROUNDS; i++) {
        await server.ask('begin');
        await download();
        await server.ask('end');
      }
      await server.ask(`file ${file}`);
      await server.ask('begin');
      const { bytes } = await download();
      const readings = await server.ask('end');
      await server.stop();
      const expected = way === 'empty' ? 0 : CONNECTIONS * size;
      if (bytes !== expected) throw new Error(`${way} sent ${bytes} bytes`);
      return readings;
    },
  });
  return { name, title, rounds, ways, checks: checkTargets(ways, TARGETS), missing: [] };
}
