// A trial: copies a file, after a small one, and prints the readings.
//
//   node copy.mjs '{"way":"copy","source":"/…","sink":"/…","warmUp":"/…"}'
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { promises, rmSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { copyFile } from 'zerocopy';
import { startReadings } from '../lib/readings.mjs';

/** Time for what the warm-up left behind: closing, collecting. */
const SETTLE_MS = 50;

const { way, source, sink, warmUp } = JSON.parse(process.argv[2]);

/** Each resolves to the backend that was used, where that is known. */
const ways = {
  copy: async (from, to) => (await copyFile(from, to)).backend,
  'fs-copy': async (from, to) => {
    await promises.copyFile(from, to);
  },
  // A process of its own, whose start is measured too and whose CPU is not.
  cp: async (from, to) => {
    const [status] = await once(spawn('cp', [from, to], { stdio: 'inherit' }), 'exit');
    if (status !== 0) throw new Error(`cp ended with ${status}`);
  },
};
const copy = ways[way];

await copy(warmUp, sink);
rmSync(sink);
await setTimeout(SETTLE_MS);

const stopReadings = startReadings(false);
const backend = await copy(source, sink);
const { seconds, cpuSeconds } = stopReadings();
console.log(JSON.stringify({ backend, seconds, ...(way !== 'cp' && { cpuSeconds }) }));
