// Small messages there and back through a proxy: what a relay adds to each.
import { checkTargets } from '../lib/checks.mjs';
import { missingProxies, proxyWays, startProxy, startProxyEnds } from '../lib/proxies.mjs';
import { runRounds } from '../lib/rounds.mjs';

export const name = 'relay-latency';

const PINGS = 10_000;
const WARM_UP_PINGS = 1000;
const TARGETS = [
  {
    what: 'median round trip, to pipe() both ways',
    figure: 'roundTripMicroseconds',
    way: 'relay',
    to: 'pipe-both',
    atMost: 1,
  },
];

/** @param {import('../run.mjs').Context} context */
export async function run({ scratch, quick, rounds, log }) {
  const pings = quick ? PINGS / 10 : PINGS;
  const title = `${pings} ping-pongs of 64 bytes through a proxy`;
  const { ends, missing } = await startProxyEnds();
  if (!ends) return { name, title, rounds, ways: {}, checks: [], missing: [missing] };
  const ways = await runRounds({
    ways: proxyWays,
    rounds,
    log,
    runTrial: async (way) => {
      const proxy = await startProxy(way, ends.port, scratch);
      const trial = await ends.ask(`ping-pong ${proxy.port} ${pings} ${WARM_UP_PINGS}`);
      const { relayed, ...facts } = await proxy.stop();
      return { ...trial, ...facts };
    },
  });
  await ends.stop();
  return {
    name,
    title,
    rounds,
    ways,
    checks: checkTargets(ways, TARGETS),
    missing: missingProxies,
  };
}
