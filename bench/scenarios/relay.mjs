// One large answer through a proxy: what a relayed byte costs.
import path from 'node:path';
import { checkTargets } from '../lib/checks.mjs';
import { missingProxies, proxyWays, startProxy, startProxyEnds } from '../lib/proxies.mjs';
import { runRounds } from '../lib/rounds.mjs';
import { MiB, makeFile, makeResident } from '../lib/scratch.mjs';

export const name = 'relay';

/** Cheap, and the ratio to HAProxy is a matter of a few percent. */
const ROUNDS = 9;
const WARM_UP_BYTES = 16 * MiB;

const cpu = { figure: 'cpuSeconds', way: 'relay' };
const throughput = { figure: 'megabytesPerSecond', way: 'relay' };
const TARGETS = [
  { what: 'process CPU, to pipe() both ways', ...cpu, to: 'pipe-both', atMost: 1 / 4 },
  { what: 'throughput, to pipe() both ways', ...throughput, to: 'pipe-both', atLeast: 2 },
  { what: 'process CPU, to HAProxy', ...cpu, to: 'haproxy', atMost: 1 },
  { what: 'throughput, to HAProxy', ...throughput, to: 'haproxy', atLeast: 0.95 },
];

/** @param {import('../run.mjs').Context} context */
export async function run({ scratch, quick, core, rounds: fewest, log }) {
  const rounds = quick ? fewest : ROUNDS;
  const size = (quick ? 256 : 1024) * MiB;
  const title = `${size / MiB} MiB from an upstream server through a proxy to a client, which discards`;
  const { ends, missing } = await startProxyEnds();
  if (!ends) return { name, title, rounds, ways: {}, checks: [], missing: [missing] };
  log('making files');
  const file = makeFile(path.join(scratch, 'relay'), size);
  const warmUp = makeFile(path.join(scratch, 'relay-warm-up'), WARM_UP_BYTES);

  const ways = await runRounds({
    ways: proxyWays.filter((way) => !core || way !== 'haproxy'),
    rounds,
    log,
    runTrial: async (way) => {
      makeResident(file);
      const proxy = await startProxy(way, ends.port, scratch);
      const trial = await ends.ask(`stream ${proxy.port} ${proxy.pid} ${file} ${warmUp}`);
      const { relayed = WARM_UP_BYTES + size, ...facts } = await proxy.stop();
      if (trial.bytes !== size) throw new Error(`${trial.bytes} bytes came through ${way}`);
      if (relayed !== WARM_UP_BYTES + size) throw new Error(`${way} counts ${relayed} bytes`);
      return { ...trial, ...facts, megabytesPerSecond: size / trial.seconds / 1e6 };
    },
  });
  await ends.stop();
  return {
    name,
    title,
    rounds,
    ways,
    checks: checkTargets(ways, TARGETS),
    missing: core ? [] : missingProxies,
  };
}
