// A small answer, while the same server sends 16 large files: how long others wait.
import path from 'node:path';
import { checkTargets } from '../lib/checks.mjs';
import { compile } from '../lib/compile.mjs';
import { startHttpServer } from '../lib/http-trial.mjs';
import { load, missing as missingWrk } from '../lib/load.mjs';
import { startReceiver } from '../lib/processes.mjs';
import { runRounds } from '../lib/rounds.mjs';
import { MiB, makeFile, makeResident } from '../lib/scratch.mjs';

export const name = 'http-beside-large';

const LARGE = 16;
const SMALL_BYTES = 1024;
const SETTLE_SECONDS = 1;
const p99 = { figure: 'latencyP99Ms', way: 'zerocopy' };
const TARGETS = [
  { what: 'p99, to pipe()', ...p99, to: 'pipe', atMost: 1 / 3 },
  { what: 'p99, to pipe() with 1 MiB', ...p99, to: 'pipe-1m', atMost: 1 },
];

/** @param {import('../run.mjs').Context} context */
export async function run({ scratch, quick, rounds, log }) {
  const largeBytes = 64 * MiB;
  const seconds = quick ? 2 : 5;
  const title =
    `GET of ${SMALL_BYTES} bytes, one after the other, while ${LARGE} clients that discard get ` +
    `${largeBytes / MiB} MiB again and again`;
  const { program, missing } = compile('bench/peers/download.c');
  if (!program) return { name, title, rounds, ways: {}, checks: [], missing: [missing] };
  const directory = path.join(scratch, 'beside-large');
  makeFile(path.join(directory, 'small'), SMALL_BYTES);
  const large = makeFile(path.join(directory, 'large'), largeBytes);

  const ways = await runRounds({
    ways: ['zerocopy', 'pipe', 'pipe-1m'],
    rounds,
    log,
    warmUp: false,
    runTrial: async (way) => {
      makeResident(large);
      const server = await startHttpServer(way, directory);
      const url = `http://127.0.0.1:${server.port}/small`;
      await load(url, SETTLE_SECONDS, { connections: 1 });
      const clients = await startReceiver([program, `${server.port}`, `${LARGE}`, '/large']);
      await clients.ask('');
      await load(url, SETTLE_SECONDS, { connections: 1 });
      const before = await clients.ask('');
      const began = performance.now();
      const { latencyP99Ms, requestsPerSecond } = await load(url, seconds, { connections: 1 });
      const { bytes } = await clients.ask('');
      const took = (performance.now() - began) / 1000;
      await clients.stop();
      await server.stop();
      const megabytesPerSecond = (bytes - before.bytes) / took / 1e6;
      return { latencyP99Ms, requestsPerSecond, megabytesPerSecond };
    },
  });
  const checks = checkTargets(ways, TARGETS);
  return { name, title, rounds, ways, checks, missing: missingWrk ? [missingWrk] : [] };
}
