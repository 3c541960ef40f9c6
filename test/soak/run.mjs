// Ten minutes of mixed load on one process, to see whether it keeps anything.
//
//   npm run soak                     600 s, 10,000 connections and 100,000 that are broken off
//   npm run soak -- --seconds 30     the same checks, with fewer of both
//
// The load comes in waves from other processes (load.mjs); every byte is checked by those who get it.
// Between the waves nothing is open or under way, and the process must hold what it held before the
// first. Its memory is looked at from outside about once a second, also under load: the median of
// the last third of the time against that of the first. Other waves go before, for warming up.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import {
  buildClient,
  checkArrivals,
  checkSite,
  clientProgram,
  makeSite,
  Server,
} from '../hostile/harness.mjs';
import { wave } from './load.mjs';
import { report } from './report.mjs';
import { startSampler } from './sampler.mjs';

const { values } = parseArgs({ options: { seconds: { type: 'string', default: '600' } } });
const seconds = Number(values.seconds);
if (!(seconds >= 10)) throw new Error('--seconds: at least 10');

/** From here on a run is long enough for the bound on memory that it is held to. */
const LONG_SECONDS = 300;
const long = seconds >= LONG_SECONDS;

/**
 * Over some 50,000 transfers V8's heap, with the code that it compiles, still grows, ever more slowly,
 * by half a MiB: so much goes before a long run's first third. There is no time for that in a short
 * one, whose bound is wider for it.
 */
const plan = long
  ? {
      ...{ seconds, long, waves: 30, connections: 10_000, aborted: 100_000, sampleMs: 1000 },
      warmUp: { waves: 5, seconds: 100, connections: 8000, aborted: 35_000 },
      mostGrowth: 0.02,
    }
  : {
      ...{ seconds, long, waves: 6, connections: 3000, aborted: 6000, sampleMs: 250 },
      warmUp: { waves: 3, seconds: 15, connections: 1500, aborted: 3000 },
      mostGrowth: 0.06,
    };
/**
 * What is free is not to be taken for what is held, or the one would drown the other. Between
 * collections V8's heap varies by 15 MiB: so its young generation stays small, and garbage is
 * collected at each idle point. The arenas that glibc has for each thread keep what has been freed,
 * 3 to 7 MiB that grow for hours, of which less than a tenth is in use (malloc_stats(3)): so there is
 * one, and large pieces are the kernel's own.
 */
const PINNED = {
  execArgv: ['--max-semi-space-size=1', '--expose-gc'],
  env: {
    MALLOC_ARENA_MAX: '1',
    MALLOC_MMAP_THRESHOLD_: '32768',
    MALLOC_TRIM_THRESHOLD_: '65536',
  },
};
/** For the last of a wave's connections, and for idle threads to go. */
const SETTLE_SECONDS = 1.5;

const KiB = 1024;
const sizes = [1, 1000, 64 * KiB + 1, 300_001, 1024 * KiB, 3 * 1024 * KiB + 5];

const scratch = path.resolve('build/test-scratch');
mkdirSync(scratch, { recursive: true });
const folder = mkdtempSync(path.join(scratch, 'soak-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
process.on('SIGINT', () => process.exit(130)).on('SIGTERM', () => process.exit(143));

buildClient();
const certificate = { key: path.join(folder, 'key.pem'), cert: path.join(folder, 'cert.pem') };
execFileSync(
  'openssl',
  [
    ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
    ...['-subj', '/CN=localhost', '-keyout', certificate.key, '-out', certificate.cert],
  ],
  { stdio: 'ignore' },
);

const site = makeSite(folder, sizes);
const server = await Server.start(site, { certificate, ...PINNED });
await server.ask('watch');

const complaints = [];
const totals = { connections: 0, requests: 0, bytes: 0, leftovers: 0 };
let seed = 0;

/** A wave, and the idle point after it. */
async function runWave({ waves, seconds, connections, aborted }) {
  seed += 1;
  const { reports, complaints: heard } = await wave({
    server,
    program: clientProgram(),
    connections: Math.ceil(connections / waves),
    aborted: Math.ceil(aborted / waves),
    seconds: Math.max(1, seconds / waves - SETTLE_SECONDS),
    seed,
  });
  complaints.push(...heard);
  for (const { connections = 0, requests = 0, bytes = 0 } of reports) {
    totals.connections += connections;
    totals.requests += requests;
    totals.bytes += bytes;
  }
  const { descriptors, threads } = await server.idle();
  totals.leftovers += checkArrivals(site);
  const { heapUsed, rss } = await server.ask('memory');
  return { descriptors, threads, heapUsed, residentBytes: rss };
}

let failure;
let samples = [];
const idlePoints = [];
let measuredFrom = Date.now();
try {
  const { warmUp } = plan;
  console.log(`warm-up: ${warmUp.waves} waves, ${warmUp.seconds} s`);
  for (let i = 0; i < warmUp.waves; i++) idlePoints[0] = await runWave(warmUp);
  Object.assign(totals, { connections: 0, requests: 0, bytes: 0 });

  console.log(`load: ${plan.waves} waves, ${seconds} s`);
  measuredFrom = Date.now();
  const sampler = startSampler(server, plan.sampleMs);
  samples = sampler.samples;
  for (let i = 0; i < plan.waves; i++) {
    idlePoints.push(await runWave(plan));
    if (long && i % 5 === 4) console.log(`  ${Math.round((Date.now() - measuredFrom) / 1000)} s`);
  }
  sampler.stop();
  checkSite(site);
} catch (error) {
  failure = error;
}
const counts = failure ? undefined : await server.ask('counts');
await server.stop().catch((error) => {
  failure ??= error;
});

const took = (Date.now() - measuredFrom) / 1000;
const held = report({ plan, took, samples, idlePoints, counts, totals, complaints, failure });
process.exit(held ? 0 : 1);
