// What ends with a test, or with one of the many programs that run within a test.
import { onTestFinished as whenTestFinishes } from 'vitest';

type Undo = () => unknown;

let scope: Undo[] | undefined;

/** As vitest's; within `inScope()` it is that which has to finish. */
export function onTestFinished(undo: Undo): void {
  if (scope) scope.push(undo);
  else whenTestFinishes(async () => void (await undo()));
}

/** Runs what makes ends of its own, and undoes them, the last first. One at a time. */
export async function inScope<T>(run: () => Promise<T>): Promise<T> {
  if (scope) throw new Error('There is a scope already');
  const undos: Undo[] = [];
  scope = undos;
  try {
    return await run();
  } finally {
    scope = undefined;
    for (const undo of undos.reverse()) await undo();
  }
}
