// A trial: has ever more transfers under way to a receiver that reads nothing, and prints what each
// one takes of memory and descriptors.
//
//   node --expose-gc hold.mjs '{"way":"transfer","port":1234,"file":"/…","few":1000,"most":20000}'
//
// `most` is lowered to what the limit on descriptors allows.
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { connectMany } from '../lib/connect.mjs';
import { cpuSeconds, statusKiB } from '../lib/readings.mjs';
import { ways } from '../lib/ways.mjs';

/** For what opens files meanwhile. */
const SPARE_DESCRIPTORS = 100;
const QUIET_INTERVAL_MS = 250;
const QUIET_CPU_SECONDS = 0.005;
const QUIET_DEADLINE_MS = 60_000;

const { way, port, file, few, most } = JSON.parse(process.argv[2]);
const send = way === 'idle' ? () => new Promise(() => {}) : ways[way];
const sockets = [];

function openDescriptors() {
  return readdirSync('/proc/self/fd').length;
}

function descriptorLimit() {
  // Node raises the soft limit to the hard one when it starts.
  const limits = readFileSync('/proc/self/limits', 'utf8');
  return Number(/^Max open files\s+(\d+)/m.exec(limits)?.[1]);
}

/** Transfers are stuck when the process has nothing left to do. */
async function becomeQuiet() {
  const deadline = performance.now() + QUIET_DEADLINE_MS;
  for (let before = cpuSeconds(); performance.now() < deadline; ) {
    await setTimeout(QUIET_INTERVAL_MS);
    const now = cpuSeconds();
    if (now - before < QUIET_CPU_SECONDS) return;
    before = now;
  }
  throw new Error('The transfers did not come to rest');
}

let ending = false;

function mustNotEnd(outcome) {
  if (ending) return;
  console.error('A transfer that should be stuck has ended:', outcome);
  process.exit(1);
}

/** @param {number} count how many transfers are to be under way */
async function fillUpTo(count) {
  const added = await connectMany(port, count - sockets.length);
  sockets.push(...added);
  for (const socket of added) send(file, socket).then(mustNotEnd, mustNotEnd);
  await becomeQuiet();
  // What is garbage is not held by a transfer.
  globalThis.gc();
  globalThis.gc();
  await setTimeout(QUIET_INTERVAL_MS);
  return { descriptors: openDescriptors(), residentKiB: statusKiB('VmRSS') };
}

const atNone = openDescriptors();
const atFew = await fillUpTo(few);
// As many sockets alone as there are transfers, which have two descriptors each.
const descriptorsEach = way === 'idle' ? 2 : (atFew.descriptors - atNone) / few;
const allowed = Math.floor((descriptorLimit() - SPARE_DESCRIPTORS - atNone) / descriptorsEach);
const top = Math.min(most, allowed);
if (top <= few) throw new Error(`The limit on descriptors allows no more than ${top} transfers`);
const atMost = await fillUpTo(top);
if (way !== 'idle' && sockets.some((socket) => socket.bytesWritten === 0))
  throw new Error('A transfer did not start');

const result = {
  way,
  transfers: top,
  residentMiB: atMost.residentKiB / 1024,
  residentKiBEach: (atMost.residentKiB - atFew.residentKiB) / (top - few),
  descriptorsEach: (atMost.descriptors - atFew.descriptors) / (top - few),
};
process.stdout.write(`${JSON.stringify(result)}\n`, () => {
  ending = true;
  // A reset leaves no connection in TIME_WAIT, which would take ports from the next trial.
  for (const socket of sockets) socket.resetAndDestroy();
  setImmediate(() => process.exit());
});
