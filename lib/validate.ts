// What arguments must be. All of it runs before anything moves.
import { inspect } from 'node:util';
import { argumentError } from './errors';

const MAX_FD = 2 ** 31 - 1;

export function typeError(name: string, expected: string, value: unknown): Error {
  return argumentError(
    'ERR_INVALID_ARG_TYPE',
    `The "${name}" argument must be ${expected}. Received ${inspect(value, { depth: 0 })}`,
  );
}

export function valueError(name: string, complaint: string, value: unknown): Error {
  return argumentError(
    'ERR_INVALID_ARG_VALUE',
    `The "${name}" argument ${complaint}. Received ${inspect(value, { depth: 0 })}`,
  );
}

/** A count or an offset in bytes: a safe integer from 0 on. */
export function byteCount(name: string, value: unknown): number {
  return integer(name, value, Number.MAX_SAFE_INTEGER);
}

export function optionalByteCount(name: string, value: unknown): number | undefined {
  return value === undefined ? undefined : byteCount(name, value);
}

export function descriptor(name: string, value: unknown): number {
  return integer(name, value, MAX_FD);
}

function integer(name: string, value: unknown, max: number): number {
  if (typeof value !== 'number') throw typeError(name, 'a number', value);
  if (!Number.isInteger(value) || value < 0 || value > max) {
    throw argumentError(
      'ERR_OUT_OF_RANGE',
      `The value of "${name}" is out of range. It must be an integer >= 0 and <= ${max}. Received ${value}`,
    );
  }
  return value;
}

export function optional<T>(
  name: string,
  value: unknown,
  expected: string,
  is: (value: unknown) => value is T,
): T | undefined {
  if (value === undefined) return undefined;
  if (!is(value)) throw typeError(name, expected, value);
  return value;
}

export const isBoolean = (value: unknown): value is boolean => typeof value === 'boolean';
export const isString = (value: unknown): value is string => typeof value === 'string';
export const isFunction = (value: unknown): value is () => void => typeof value === 'function';
export const isAbortSignal = (value: unknown): value is AbortSignal =>
  typeof value === 'object' && value !== null && 'aborted' in value && 'addEventListener' in value;

/** Refuses names that are not of `known`, so that a misspelt option is never silently ignored. */
export function optionsObject<Name extends string>(
  value: unknown,
  known: readonly Name[],
): { [name in Name]?: unknown } {
  if (value === undefined) return {};
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw typeError('options', 'an object', value);
  }
  for (const name of Object.keys(value)) {
    if (!(known as readonly string[]).includes(name)) {
      throw argumentError(
        'ERR_INVALID_ARG_VALUE',
        `The option "${name}" is not known. Known are: ${known.join(', ')}`,
      );
    }
  }
  return value as { [name in Name]?: unknown };
}
