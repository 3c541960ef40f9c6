// Disks that don't answer are not waited for, once nobody wants what they would say.

/** Longer than any disk takes that still works. */
export const PATIENCE_MS = 1000;

/** As a promise, but for one that takes too long: then it rejects. */
export function inTime<T>(promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const patience = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('The disk does not answer')), PATIENCE_MS);
  });
  return Promise.race([promise, patience]).finally(() => clearTimeout(timer));
}
