// Files over HTTP, of one size each: requests per second, and what one costs.
import { existsSync } from 'node:fs';
import path from 'node:path';
import { checkTargets } from '../lib/checks.mjs';
import { loadTrial } from '../lib/http-trial.mjs';
import { missing as missingWrk } from '../lib/load.mjs';
import { find } from '../lib/peers.mjs';
import { runRounds } from '../lib/rounds.mjs';
import { makeFile, makeResident } from '../lib/scratch.mjs';

const KiB = 1024;
const SIZES = { '1k': KiB, '16k': 16 * KiB, '64k': 64 * KiB, '1m': 1024 * KiB };
const ROUNDS = 3;

/** Of the file that a range is asked of. */
const RANGED_BYTES = 64 * 1024 * KiB;
const RANGE = { Range: `bytes=1000000-${1_000_000 + 64 * KiB - 1}` };

const OURS = ['zerocopy', 'pipe', 'memory'];
const NODES = ['pipe-1m', 'readfile', 'send', 'sirv'];
const OTHERS = ['nginx', 'bun'];

const found = OTHERS.filter((name) => !find(name).missing);
const missingOthers = OTHERS.map((name) => find(name).missing).filter(Boolean);

const more = (to, atLeast, label, way = 'zerocopy') => ({
  what: `requests/s, to ${label}`,
  figure: 'requestsPerSecond',
  way,
  to,
  atLeast,
});

const TARGETS = (size) => [
  more('pipe', size === '1m' ? 2.8 : 3, 'pipe()'),
  ...(size === '1m'
    ? [
        {
          what: 'CPU per request, to pipe()',
          figure: 'cpuMicrosecondsEach',
          way: 'zerocopy',
          to: 'pipe',
          atMost: 1 / 5,
        },
      ]
    : []),
  more('readfile', 1, 'readFile()'),
  ...(size === '1k' || size === '16k'
    ? [more('memory', 0.65, 'end(buffer)')]
    : [more('nginx', 0.95, 'nginx')]),
  more('bun', 1, 'Bun.file()'),
];

export const scenarios = [
  ...Object.keys(SIZES).flatMap((size) => [
    scenario({ name: `http-${size}`, size, targets: TARGETS(size) }),
    scenario({
      name: `express-${size}`,
      size,
      only: ['express-register', 'express'],
      targets: [more('express', 1, 'without register', 'express-register')],
    }),
  ]),
  scenario({
    name: 'http-range',
    size: 'range',
    bytes: RANGED_BYTES,
    headers: RANGE,
    title: 'GET of 64 KiB in the middle of 64 MiB (Range), 32 kept-alive connections',
    omit: ['readfile'], // which knows nothing of ranges
    targets: [more('pipe', 1, 'pipe()'), more('nginx', 0.95, 'nginx'), more('bun', 1, 'Bun')],
  }),
];

function scenario({ name, size, bytes = SIZES[size], headers, only, omit = [], targets, title }) {
  return {
    name,
    /** @param {import('../run.mjs').Context} context */
    run: async ({ scratch, quick, core, rounds: fewest, log }) => {
      const rounds = quick ? fewest : ROUNDS;
      const seconds = quick ? 1 : 3;
      const directory = path.join(scratch, 'http');
      const file = path.join(directory, size);
      if (!existsSync(file)) makeFile(file, bytes);
      const all = only ?? (core ? OURS : [...OURS, ...NODES, ...found]);
      const ways = await runRounds({
        ways: all.filter((way) => !omit.includes(way)),
        rounds,
        log,
        warmUp: false,
        runTrial: (way) =>
          loadTrial({
            way,
            directory,
            path: `/${size}`,
            headers,
            warmUpSeconds: quick ? 1 : 2,
            seconds,
            prepare: () => makeResident(file),
          }),
      });
      return {
        name,
        title: title ?? `GET of ${size}, 32 kept-alive connections`,
        rounds,
        ways,
        checks: checkTargets(ways, targets),
        missing: [missingWrk, ...(only || core ? [] : missingOthers)].filter(Boolean),
      };
    },
  };
}
