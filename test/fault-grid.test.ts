// System calls of the addon fail below the library, one at a time: every call that a transfer makes,
// at its first numbers, and each for good. As test/native/fault_grid_test.cc, one level up.
//
// FAULT='file to tcp: sendfile#1=EIO' runs one case alone, and tells what came of it.
import * as os from 'node:os';
import { afterAll, expect, test } from 'vitest';
import {
  type Ended,
  type Run,
  type Scenario,
  scenarios,
  type Way,
} from './helpers/fault-scenarios';
import { testFile } from './helpers/files';
import { openDescriptors, runNode, until } from './helpers/process';
import { type Fault, type Injection, inject, zerocopy } from './helpers/seam';

/** So many calls of a kind are made to fail, from the first one on. */
const MOST_NUMBERS = 3;
const LONGEST_CASE_MS = 15_000;

/** What may go wrong with what moves bytes, with what reads, and with the rest. */
const OF_MOVERS: Fault[] = [
  ...(['ENOSYS', 'EINVAL', 'EIO'] as const), // they may mean that it can't be done this way
  ...(['ENOMEM', 'ECONNRESET', 'ENOSPC'] as const),
  ...(['EAGAIN', 'EINTR', 'short', 'zero'] as const),
];
const OF_READS: Fault[] = ['ENOSYS', 'EOPNOTSUPP', 'EIO', 'EAGAIN', 'EINTR', 'short', 'zero'];
const OF_OTHERS: Fault[] = ['ENOSYS', 'EPERM', 'ENOMEM', 'EMFILE', 'EAGAIN', 'EINTR'];
/** Of eventfd(2) nothing else can be said; what means that there is no openat2(2): below. */
const OF_SOME: Record<string, Fault[]> = {
  event_signal: ['EINTR'],
  open_cached: ['EAGAIN', 'EMFILE', 'ENOENT', 'EINTR'],
};
/** As a seccomp profile would, at every call. Without some calls nothing of Node itself works. */
const DENIED: Fault[] = ['ENOSYS', 'EPERM'];
const NEVER_DENIED = ['event_signal', 'epoll_wait', 'open_cached'];

const MOVERS = ['sendfile', 'splice', 'copy_file_range', 'send', 'write', 'write_at'];
const READS = ['read_nowait', 'read', 'read_stream', 'cached_pages'];

/** Looks and hints, and what there is another way for: no transfer notices. */
const HARMLESS = [
  ...['open_cached', 'read_nowait', 'cached_pages', 'readahead', 'set_pipe_size', 'poll'],
  ...['epoll_wait', 'event_signal', 'thread_create'],
];
/** The same of faults. */
const SURVIVED: Fault[] = ['EINTR', 'short'];
const UNSUPPORTED: Fault[] = ['ENOSYS', 'EPERM', 'EINVAL', 'EOPNOTSUPP', 'EIO'];

/** What a failure of each call is told as. */
const SYSCALLS: Record<string, string[]> = {
  send: ['sendmsg'],
  write_at: ['write'],
  read_stream: ['read'],
  duplicate: ['dup'],
  pipe: ['pipe2'],
  epoll_control: ['epoll_ctl'],
  seek: ['lseek'],
  peek: ['splice'],
  status: ['statx', 'lseek'], // of a file, of one with holes
};

const wanted = process.env.FAULT?.split(': ');
const tally = { cases: 0, native: 0, fellBack: 0, failed: 0, notReached: 0 };

const nameOf = ({ call, number, fault }: Injection) => `${call}#${number || 'each'}=${fault}`;

function injectionsOf(counts: Record<string, number>): Injection[] {
  return Object.entries(counts).flatMap(([call, count]) => {
    if (count === 0) return [];
    const group = MOVERS.includes(call) ? OF_MOVERS : READS.includes(call) ? OF_READS : OF_OTHERS;
    const faults = OF_SOME[call] ?? group;
    const numbers = Array.from({ length: Math.min(count, MOST_NUMBERS) }, (_, i) => i + 1);
    const denied = NEVER_DENIED.includes(call) ? [] : DENIED;
    return [
      ...numbers.flatMap((number) => faults.map((fault) => ({ call, number, fault }))),
      ...denied.map((fault) => ({ call, number: 0, fault })),
    ];
  });
}

type Check = (right: boolean, complaint: string) => void;

/** What is wrong with how a case has ended. */
function complaints(scenario: Scenario, injection: Injection | undefined, end: Ended): string[] {
  const wrong: string[] = [];
  const check: Check = (right, complaint) => {
    if (!right) wrong.push(complaint);
  };
  for (const way of end.ways) checkBytes(way, end.error !== undefined, check);
  const { error, fallback, backend } = end;
  const noticed = error !== undefined || backend === 'stream';
  if (!injection) {
    check(!noticed, 'nothing went wrong, and it was noticed');
    return wrong;
  }
  const { call, fault } = injection;
  const isHarmless = HARMLESS.includes(call) || SURVIVED.includes(fault);
  check(!(isHarmless && noticed), `noticed: ${error?.message ?? fallback?.message}`);
  if (fallback) checkFallback(scenario, injection, end, check);
  if (error) checkError(scenario, injection, error, check);
  return wrong;
}

/** Every byte is where it should be, once. */
function checkBytes({ sent, arrived, left, transferred }: Way, failed: boolean, check: Check) {
  check(arrived.equals(sent.subarray(0, arrived.length)), 'what has arrived is wrong');
  check((transferred ?? arrived.length) === arrived.length, `transferred ${transferred}`);
  if (!failed) check(arrived.length === sent.length, `${arrived.length} of ${sent.length} bytes`);
  if (!failed || !left) return;
  const whole = Buffer.concat([arrived, left]);
  check(whole.equals(sent), `${arrived.length} arrived, ${left.length} left, of ${sent.length}`);
}

/** A stream reads on after whatever befell its file: it tells the error, if there still is one. */
const readsOn = ({ kind }: Scenario) => kind === 'stream' || kind === 'message';

function checkFallback(scenario: Scenario, injection: Injection, end: Ended, check: Check) {
  const { call, fault } = injection;
  const { fallback, backend, moved, ways } = end;
  check(backend === 'stream', `a fallback of ${backend}`);
  const at = fallback?.at ?? -1;
  // A stream that has read on tries again; of a relay's two ways one may have fallen back; and a
  // chunk of an answer is made whole before that.
  const isExact = !readsOn(scenario) && ways.length === 1;
  if (isExact) check(at === moved, `fallback at ${at}, when ${moved} bytes had moved`);
  else check(at >= 0 && at <= (ways[0]?.sent.length ?? 0), `fallback at ${at}`);
  // 0 bytes, or no look at them: there may be urgent data.
  const isPossible = UNSUPPORTED.includes(fault) || fault === 'zero' || call === 'peek';
  // A descriptor of which nothing is told may be one that blocks, or no file.
  const isAbout = call === 'status_flags' || call === 'status' || readsOn(scenario);
  check(isPossible || isAbout, `fell back: ${fallback?.message}`);
  // Nothing is said of a descriptor that isn't known.
  check(call !== 'status' || fallback?.code === 'UNSUPPORTED', `code ${fallback?.code}`);
}

function checkError(
  scenario: Scenario,
  { call, fault }: Injection,
  error: NodeJS.ErrnoException,
  check: Check,
) {
  const { code = '', errno, syscall = '' } = error;
  const codes: string[] = fault === 'zero' ? ['ERR_SOURCE_TRUNCATED', 'EIO'] : [fault];
  check(codes.includes(code), `code ${code}`);
  if (readsOn(scenario)) return;
  check(error instanceof zerocopy.TransferError, `not a TransferError: ${error}`);
  if (code === 'ERR_SOURCE_TRUNCATED') return;
  check(errno === -os.constants.errno[code as keyof typeof os.constants.errno], `errno ${errno}`);
  check((SYSCALLS[call] ?? [call]).includes(syscall), `syscall ${syscall}`);
}

/** Nothing says how long a case takes; one that hangs ends its scenario. */
async function inTime<T>(promise: Promise<T>, name: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`It hangs: ${name}`)), LONGEST_CASE_MS);
  });
  return await Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** One case, and what is wrong with it. */
async function tryOut(run: Run, scenario: Scenario, injection?: Injection) {
  const name = `${scenario.name}: ${injection ? nameOf(injection) : 'nothing'}`;
  const descriptors = openDescriptors();
  const end = await inTime(
    run(() => inject(injection)),
    name,
  );
  const wrong = complaints(scenario, injection, end);
  await until(() => openDescriptors() <= descriptors, 'descriptors are back').catch(() => {
    wrong.push(`${openDescriptors() - descriptors} descriptors more`);
  });
  tally.cases += 1;
  if (injection && end.fired === 0) tally.notReached += 1;
  if (end.error) tally.failed += 1;
  else if (end.backend === 'stream') tally.fellBack += 1;
  else tally.native += 1;
  if (wanted?.[1]) console.log(name, { ...end, ways: end.ways.map(lengths) });
  return { end, wrong: wrong.length > 0 ? [`${name}: ${wrong.join('; ')}`] : [] };
}

const lengths = ({ sent, arrived, left, transferred }: Way) => ({
  sent: sent.length,
  arrived: arrived.length,
  left: left?.length,
  transferred,
});

const nothing = () => inject();

/** What opens descriptors that stay, the engine's and Node's, has been done by then. */
async function prepared(scenario: Scenario): Promise<Run> {
  const large = scenarios.find(({ name }) => name === 'file to tcp') as Scenario;
  await (await large.make())(nothing);
  const run = await scenario.make();
  await run(nothing);
  return run;
}

const chosen = scenarios.filter(({ name }) => !wanted || name === wanted[0]);

test.each(chosen)('$name', { timeout: 120_000 }, async (scenario) => {
  const run = await prepared(scenario);
  const clean = await tryOut(run, scenario);
  const all = clean.wrong;
  for (const injection of injectionsOf(clean.end.counts)) {
    if (wanted?.[1] && wanted[1] !== nameOf(injection)) continue;
    all.push(...(await tryOut(run, scenario, injection)).wrong);
  }
  expect(all).toEqual([]);
});

// Last: it is not tried again in this process.
test.each(chosen)('$name, where openat2 is denied', async (scenario) => {
  const run = await prepared(scenario);
  const injection: Injection = { call: 'open_cached', number: 0, fault: 'ENOSYS' };
  expect((await tryOut(run, scenario, injection)).wrong).toEqual([]);
});

const SYSCALLS_TO_START = {
  epoll_create: 'epoll_create1',
  event_create: 'eventfd2',
  epoll_control: 'epoll_ctl',
  thread_create: 'pthread_create',
};
const UNABLE_TO_START = [
  ['epoll_create', 1, 'EMFILE'],
  ['event_create', 1, 'ENFILE'],
  ['epoll_control', 1, 'ENOSPC'],
  ['thread_create', 0, 'EAGAIN'],
  ['thread_create', 0, 'EPERM'],
] as const;

test.runIf(!wanted).each(UNABLE_TO_START)(
  'an engine that has no start, by %s#%d=%s: by streams, and natively when it can',
  async (call, number, fault) => {
    const { path, content } = testFile(300_007);
    const errno = os.constants.errno[fault];
    const program = await runNode('first-transfer.mjs', [path, call, `${number}`, `${errno}`], {
      execArgv: ['--require', './test/programs/seam.cjs'],
    });
    expect(program).toMatchObject({ code: 0, stderr: '' });
    const all = { arrived: content.length, transferred: content.length };
    const message = `${SYSCALLS_TO_START[call]} ${fault}`;
    const fallback = { code: 'NO_THREADS', message, at: 0 };
    expect(JSON.parse(program.stdout)).toEqual({
      first: { ...all, backend: 'stream', fallback },
      second: { ...all, backend: 'sendfile' },
    });
    tally.cases += 2;
    tally.fellBack += 1;
    tally.native += 1;
  },
);

afterAll(() => {
  const { cases, native, fellBack, failed, notReached } = tally;
  console.log(
    `${chosen.length} scenarios, ${cases} cases: ${native} native, ${fellBack} fell back, ` +
      `${failed} failed; of ${notReached} cases the call was not made this time`,
  );
});
