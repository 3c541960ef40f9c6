// Files of every size: from which one on it pays, and where it doesn't.
import path from 'node:path';
import { lowerBoundOfRatio } from '../lib/checks.mjs';
import { startDiscardingReceiver } from '../lib/discard.mjs';
import { loadTrial } from '../lib/http-trial.mjs';
import { missing as missingWrk } from '../lib/load.mjs';
import { nodeTrial, runTrial } from '../lib/processes.mjs';
import { runRounds } from '../lib/rounds.mjs';
import { MiB, makeFile, makeResident } from '../lib/scratch.mjs';

const KiB = 1024;
const SIZES = [1, KiB, 4 * KiB, 16 * KiB, 64 * KiB, 256 * KiB, MiB, 4 * MiB, 16 * MiB];
/** No slower than createReadStream, with 95 % confidence and what noise is left. */
const AT_LEAST = 0.97;

export const scenarios = [
  {
    name: 'file-size',
    run: (context) =>
      sweep(context, {
        name: 'file-size',
        title: 'files of each size, one after the other, over one connection to a receiver',
        ways: ['transfer', 'zerocopy', 'pipe'],
        figure: 'perSecond',
        rounds: 10,
        start: startDiscardingReceiver,
        trial: (way, file, receiver, quick) =>
          runTrial(
            nodeTrial('repeat.mjs', { way, file, port: receiver.port, seconds: quick ? 0.2 : 0.4 }),
          ),
      }),
  },
  {
    name: 'http-file-size',
    run: (context) =>
      sweep(context, {
        name: 'http-file-size',
        title: 'GET of files of each size, 32 kept-alive connections',
        ways: ['zerocopy', 'pipe'],
        figure: 'requestsPerSecond',
        rounds: 5,
        start: async () => ({ stop: () => {}, missing: missingWrk }),
        trial: (way, file) =>
          loadTrial({
            way,
            directory: path.dirname(file),
            path: `/${path.basename(file)}`,
            warmUpSeconds: 1,
            seconds: 1,
            prepare: () => {},
          }),
      }),
  },
];

/** @param {import('../run.mjs').Context} context */
async function sweep({ scratch, quick, rounds: fewest, log }, { name, title, ...options }) {
  const { ways: names, figure, rounds: most, start, trial } = options;
  const rounds = quick ? Math.max(3, fewest) : most;
  const peer = await start();
  const bySize = [];
  for (const size of SIZES) {
    const file = makeFile(path.join(scratch, name, `${size}`), size);
    const ways = await runRounds({
      ways: names,
      rounds,
      log: (message) => log(`${sizeName(size)}: ${message}`),
      warmUp: false,
      runTrial: (way) => {
        makeResident(file);
        return trial(way, file, peer, quick);
      },
    });
    bySize.push({ size, ways });
  }
  await peer.stop();

  const ratios = names
    .filter((way) => way !== 'pipe')
    .flatMap((way) => bySize.map(({ size, ways }) => ratioAt(way, size, ways, figure)));
  return {
    name,
    title,
    rounds,
    ways: {},
    parts: bySize.map(({ size, ways }) => ({ title: sizeName(size), ways })),
    series: [
      {
        title,
        x: { label: 'file size, bytes', scale: 'log' },
        figure,
        ways: Object.fromEntries(
          names.map((way) => [
            way,
            bySize.map(({ size, ways }) => {
              const { median, min, max } = ways[way].figures[figure];
              return { x: size, median, min, max };
            }),
          ]),
        ),
      },
    ],
    notes: crossovers(ratios),
    checks: ratios.map(({ way, size, bound }) => ({
      what: `${way}, ${sizeName(size)}: rate to pipe(), lower 95 % bound`,
      ratio: bound,
      atLeast: AT_LEAST,
      met: bound >= AT_LEAST,
    })),
    missing: peer.missing ? [peer.missing] : [],
  };
}

function ratioAt(way, size, ways, figure) {
  const [ours, pipes] = [way, 'pipe'].map((each) => ways[each].figures[figure]);
  return { way, size, ratio: ours.median / pipes.median, bound: lowerBoundOfRatio(ours, pipes) };
}

/** Where a way is not ahead: the sizes, or that there are none. */
function crossovers(ratios) {
  return [...new Set(ratios.map(({ way }) => way))].map((way) => {
    const behind = ratios.filter((each) => each.way === way && each.ratio <= 1);
    if (behind.length === 0) return `${way} is ahead of createReadStream().pipe() at every size`;
    const sizes = behind.map(({ size, ratio }) => `${sizeName(size)} (${ratio.toFixed(2)})`);
    return `${way} is not ahead of createReadStream().pipe() at ${sizes.join(', ')}`;
  });
}

function sizeName(bytes) {
  if (bytes < KiB) return `${bytes} B`;
  return bytes < MiB ? `${bytes / KiB} KiB` : `${bytes / MiB} MiB`;
}
