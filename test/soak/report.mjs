// What a soak has come to: a table of its thirds, and a line for each thing that must hold.
import { median } from './sampler.mjs';

const MiB = 1024 * 1024;
const mib = (bytes) => (bytes / MiB).toFixed(1);
const thousands = (value) => Math.round(value).toLocaleString('en');

/** Rows of a table in columns of their own width. */
function print(rows) {
  const widths = rows[0].map((_, column) =>
    Math.max(...rows.map((row) => String(row[column]).length)),
  );
  for (const row of rows) {
    const cells = row.map((cell, i) =>
      i ? String(cell).padStart(widths[i]) : String(cell).padEnd(widths[i]),
    );
    console.log(`  ${cells.join('  ')}`);
  }
}

/** @template T @param {T[]} items @returns {T[][]} */
function thirdsOf(items) {
  const cuts = [0, 1, 2, 3].map((i) => Math.round((i * items.length) / 3));
  return [0, 1, 2].map((i) => items.slice(cuts[i], cuts[i + 1]));
}

const all = (items, name) => items.map((item) => item[name]);
const range = (values) => [...new Set(values)].sort((a, b) => a - b).join(', ');

/** Returns whether all has held. */
export function report({ plan, took, samples, idlePoints, counts, totals, complaints, failure }) {
  const [before, ...after] = idlePoints;
  const thirds = thirdsOf(samples);
  const idleThirds = thirdsOf(after);
  const memory = thirds.map((third) => median(all(third, 'residentBytes')));
  const growth = memory[2] / memory[0] - 1;

  const row = (what, of) => [what, ...thirds.map((third, i) => of(third, idleThirds[i]))];
  console.log('');
  print([
    ['', 'first third', 'second', 'last'],
    row('samples', (third) => third.length),
    row('RSS, median, MiB', (third) => mib(median(all(third, 'residentBytes')))),
    row('RSS, least and most', (third) => {
      const bytes = all(third, 'residentBytes');
      return `${mib(Math.min(...bytes))}–${mib(Math.max(...bytes))}`;
    }),
    row('RSS when idle, median', (_, idle) => mib(median(all(idle, 'residentBytes')))),
    row('heap when idle, median', (_, idle) => mib(median(all(idle, 'heapUsed')))),
    row('descriptors, median', (third) => median(all(third, 'descriptors'))),
    row('… when idle, median', (_, idle) => median(all(idle, 'descriptors'))),
    row('threads, median', (third) => median(all(third, 'threads'))),
    row('… when idle, median', (_, idle) => median(all(idle, 'threads'))),
    row('warmers, most', (third) => Math.max(...all(third, 'warmers'))),
    row('loop delay, p99, ms', (third) => median(all(third, 'delayP99')).toFixed(1)),
    row('loop delay, most, ms', (third) => Math.max(...all(third, 'delayMax')).toFixed(1)),
    row('transfers', (third) =>
      thousands((third.at(-1)?.transfers ?? 0) - (third[0]?.transfers ?? 0)),
    ),
  ]);
  if (counts) {
    console.log('\n  how the transfers ended, warm-up included:');
    for (const [how, count] of Object.entries(counts.how).sort(([a], [b]) => (a < b ? -1 : 1)))
      console.log(`  ${String(count).padStart(8)}  ${how}`);
  }
  console.log('');

  let held = true;
  const check = (holds, what) => {
    held &&= holds;
    console.log(`${holds ? 'ok  ' : 'FAIL'}  ${what}`);
  };
  if (failure) check(false, String(failure.stack ?? failure));
  for (const complaint of complaints.slice(0, 5)) console.log(complaint);
  check(
    complaints.length === 0 && totals.bytes > 0,
    `every byte is right: ${thousands(totals.bytes / 1e6)} MB checked, ${totals.leftovers} uploads ` +
      `that were broken off; ${complaints.length} clients complain`,
  );
  const wanted = plan.connections + plan.aborted;
  check(
    totals.connections >= wanted,
    `connections: ${thousands(totals.connections)} of ${thousands(wanted)} and more, in ${took.toFixed(0)} s`,
  );
  check(
    growth <= plan.mostGrowth,
    `memory: the median RSS of the last third, ${mib(memory[2])} MiB, is ` +
      `${(growth * 100).toFixed(1)} % above the first's, ${mib(memory[0])} MiB; at most ${plan.mostGrowth * 100} %`,
  );
  for (const name of ['descriptors', 'threads']) {
    const values = all(after, name);
    check(
      values.length === plan.waves && values.every((value) => value === before?.[name]),
      `${name}: ${before?.[name]} before the load; at the ${values.length} idle points ${range(values)}`,
    );
  }
  check(
    counts !== undefined && counts.begun === counts.ended,
    `transfers: ${thousands(counts?.begun ?? 0)} begun, ${thousands(counts?.ended ?? 0)} ended`,
  );
  return held;
}
