// Runs many random programs, and prints what fails in a form that can be pasted.
import * as fs from 'node:fs';
import * as path from 'node:path';
import { inspect } from 'node:util';
import * as fc from 'fast-check';
import { expect } from 'vitest';
import { scratchRoot } from '../helpers/files';
import { warmUp } from '../helpers/http';
import { closeFile, makeCorpus } from './corpus';
import { Coverage, save } from './coverage';
import type { Expected } from './expected';
import type { Program } from './program';
import { run } from './run';

const DEADLINE_MS = 20_000;
/** Of a program that is being shrunk: so often it is tried, since the kernel may race. */
const TRIES = 5;
const SHRINKING_MS = 60_000;

/** From so many programs on chance leaves out none of what must be done. */
const ENOUGH = 5000;

const { ZEROCOPY_PROGRAMS, ZEROCOPY_SEED } = process.env;
const allPrograms = Number(ZEROCOPY_PROGRAMS || ENOUGH);
const seed = Number(ZEROCOPY_SEED || (Date.now() ^ process.pid) & 0x7fffffff);

const LEAST_OPERATIONS = 8;

/**
 * Runs random programs, of which all must hold: a `share` of all that are to be run. They must be of
 * some length, and do all that is `expected`.
 */
export async function holds(
  name: string,
  programs: fc.Arbitrary<Program>,
  share: number,
  expected: Expected,
): Promise<void> {
  const folder = fs.mkdtempSync(path.join(scratchRoot, 'model-'));
  const corpus = await makeCorpus(folder);
  await warmUp();
  const coverage = new Coverage();
  let failedAt: number | undefined;
  const property = fc.asyncProperty(programs, async (program) => {
    if (failedAt === undefined) {
      try {
        return await run(program, corpus, coverage, DEADLINE_MS);
      } catch (error) {
        failedAt = Date.now();
        throw error;
      }
    }
    for (let i = 0; i < TRIES && Date.now() < failedAt + SHRINKING_MS; i++) {
      await run(program, corpus, new Coverage(), DEADLINE_MS / 8);
    }
  });
  const numRuns = Math.ceil(allPrograms * share);
  const details = await fc.check(property, { numRuns, seed, endOnFailure: false });
  for (const file of corpus.files) await closeFile(file);
  fs.rmSync(folder, { recursive: true });
  if (details.failed) {
    const [program] = details.counterexample ?? [];
    const literal = inspect(JSON.parse(JSON.stringify(program)), {
      depth: null,
      breakLength: 100,
      maxArrayLength: null,
    });
    const { errorInstance, numRuns: after, numShrinks } = details;
    expect.fail(
      `After ${after} programs (ZEROCOPY_SEED=${seed}), shrunk ${numShrinks} times:\n${literal}\n${(errorInstance as Error | undefined)?.message}`,
    );
  }
  console.log(`${coverage.programs} programs, ZEROCOPY_SEED=${seed}`);
  save(coverage, name);
  expect(coverage.median).toBeGreaterThanOrEqual(LEAST_OPERATIONS);
  if (allPrograms < ENOUGH) return;
  const missing = expected.flatMap(([operations, ends]) => coverage.missing(operations, ends));
  expect(missing).toEqual([]);
}
