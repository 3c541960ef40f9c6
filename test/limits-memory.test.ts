// Memory short: what is too large for what is left is an error, and the process goes on.
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type TransferError, transfer } from 'zerocopy';
import { backends } from './helpers/backends';
import { testFile } from './helpers/files';
import { type KindReport, openFolder, tell } from './helpers/limits';
import { hasSanitizers } from './helpers/sanitizers';
import { whyNotRoot } from './helpers/skips';
import { link, receive } from './helpers/sockets';

const MIB = 1024 * 1024;

interface Try {
  result?: KindReport & { residual?: number };
  call?: object;
  isGood: boolean;
}

test('no address space for what a caller hands over', async () => {
  const report = await tell<Record<string, Try> & { after: KindReport }>(
    'memory.mjs',
    [openFolder()],
    // What is freed goes back to the system, and is not there for the next that asks.
    { execArgv: ['--expose-gc'], env: { MALLOC_MMAP_THRESHOLD_: '65536' } },
  );
  const { after, ...tries } = report;
  const error = { name: 'TransferError', code: 'ENOMEM', syscall: 'malloc' };
  expect(tries).toMatchObject({
    'pieces of memory to a socket': { result: { error, transferred: 0 }, isGood: true },
    'pieces of memory to a file': { result: { error, transferred: 0 }, isGood: true },
    'a long list': { call: { call: 'malloc', errno: 12, value: 0 }, isGood: true },
    'what has been put back into a source': {
      // Handed back: it is the caller's own buffer.
      result: { error, transferred: 0, residual: 256 * MIB },
      isGood: true,
    },
  });
  expect(after).toMatchObject({ backend: 'sendfile', right: true });
});

test.each(backends)('no memory for copies that JavaScript keeps: %s', async (backend) => {
  const file = testFile(100_000);
  const { sink, peer } = await link();
  const received = receive(peer);
  const kept = Buffer.alloc(100_000, 'a');
  const { from } = Buffer;
  onTestFinished(() => {
    Buffer.from = from;
  });
  Buffer.from = ((...args: unknown[]) => {
    if (args[0] === kept) throw new RangeError('Array buffer allocation failed');
    return Reflect.apply(from, Buffer, args);
  }) as typeof from;
  // The second piece is beyond what native code takes, so that JavaScript goes on with it.
  const list = [kept, Buffer.alloc(300_000, 'b')];
  const error: TransferError = await transfer(list, sink, { backend }).then(
    () => expect.unreachable('there was no memory'),
    (error) => error,
  );
  expect(error).toMatchObject({
    name: 'TransferError',
    code: 'ENOMEM',
    syscall: 'malloc',
    message: 'Array buffer allocation failed',
  });
  expect(error.cause).toBeInstanceOf(RangeError);
  // It has ended, and the next one's turn comes.
  const result = await transfer(file.path, sink, { backend, endSink: true });
  expect(result.transferred).toBe(100_000);
  const bytes = await received;
  const before = bytes.subarray(0, -100_000);
  expect(before.equals(Buffer.concat(list).subarray(0, before.length))).toBe(true);
  if (backend === 'native') expect(before.length).toBe(error.transferred);
  expect(bytes.subarray(-100_000).equals(file.content)).toBe(true);
});

/** A control group for memory of a test's own, and the files that say how it went. */
interface Group {
  procs: string;
  limit(bytes: number): void;
  /** How often the limit was met. */
  met(): number;
}

const V1 = '/sys/fs/cgroup/memory';
const V2 = ['/sys/fs/cgroup', '/sys/fs/cgroup/unified'];

function whyNoGroup(): string {
  if (hasSanitizers)
    return ' (SKIPPED: sanitizers alone take more than the control group may have)';
  if (groupRoot() === undefined) return ' (SKIPPED: needs control groups for memory)';
  return whyNotRoot('to make a control group');
}

function groupRoot(): string | undefined {
  const offers = (root: string, file: string) =>
    fs.existsSync(path.join(root, file)) &&
    /\bmemory\b/.test(fs.readFileSync(path.join(root, file), 'utf8'));
  if (fs.existsSync(path.join(V1, 'memory.limit_in_bytes'))) return V1;
  return V2.find((root) => offers(root, 'cgroup.subtree_control'));
}

function makeGroup(): Group {
  const root = groupRoot() ?? '';
  const folder = path.join(root, `zerocopy-test-${process.pid}`);
  fs.mkdirSync(folder);
  onTestFinished(() => fs.rmdirSync(folder));
  const file = (name: string) => path.join(folder, name);
  const write = (name: string, value: number) => fs.writeFileSync(file(name), String(value));
  if (root === V1) {
    return {
      procs: file('cgroup.procs'),
      limit: (bytes) => write('memory.limit_in_bytes', bytes),
      met: () => Number(fs.readFileSync(file('memory.failcnt'), 'utf8')),
    };
  }
  return {
    procs: file('cgroup.procs'),
    limit: (bytes) => {
      write('memory.max', bytes);
      write('memory.high', bytes - 8 * MIB);
    },
    met: () => {
      const events = fs.readFileSync(file('memory.events'), 'utf8');
      return Number(/^high (\d+)$/m.exec(events)?.[1]) + Number(/^max (\d+)$/m.exec(events)?.[1]);
    },
  };
}

const why = whyNoGroup();

describe('a control group with less memory than the files have', () => {
  const LENGTH = 200 * MIB;

  test.skipIf(why)(`each kind of large transfer arrives${why}`, async () => {
    const folder = openFolder();
    const source = path.join(folder, 'large');
    // Bytes, and not a hole, each mebibyte another.
    execFileSync('sh', ['-c', `head -c ${LENGTH} /dev/urandom > '${source}'`]);
    const group = makeGroup();
    group.limit(96 * MIB);
    const report = await tell<Record<string, KindReport>>('large.mjs', [folder, source], {
      wrapper: ['sh', '-c', `echo $$ > '${group.procs}' && exec "$@"`, 'sh'],
    });
    for (const [name, { right, transferred, fallback }] of Object.entries(report)) {
      expect({ name, right, transferred, fallback }).toEqual({
        name,
        right: true,
        transferred: LENGTH,
        fallback: undefined,
      });
    }
    expect(Object.keys(report)).toEqual(['to a socket', 'from a socket', 'copyFile']);
    expect(group.met()).toBeGreaterThan(0);
    console.log(`${LENGTH / MIB} MiB within 96 MiB: the limit was met ${group.met()} times`);
  });
});
