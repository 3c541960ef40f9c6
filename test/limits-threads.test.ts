// No thread to be had, or only some: what needs one goes by streams, and capabilities() says so, until
// there are threads again.
import { expect, test } from 'vitest';
import type { Capabilities } from 'zerocopy';
import {
  asUser,
  expectRight,
  freshUser,
  type KindReport,
  openFolder,
  tell,
  usualBackends,
} from './helpers/limits';
import { whyNotRoot } from './helpers/skips';

const needsRoot = whyNotRoot('to be a user who runs nothing else');
const REFUSED = 'pthread_create EAGAIN';

interface Stage {
  kinds: Record<string, KindReport>;
  call: number | { error: object };
  capabilities: Capabilities;
  threads: string[];
}

interface ThreadsReport {
  before: Capabilities;
  scarce: Stage & { first: KindReport };
  free: Stage;
}

/** With two movers as the wish, wherever this runs. */
const run = (args: string[], wrapper: string[] = []) =>
  tell<ThreadsReport>('threads.mjs', [openFolder(), ...args], {
    wrapper,
    env: { ZEROCOPY_THREADS: '2' },
    execArgv: ['--expose-gc'],
  });

function expectUsual({ kinds, call }: Stage): void {
  expectRight(kinds);
  for (const [kind, { backend }] of Object.entries(kinds))
    expect(backend).toBe(usualBackends[kind]);
  expect(call).toBe(10);
}

function expectStreams({ kinds, call, capabilities, threads }: Stage): void {
  expectRight(kinds);
  for (const [kind, { backend, fallback }] of Object.entries(kinds)) {
    if (kind === 'tiny file to socket') expect(backend).toBe(usualBackends[kind]);
    else expect({ backend, fallback }, kind).toMatchObject(NO_THREADS);
  }
  // EAGAIN, but not as of a socket that is full.
  expect(call).toMatchObject({ error: { code: 'EAGAIN', syscall: 'pthread_create' } });
  expect(capabilities).toMatchObject({ native: true, sendfile: true, movers: 0, reason: REFUSED });
  expect(threads).toEqual([]);
}

const NO_THREADS = {
  backend: 'stream',
  fallback: { code: 'NO_THREADS', message: REFUSED, at: 0 },
};

function expectThreads({ capabilities, threads }: Stage, movers: number, warmers: boolean): void {
  expect(capabilities.movers).toBe(movers);
  expect(capabilities.reason).toBeUndefined();
  expect(new Set(threads)).toEqual(
    new Set(['zerocopy-mover', ...(warmers ? ['zerocopy-warmer'] : [])].map((n) => n.slice(0, 15))),
  );
}

test.skipIf(needsRoot)(
  `a user who may have no more threads, and then may${needsRoot}`,
  async () => {
    const { before, scarce, free } = await run(['nproc', '0'], asUser(freshUser()));
    expect(before).toMatchObject({ native: true, movers: 2 }); // as far as is known
    expect(before.reason).toBeUndefined();
    expectStreams(scarce);
    expectUsual(free);
    expectThreads(free, 2, true);
  },
);

test.skipIf(needsRoot)(
  `a user who may have one more thread: one mover, which does all of it${needsRoot}`,
  async () => {
    const { scarce, free } = await run(['nproc', '1'], asUser(freshUser()));
    expectRight(scarce.kinds);
    for (const [kind, { backend }] of Object.entries(scarce.kinds)) {
      expect(backend).toBe(usualBackends[kind]);
    }
    expect(scarce.call).toMatchObject({ error: { code: 'EAGAIN', syscall: 'pthread_create' } });
    expectThreads(scarce, 1, false);
    // Where one will do there is no second attempt; warmers come when they are needed.
    expectUsual(free);
    expectThreads(free, 1, true);
  },
);

test.skipIf(needsRoot)(
  `a user who may have two more: two movers, and no warmer${needsRoot}`,
  async () => {
    const { scarce, free } = await run(['nproc', '2'], asUser(freshUser()));
    expectRight(scarce.kinds);
    expectThreads(scarce, 2, false);
    expectUsual(free);
    expectThreads(free, 2, true);
  },
);

test('no address space for a stack', async () => {
  const { scarce, free } = await run(['as']);
  expect(scarce.first).toMatchObject({ ...NO_THREADS, right: true });
  expect(scarce.capabilities).toMatchObject({ movers: 0, reason: REFUSED });
  expectUsual(free);
  expectThreads(free, 2, true);
});

test('clone refused, as a seccomp profile may once a process is up', async () => {
  const { scarce } = await run(['seccomp']);
  expectStreams(scarce);
});
