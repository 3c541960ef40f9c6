// Whole files copied: one that is full, and one that is nearly all holes.
import { rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { checkTargets } from '../lib/checks.mjs';
import { nodeTrial, runTrial } from '../lib/processes.mjs';
import { runRounds } from '../lib/rounds.mjs';
import {
  freeBytes,
  GiB,
  MiB,
  makeFile,
  makeResident,
  makeSparseFile,
  mustBeEqual,
  mustHaveSize,
  writeOut,
} from '../lib/scratch.mjs';

export const name = 'copy-file';

/** The ratio of the full file is a matter of a few percent. */
const ROUNDS = 9;
/** Rounds, from the first on, in which the sparse file is copied too: fs may write all of it. */
const SPARSE_ROUNDS = 2;
const DATA_SHARE = 0.01;
const BLOCK_BYTES = 512; // of stat(2)'s st_blocks
const TARGETS = [
  { what: 'seconds, to fs.promises', figure: 'seconds', way: 'copy', to: 'fs-copy', atMost: 1.05 },
  {
    what: 'seconds for the sparse file, to fs.promises',
    figure: 'sparseSeconds',
    way: 'copy',
    to: 'fs-copy',
    atMost: 1 / 5,
  },
];

/** @param {import('../run.mjs').Context} context */
export async function run({ scratch, quick, rounds: fewest, log }) {
  const rounds = quick ? fewest : ROUNDS;
  const size = (quick ? 256 : 1024) * MiB;
  const sparseSize = (quick ? 1 : 10) * GiB;
  const title =
    `a full file of ${size / MiB} MiB, ` +
    `and one of ${sparseSize / GiB} GiB with ${DATA_SHARE * 100} % data`;
  log('making files');
  const full = makeFile(path.join(scratch, 'copy-full'), size);
  const warmUp = makeFile(path.join(scratch, 'copy-warm-up'), 16 * MiB);
  const sink = path.join(scratch, 'copied');
  const sparse = path.join(scratch, 'copy-sparse');
  const smallSparse = path.join(scratch, 'copy-sparse-small');
  const free = freeBytes(scratch);
  const hasRoom = free > sparseSize + GiB;
  const missing = hasRoom ? [] : [`the sparse file: no room for ${sparseSize} bytes in ${scratch}`];
  if (hasRoom) {
    makeSparseFile(sparse, sparseSize, DATA_SHARE);
    makeSparseFile(smallSparse, GiB, DATA_SHARE);
  }

  /** Copies, and removes the copy. Whether it is one is checked byte by byte if `compare`. */
  const copy = async (way, source, compare) => {
    const trial = await runTrial(nodeTrial('copy.mjs', { way, source, sink, warmUp }));
    mustHaveSize(sink, statSync(source).size);
    if (compare) mustBeEqual(sink, source);
    const mebibytes = (statSync(sink).blocks * BLOCK_BYTES) / MiB;
    rmSync(sink);
    writeOut(scratch);
    return { ...trial, mebibytes };
  };

  const copySparse = async (way, round) => {
    // Comparing the large one would fill the page cache with its holes.
    if (round === 0) return copy(way, smallSparse, true);
    const { seconds, mebibytes } = await copy(way, sparse, false);
    return { sparseSeconds: seconds, sparseMiB: mebibytes };
  };

  const ways = await runRounds({
    ways: ['copy', 'fs-copy', 'cp'],
    rounds,
    log,
    runTrial: async (way, round) => {
      makeResident(full);
      const { mebibytes, ...trial } = await copy(way, full, round === 0);
      const sparseTrial = hasRoom && round <= SPARSE_ROUNDS ? await copySparse(way, round) : {};
      return { ...trial, ...sparseTrial };
    },
  });
  return { name, title, rounds, ways, checks: checkTargets(ways, TARGETS), missing };
}
