// RLIMIT_NOFILE reached, at each descriptor that each use of the library needs: an error that says so,
// nothing lost, nothing left open, and all is well once there are some again.
import { expect, test } from 'vitest';
import { type KindReport, openFolder, tell } from './helpers/limits';

interface Attempt extends KindReport {
  again?: KindReport;
  leaked: number;
}

/** What fails where there are 0, 1, 2 ... descriptors to be had; then all goes as it should. */
const FAILS: Record<string, string[]> = {
  first: ['open', 'dup', 'epoll_create1', 'eventfd2'],
  'path to socket': ['open', 'dup'],
  'descriptor to socket': ['dup', 'dup'],
  'list of two files to socket': ['open', 'open', 'dup'],
  'socket to socket': ['dup', 'dup', 'pipe2', 'pipe2'],
  'socket to file': ['open', 'dup', 'dup', 'pipe2', 'pipe2'],
  'pipe to socket': ['dup', 'dup'],
  'pipe to file': ['open', 'dup', 'dup'],
  'file to file': ['open', 'open', 'dup'],
  copyFile: ['open', 'open', 'dup', 'dup', 'dup'],
  relay: ['dup', 'pipe2'],
  createReadStream: ['open', 'dup', 'dup'],
  'pipe()': ['pipe2', 'pipe2'],
  'sendfile()': ['dup', 'dup'],
};

/** What the bytes can do without: an error of these is a reason to go by streams. */
const isDispensable = (use: string, syscall: string) =>
  /epoll|eventfd/.test(syscall) || (use === 'createReadStream' && syscall === 'dup');

test('with 0, 1, 2 ... descriptors to be had', async () => {
  const report = await tell<Record<string, Attempt[]>>('descriptors.mjs', [openFolder()]);
  expect(Object.keys(report)).toEqual(Object.keys(FAILS));
  const failed: Record<string, string[]> = {};
  let attempts = 0;
  for (const [use, results] of Object.entries(report)) {
    attempts += results.length;
    failed[use] = results.flatMap(({ error, fallback }) => {
      if (error) expect(error, use).toMatchObject({ code: 'EMFILE' });
      const message = fallback?.message.split(' ') ?? [];
      if (fallback) expect(message[1], use).toBe('EMFILE');
      return error?.syscall ?? message[0] ?? [];
    });
    for (const { error, fallback, again, right, leaked } of results) {
      expect({ use, right, leaked }).toEqual({ use, right: true, leaked: 0 });
      expect(again?.error, use).toBeUndefined();
      expect(again?.fallback, use).toBeUndefined();
      if (fallback) expect(isDispensable(use, fallback.message.split(' ')[0] ?? '')).toBe(true);
      if (error?.syscall) expect(isDispensable(use, error.syscall), use).toBe(false);
    }
    const last = results.at(-1);
    expect([last?.error, last?.fallback], use).toEqual([undefined, undefined]);
  }
  // A direction of a relay that ends early leaves its descriptors to the other.
  expect(new Set([...(failed.relay ?? []), 'pipe2'])).toEqual(new Set(FAILS.relay));
  expect({ ...failed, relay: FAILS.relay }).toEqual(FAILS);
  console.log(`${attempts} attempts of ${Object.keys(FAILS).length} uses`);
});
