// Runs one program: opens its ends, does what it says, lets all of it come to its end, and looks.
import * as fs from 'node:fs';
import { until } from '../helpers/process';
import { inScope } from '../helpers/scope';
import type { Corpus } from './corpus';
import type { Coverage } from './coverage';
import { perform } from './operations';
import type { Program } from './program';
import { check, windUp } from './wind-up';
import { turn, World } from './world';

/** Fails when what the program came to is not what the model says. */
export async function run(
  program: Program,
  corpus: Corpus,
  coverage: Coverage,
  deadlineMs: number,
): Promise<void> {
  const before = descriptors();
  const world = new World(program, corpus, coverage);
  const watch = watchProcess((what) => world.wrong(what));
  try {
    await inScope(async () => {
      await within(deadlineMs, live(world), () => world.wrong(`it hangs: ${world.waitsFor}`));
    });
    await descriptorsBack(world, before, deadlineMs / 4);
    await turn(); // for what is unhandled
  } finally {
    watch.end();
  }
  coverage.programs += 1;
  coverage.operations.push(world.operations);
  if (world.wrongs.length > 0) throw new Error([...world.wrongs, '', ...world.log].join('\n'));
}

async function live(world: World): Promise<void> {
  await world.open();
  for (const [i, operation] of world.program.operations.entries()) {
    world.log.push(`${i} ${JSON.stringify(operation)}`);
    await perform(world, operation, i);
  }
  await windUp(world);
  check(world);
}

/** Of what must not happen while a program runs, whoever does it. */
function watchProcess(wrong: (what: string) => void): { end(): void } {
  const events = ['unhandledRejection', 'uncaughtException'] as const;
  const undos = events.map((event) => {
    const before = process.listeners(event as 'uncaughtException');
    const listener = (error: unknown) => wrong(`${event}: ${(error as Error)?.stack ?? error}`);
    process.removeAllListeners(event);
    process.on(event, listener);
    return () => {
      process.off(event, listener);
      for (const other of before) process.on(event as 'uncaughtException', other);
    };
  });
  return {
    end: () => {
      for (const undo of undos) undo();
    },
  };
}

async function within(ms: number, work: Promise<void>, late: () => void): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const deadline = new Promise<void>((resolve) => {
    timer = setTimeout(() => {
      late();
      resolve();
    }, ms);
  });
  try {
    await Promise.race([work, deadline]);
  } finally {
    clearTimeout(timer);
  }
}

async function descriptorsBack(world: World, before: Set<string>, ms: number): Promise<void> {
  const areBack = () => descriptors().size <= before.size;
  for (let i = 0; i < 20 && !areBack(); i++) await turn();
  await until(areBack, 'descriptors are back', ms).catch(() => {
    const left = [...descriptors()].filter((fd) => !before.has(fd)).map(fileOf);
    world.wrong(`descriptors are left: ${left.join(', ')}`);
  });
}

const descriptors = () => new Set(fs.readdirSync('/proc/self/fd'));

function fileOf(fd: string): string {
  try {
    return `${fd} ${fs.readlinkSync(`/proc/self/fd/${fd}`)}`;
  } catch {
    return fd; // closed since: the one that lists them
  }
}
