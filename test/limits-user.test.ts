// What an ordinary user may do, who has used up what he may have of pipes.
import { expect, test } from 'vitest';
import {
  asNobody,
  asUser,
  backendsOf,
  everyKind,
  expectRight,
  freshUser,
  usualBackends,
} from './helpers/limits';
import { isRoot, whyNotRoot } from './helpers/skips';

const needsRoot = whyNotRoot('to become another user');

/** A process that isn't root's: of somebody else, if this one is. */
const user = () => (isRoot ? asUser(freshUser()) : []);

test('another user than root: each kind of transfer goes as for root', async () => {
  const { uid, kinds, capabilities } = await everyKind([], { wrapper: user() });
  expect(uid).toBeGreaterThan(0);
  expectRight(kinds);
  expect(backendsOf(kinds)).toEqual(usualBackends);
  expect(capabilities).toMatchObject({ native: true, sendfile: true, splice: true });
});

test.skipIf(needsRoot)(
  `nobody, whose number others may have too: the same${needsRoot}`,
  async () => {
    const { uid, kinds } = await everyKind([], { wrapper: asNobody });
    expect(uid).toBe(65534);
    expectRight(kinds);
    expect(backendsOf(kinds)).toEqual(usualBackends);
  },
);

test('beyond pipe-user-pages-soft: tiny pipes, and each kind goes natively still', async () => {
  const { pipeBytes, kinds } = await everyKind(['--crowded'], { wrapper: user() });
  // Two pages, or one: what is left to him.
  expect(pipeBytes).toBeLessThanOrEqual(2 * 4096);
  expectRight(kinds);
  expect(backendsOf(kinds)).toEqual(usualBackends);
});
