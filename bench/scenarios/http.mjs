// Files over HTTP, of one size each: requests per second, and what one costs.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { checkTargets } from '../lib/checks.mjs';
import { fromBench } from '../lib/paths.mjs';
import { startServer } from '../lib/processes.mjs';
import { runRounds } from '../lib/rounds.mjs';
import { makeFile, makeResident } from '../lib/scratch.mjs';
import { cpuSecondsOf, load, missing as missingWrk } from '../lib/wrk.mjs';

const KiB = 1024;
const SIZES = { '1k': KiB, '16k': 16 * KiB, '64k': 64 * KiB, '1m': 1024 * KiB };
const ROUNDS = 3;

const bunIsThere = spawnSync('bun', ['--version']).status === 0;

/** The ways, with the command of the server that goes each. */
const WAYS = {
  zerocopy: [process.execPath, fromBench('trials/serve.mjs')],
  pipe: [process.execPath, fromBench('trials/serve.mjs')],
  readfile: [process.execPath, fromBench('trials/serve.mjs')],
  memory: [process.execPath, fromBench('trials/serve.mjs')],
  ...(bunIsThere && { bun: ['bun', fromBench('trials/serve-bun.mjs')] }),
};

const EXPRESS_WAYS = {
  'express-register': [
    process.execPath,
    '--import',
    fromBench('../dist/register.js'),
    fromBench('trials/serve.mjs'),
  ],
  express: [process.execPath, fromBench('trials/serve.mjs')],
};

const more = (to, atLeast, label) => ({
  what: `requests/s, to ${label}`,
  figure: 'requestsPerSecond',
  way: 'zerocopy',
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
  ...(size === '1k' ? [] : [more('bun', 1, 'Bun.file()')]),
];

const EXPRESS_TARGETS = () => [
  {
    what: 'requests/s, to without register',
    figure: 'requestsPerSecond',
    way: 'express-register',
    to: 'express',
    atLeast: 1,
  },
];

export const scenarios = Object.keys(SIZES).flatMap((size) => [
  scenario(
    `http-${size}`,
    size,
    WAYS,
    TARGETS(size),
    bunIsThere ? [] : ['Bun (npm install --no-save bun && node node_modules/bun/install.js)'],
  ),
  scenario(`express-${size}`, size, EXPRESS_WAYS, EXPRESS_TARGETS(), []),
]);

function scenario(name, size, commands, targets, missing) {
  return {
    name,
    /** @param {import('../run.mjs').Context} context */
    run: async ({ scratch, quick, rounds: fewest, log }) => {
      const rounds = quick ? fewest : ROUNDS;
      const seconds = quick ? 1 : 3;
      const title = `GET of ${size}, 32 kept-alive connections`;
      if (missingWrk) {
        return { name, title, rounds, ways: {}, checks: [], missing: [missingWrk] };
      }
      const file = path.join(scratch, size);
      if (!existsSync(file)) makeFile(file, SIZES[size]);
      const ways = await runRounds({
        ways: Object.keys(commands),
        rounds,
        log,
        warmUp: false,
        runTrial: async (way) => {
          const parameters = JSON.stringify({ way, directory: scratch });
          const { pid, port, stop } = await startServer([...commands[way], parameters]);
          const url = `http://127.0.0.1:${port}/${size}`;
          await load(url, 2); // compiled code is what a server runs
          makeResident(file);
          const before = cpuSecondsOf(pid);
          const { requests, ...figures } = await load(url, seconds);
          const cpuMicrosecondsEach = ((cpuSecondsOf(pid) - before) / requests) * 1e6;
          await stop();
          return { ...figures, cpuMicrosecondsEach };
        },
      });
      return { name, title, rounds, ways, checks: checkTargets(ways, targets), missing };
    },
  };
}
