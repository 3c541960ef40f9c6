// Consumers of a hot log, by fetches of two sizes: what a fetched byte costs a broker.
import { checkTargets } from '../lib/checks.mjs';
import { bestOfStreams, CONSUMERS, compileClients, runFetches } from '../lib/kafka.mjs';
import { MiB } from '../lib/scratch.mjs';

const ROUNDS = 3;

const targets = (best) => [
  { what: 'process CPU, to the best stream', figure: 'cpuSeconds', to: best, atMost: 1 / 3 },
  {
    what: 'JavaScript thread CPU, to the same',
    figure: 'jsThreadSeconds',
    to: best,
    atMost: 1 / 10,
  },
];

export const scenarios = [
  // What clients have by default, as max.partition.fetch.bytes.
  scenario('kafka-fetch', 1, ['transfer', 'pipe-64k', 'pipe-256k', 'pipe-1m']),
  scenario('kafka-fetch-8m', 8, ['transfer', 'pipe-64k', 'pipe-256k', 'pipe-1m', 'pipe-4m']),
];

function scenario(name, fetchMiB, wayNames) {
  return {
    name,
    /** @param {import('../run.mjs').Context} context */
    run: async ({ scratch, quick, rounds: fewest, log }) => {
      const rounds = quick ? fewest : ROUNDS;
      const bytes = (quick ? 128 : 1024) * MiB;
      const title =
        `${CONSUMERS} consumers at once, which discard, read ${bytes / MiB} MiB each of one ` +
        `hot log by fetches of ${fetchMiB} MiB`;
      const { clients, missing } = compileClients();
      if (!clients) return { name, title, rounds, ways: {}, checks: [], missing: [missing] };
      const ways = await runFetches({
        ways: wayNames,
        clients,
        scratch,
        logBytes: bytes,
        bytes,
        fetchBytes: fetchMiB * MiB,
        rounds,
        log,
      });
      const checks = checkTargets(ways, targets(bestOfStreams(ways)));
      return { name, title, rounds, ways, checks, missing: [] };
    },
  };
}
