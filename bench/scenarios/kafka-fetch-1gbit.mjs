// Consumers behind a link that both ways can fill: what an operator pays for the same throughput.
import { checkTargets } from '../lib/checks.mjs';
import { bestOfStreams, CONSUMERS, compileClients, runFetches } from '../lib/kafka.mjs';
import { makeNetwork } from '../lib/network.mjs';
import { MiB } from '../lib/scratch.mjs';

const ROUNDS = 3;

const targets = (best) => [
  {
    what: 'throughput, to the best stream',
    figure: 'megabytesPerSecond',
    to: best,
    atLeast: 0.97,
  },
  { what: 'process CPU, to the same', figure: 'cpuSeconds', to: best, atMost: 1 / 3 },
  {
    what: 'JavaScript thread CPU, to the same',
    figure: 'jsThreadSeconds',
    to: best,
    atMost: 1 / 10,
  },
];

export const scenarios = [scenario('kafka-fetch-1gbit', 1), scenario('kafka-fetch-1gbit-8m', 8)];

/** @param {string} name @param {number} fetchMiB */
function scenario(name, fetchMiB) {
  return {
    name,
    /** @param {import('../run.mjs').Context} context */
    run: async ({ scratch, quick, rounds: fewest, log }) => {
      const rounds = quick ? fewest : ROUNDS;
      const logBytes = (quick ? 128 : 1024) * MiB;
      const title =
        `${CONSUMERS} consumers at once, which discard, read ${logBytes / MiB} MiB in all of one ` +
        `hot log by fetches of ${fetchMiB} MiB, over a link of 1 Gbit/s`;
      const none = (reason) => ({ name, title, rounds, ways: {}, checks: [], missing: [reason] });
      const { clients, missing } = compileClients();
      if (!clients) return none(missing);
      const { network, remove, missing: missingNetwork } = makeNetwork('1gbit');
      if (!network) return none(`a network of its own: ${missingNetwork}`);
      try {
        const ways = await runFetches({
          ways: ['transfer', 'pipe-64k', 'pipe-256k', 'pipe-1m'],
          clients,
          scratch,
          logBytes,
          bytes: Math.floor(logBytes / CONSUMERS),
          fetchBytes: fetchMiB * MiB,
          network,
          rounds,
          log,
        });
        const checks = checkTargets(ways, targets(bestOfStreams(ways)));
        return { name, title, rounds, ways, checks, missing: [] };
      } finally {
        remove();
      }
    },
  };
}
