// Resident files beside 64 transfers from a slow disk: what they notice of it.
import { existsSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import { checkTargets } from '../lib/checks.mjs';
import { compile } from '../lib/compile.mjs';
import { nodeTrial, runTrial, startReceiver } from '../lib/processes.mjs';
import { runRounds } from '../lib/rounds.mjs';
import { MiB, makeFile, makeResident } from '../lib/scratch.mjs';

export const name = 'cold-disk';

const KiB = 1024;
const READ_MS = 20;
const COLD_BYTES = 256 * KiB;
/** More than are sent in a trial, so that each is cold. */
const COLD_FILES = 20_000;
const RESIDENT_FILES = 64;

/** Of each: how everything is sent, and what is beside. */
const WAYS = {
  'hot-alone': { how: 'transfer', beside: 'nothing' },
  'hot-beside-cold': { how: 'transfer', beside: 'cold' },
  'hot-beside-hot': { how: 'transfer', beside: 'resident' },
  'pipe-alone': { how: 'pipe', beside: 'nothing' },
  'pipe-beside-cold': { how: 'pipe', beside: 'cold' },
};

const against = (what, figure, to, atMost) => ({
  what,
  figure,
  way: 'hot-beside-cold',
  to,
  atMost,
});
const TARGETS = [
  against('p99 of 64 KiB, to alone', 'hotSmallP99Ms', 'hot-alone', 2),
  against('p99 of 1 MiB, to alone', 'hotLargeP99Ms', 'hot-alone', 2),
  against('loop delay p99, to equal CPU without', 'loopDelayP99Ms', 'hot-beside-hot', 1),
];

/** @param {import('../run.mjs').Context} context */
export async function run({ scratch, quick, rounds, log }) {
  const seconds = quick ? 2 : 5;
  const title =
    `resident files of 64 KiB and 1 MiB, in turns, beside 64 transfers of ${COLD_BYTES / KiB} KiB ` +
    `from a disk whose reads take ${READ_MS} ms each`;
  const disk = compile('bench/peers/slow-disk.c', ['-lfuse3']);
  const receiver = compile('bench/receiver/receiver.c');
  const missing = [
    process.getuid() !== 0 && 'root, to mount',
    !existsSync('/dev/fuse') && '/dev/fuse',
    disk.missing && `the slow disk (Debian package libfuse3-dev): ${disk.missing}`,
    receiver.missing && `the receiver in C (${receiver.missing})`,
  ].filter(Boolean);
  if (missing.length > 0) return { name, title, rounds, ways: {}, checks: [], missing };

  log('making files');
  const hot = [64 * KiB, MiB].map((size) => makeFile(path.join(scratch, `hot-${size}`), size));
  const folder = path.join(scratch, 'beside');
  mkdirSync(folder);
  const resident = Array.from({ length: RESIDENT_FILES }, (_, i) =>
    makeFile(path.join(folder, `${i}`), COLD_BYTES),
  );
  const mountpoint = path.join(scratch, 'slow-disk');
  mkdirSync(mountpoint);
  // One that sleeps: the disk has its core too.
  const sink = await startReceiver([receiver.program, 'discard']);
  const pace = makePace();

  const ways = await runRounds({
    ways: Object.keys(WAYS),
    rounds,
    log,
    runTrial: async (way) => {
      const { how, beside } = WAYS[way];
      // In a mount namespace of its own, which goes with the trial whatever happens.
      const slow = await startReceiver([
        ...['unshare', '--mount', '--propagation', 'private', disk.program, mountpoint],
        ...[`${COLD_FILES}`, `${COLD_BYTES}`, 'keep-cache', 'cache-names'],
      ]);
      await slow.ask(`delay read ${READ_MS}`);
      const sources = {
        cold: { folder: mountpoint, files: COLD_FILES },
        resident: { folder, files: RESIDENT_FILES },
      };
      for (const file of [...hot, ...resident]) makeResident(file);
      const parameters = { how, port: sink.port, seconds, hot, beside: sources[beside] };
      const trial = await runTrial([
        ...['nsenter', `--mount=/proc/${slow.pid}/ns/mnt`, `--wd=${process.cwd()}`],
        ...nodeTrial('cold.mjs', { ...parameters, paceMs: beside === 'resident' ? pace.ms : 0 }),
      ]);
      await slow.stop();
      pace.hear(way, trial);
      const { besideMs, ...figures } = trial;
      return figures;
    },
  });
  await sink.stop();
  return { name, title, rounds, ways, checks: checkTargets(ways, TARGETS), missing: [] };
}

/**
 * How often each of the resident files beside is sent: so that they take the CPU that the cold ones
 * have last taken. The warm-up finds it, and each round mends it.
 */
function makePace() {
  const cpu = {};
  const pace = {
    ms: READ_MS,
    /** @param {string} way @param {{ cpuSeconds: number }} trial */
    hear(way, { cpuSeconds }) {
      cpu[way] = cpuSeconds;
      if (way !== 'hot-beside-hot' || !(cpu['hot-beside-cold'] > 0)) return;
      const factor = cpuSeconds / cpu['hot-beside-cold'];
      pace.ms = Math.max(1, pace.ms * Math.min(2, Math.max(0.5, factor ** 2)));
    },
  };
  return pace;
}
