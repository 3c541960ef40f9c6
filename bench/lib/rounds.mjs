import { summarizeTrials } from './summary.mjs';

/**
 * Runs each way once a round, after a round that doesn't count. Every other round goes backwards,
 * so that no way always comes after the same one.
 * @param {object} options
 * @param {string[]} options.ways
 * @param {number} options.rounds
 * @param {(way: string, round: number) => Promise<Record<string, unknown>>} options.runTrial
 * @param {(message: string) => void} options.log
 * @param {boolean} [options.warmUp]
 */
export async function runRounds({ ways, rounds, runTrial, log, warmUp = true }) {
  const trials = Object.fromEntries(ways.map((way) => [way, []]));
  for (let round = warmUp ? 0 : 1; round <= rounds; round++) {
    log(round === 0 ? 'warm-up' : `round ${round} of ${rounds}`);
    for (const way of round % 2 === 1 ? ways : ways.toReversed()) {
      const result = await runTrial(way, round);
      if (round > 0) trials[way].push(result);
    }
  }
  return Object.fromEntries(ways.map((way) => [way, summarizeTrials(trials[way])]));
}
