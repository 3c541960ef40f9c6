import { expect } from 'vitest';
import type { TransferError } from 'zerocopy';

/** The error of a promise that has to fail. */
export const errorOf = <E extends Error>(promise: Promise<unknown>): Promise<E> =>
  promise.then(
    () => expect.unreachable('it should have failed'),
    (error) => error,
  );

/** The error of a transfer that has to fail. */
export const fails = errorOf<TransferError>;
