// Under profiles that refuse system calls, as those of container engines do: what works by what is left,
// and says so.
import { describe, expect, test } from 'vitest';
import {
  backendsOf,
  everyKind,
  expectRight,
  type KindReport,
  refusing,
  usualBackends,
} from './helpers/limits';

const HINTS = ['cachestat', 'openat2', 'preadv2'];
const MOVES = ['sendfile', 'splice', 'copy_file_range'];
const ERRORS = ['EPERM', 'ENOSYS'];

/** How a kind goes where `refused` fail with `error`. */
function expected(kind: string, error: string, refused: string[]) {
  const backend = usualBackends[kind] ?? '';
  if (backend === 'copy_file_range') {
    const ways = ['copy_file_range', 'sendfile', 'read'];
    return { backend: ways.find((way) => !refused.includes(way)) };
  }
  // The rest of a list goes as its first range does.
  const call = backend === 'read' && refused.includes('preadv2') ? 'sendfile' : backend;
  if (!refused.includes(call)) return { backend: call };
  return { backend: 'stream', fallback: { code: 'UNSUPPORTED', message: `${call} ${error}` } };
}

function expectGone(kinds: Record<string, KindReport>, error: string, refused: string[]): void {
  expectRight(kinds);
  expect(Object.keys(kinds)).toEqual(Object.keys(usualBackends));
  for (const [kind, report] of Object.entries(kinds)) {
    expect(report, kind).toMatchObject(expected(kind, error, refused));
    if (report.backend !== 'stream') expect(report.fallback, kind).toBeUndefined();
  }
}

describe.each(ERRORS)('%s', (error) => {
  test.each(
    [
      ...HINTS.map((name) => [name]),
      HINTS,
      ...MOVES.map((name) => [name]),
      [...HINTS, ...MOVES],
    ].map((names) => ({ names })),
  )('$names: each kind of transfer arrives', async ({ names }) => {
    const args = names.flatMap((name) => ['--probe', name]);
    const report = await everyKind(args, { wrapper: refusing(error, names) });
    expect(report.probes).toEqual(Object.fromEntries(names.map((name) => [name, error])));
    expectGone(report.kinds, error, names);
    const [sendfile, splice, copyFileRange] = MOVES.map((name) => !names.includes(name));
    expect(report.capabilities).toMatchObject({ native: true, sendfile, splice, copyFileRange });
    expect(report.capabilities.reason).toBeUndefined();
    // The bare calls hide nothing.
    for (const name of MOVES) {
      const kind = name === 'copy_file_range' ? 'copyFileRange' : name;
      const refused = { error: { code: error, syscall: name } };
      if (names.includes(name)) expect(report.calls[kind]).toMatchObject(refused);
      else expect(report.calls[kind]).toBe(10);
    }
  });

  test("backend: 'native' says what was refused, and 'stream' needs none of it", async () => {
    const wrapper = refusing(error, [...HINTS, ...MOVES]);
    const native = await everyKind(['--backend', 'native'], { wrapper });
    for (const [kind, report] of Object.entries(native.kinds)) {
      // The last way of a copy is a native one; a ReadStream has no such option.
      if (usualBackends[kind] === 'copy_file_range' || kind === 'createReadStream') continue;
      expect(report.error, kind).toMatchObject({ code: 'ERR_NOT_NATIVE' });
      expect(report.error?.message, kind).toMatch(new RegExp(`(sendfile|splice) ${error}$`));
    }
    const { kinds } = await everyKind(['--backend', 'stream'], { wrapper });
    expectRight(kinds);
    const { createReadStream, ...others } = backendsOf(kinds);
    expect(new Set(Object.values(others))).toEqual(new Set(['stream']));
  });

  // From Node's start on there would be no Node: it needs them too.
  test(`statx refused once Node is up: as without that`, async () => {
    const { kinds, probes } = await everyKind(['--refuse', `${error}:statx`, '--probe', 'statx']);
    expect(probes).toEqual({ statx: error });
    expectGone(kinds, error, []);
  });

  test.each(['epoll_create1', 'eventfd2'])(
    '%s refused: no threads, and what needs some goes by streams',
    async (name) => {
      const { kinds, capabilities } = await everyKind(['--refuse', `${error}:${name}`]);
      expectRight(kinds);
      const message = `${name} ${error}`;
      for (const [kind, { backend, fallback }] of Object.entries(kinds)) {
        if (/tiny|short/.test(kind)) expect(backend, kind).toBe(usualBackends[kind]);
        else expect({ backend, fallback }, kind).toMatchObject(noThreads(message));
      }
      expect(capabilities).toMatchObject({ native: true, movers: 0, reason: message });
    },
  );

  test('pipe2 refused: what needs a pipe of our own goes by streams', async () => {
    const args = ['--refuse', `${error}:pipe2`, '--only', '^[^p]*$'];
    const { kinds } = await everyKind(args);
    expectRight(kinds);
    const message = `pipe2 ${error}`;
    const streamed = { backend: 'stream', fallback: { code: 'UNSUPPORTED', message } };
    for (const [kind, report] of Object.entries(kinds)) {
      const usual = usualBackends[kind];
      expect(report, kind).toMatchObject(usual === 'splice' ? streamed : { backend: usual });
    }
    expect(backendsOf(kinds)).toMatchObject({ relay: 'stream', 'socket to file': 'stream' });
  });

  test('F_SETPIPE_SZ refused: pipes stay as they are, and nothing else changes', async () => {
    const { kinds } = await everyKind(['--refuse', `${error}:setpipesize`]);
    expectGone(kinds, error, []);
  });
});

const noThreads = (message: string) => ({
  backend: 'stream',
  fallback: { code: 'NO_THREADS', message },
});
