// Disks that are slow, and disks that no longer answer: what else goes on, and what ends at once.
import { isDeepStrictEqual } from 'node:util';
import { describe, expect, test } from 'vitest';
import { backends } from './helpers/backends';
import { type Outcome, Program } from './helpers/cold';
import { type Flag, type Operation, SlowDisk, whyNoSlowDisk } from './helpers/slow-disk';

const why = whyNoSlowDisk();
const onDisk = describe.skipIf(why !== '');

/** Warmers that one device may have. */
const WARMERS_EACH = 8;

const sourceKinds = ['socket', 'response', 'pipe', 'stream', 'toFile', 'copyFile', 'list'];

/** All else goes on: natively, on the threads of libuv, on the JavaScript thread. */
async function expectOthersGoOn(program: Program) {
  const results = await program.ask<Outcome[]>('hot');
  for (const { backend } of results) expect(backend).toBe('sendfile');
  expect(await program.ask('hotUpload')).toBe(true);
  expect(await program.ask('stat')).toBe(true);
}

async function expectAllSettled(program: Program) {
  await program.until(
    async () => (await program.outcomes()).every((outcome) => outcome !== null),
    'all have ended',
  );
  return (await program.outcomes()) as Outcome[];
}

const links = (program: Program) => program.ask<string[]>('descriptors');
const socketsOf = async (program: Program) =>
  (await links(program)).filter((link) => link.startsWith('socket:')).length;

/** Of the engine's own threads: those of Node differ by what else it does. */
const ownThreads = (program: Program) =>
  program.threads().filter((name) => name.startsWith('zerocopy')).length;

/**
 * In the end nobody waits for a file system but warmers: whoever hangs on a disk is seen in every look,
 * and others, who read from the disk of this machine, go.
 */
async function expectOnlyWarmersWait(program: Program, warmer: number | undefined = WARMERS_EACH) {
  await program.until(
    async () => isDeepStrictEqual(program.waiters(), warmer ? { warmer } : {}),
    `only ${warmer} warmers wait`,
  );
}

onDisk(`reads that never return${why}`, () => {
  describe.each([
    ...sourceKinds.map((kind) => [kind, 64] as const),
    ['socket', 300] as const,
    ['copyFile', 300] as const,
  ])('%s, %i of them', (kind, count) => {
    test('hinder nobody else; what is aborted ends at once, and holds no socket', async () => {
      const disk = await SlowDisk.mount({ files: count, flags: ['cache-names'] });
      const program = await Program.start(disk);
      await program.ask('hot');
      const descriptors = await links(program);
      const sockets = await socketsOf(program);
      const threads = ownThreads(program);
      await disk.delay('read', 'never');
      await program.ask('start', kind, disk.paths(count));
      await expectOnlyWarmersWait(program);
      await expectOthersGoOn(program);
      expect((await program.outcomes()).filter((outcome) => outcome !== null)).toEqual([]);

      await program.ask('abort');
      const outcomes = await expectAllSettled(program);
      const transferred = kind === 'list' ? 1000 : 0;
      for (const outcome of outcomes) {
        expect(outcome.transferred).toBe(transferred);
        if (kind !== 'stream') {
          expect(outcome).toMatchObject({ name: 'AbortError', code: 'ABORT_ERR' });
        }
      }
      if (kind !== 'toFile' && kind !== 'copyFile') await program.ask('destroy');
      await program.until(async () => (await socketsOf(program)) <= sockets, 'no socket is held');
      await expectOnlyWarmersWait(program);
      await expectOthersGoOn(program);

      await disk.release();
      await expectOnlyWarmersWait(program, 0);
      await program.until(
        async () => (await links(program)).length <= descriptors.length,
        'all descriptors are back',
      );
      // It takes a second until they do.
      if (count === 300) {
        await program.until(async () => ownThreads(program) <= threads, 'all threads have gone');
      }
    });
  });

  test.each(['socket', 'response', 'pipe', 'stream'])(
    'a sink that is destroyed ends its transfer: %s',
    async (kind) => {
      const disk = await SlowDisk.mount();
      const program = await Program.start(disk);
      await disk.delay('read', 'never');
      await program.ask('start', kind, disk.paths(20));
      await expectOnlyWarmersWait(program);
      await program.ask('destroy');
      for (const outcome of await expectAllSettled(program)) {
        expect(outcome.transferred).toBe(0);
        if (kind !== 'stream') expect(outcome.code).toBe('ERR_STREAM_PREMATURE_CLOSE');
      }
      await expectOthersGoOn(program);
    },
  );

  test('one file, again and again, its first page on its way for ever: by descriptor, and tiny', async () => {
    const disk = await SlowDisk.mount({ flags: ['cache-names'] });
    const program = await Program.start(disk);
    await program.ask('open', disk.paths(2));
    await disk.delay('read', 'never');
    for (const kind of ['descriptor', 'tiny']) {
      await program.ask('start', kind, Array(20).fill(disk.path(kind === 'tiny' ? 0 : 1)));
    }
    await expectOnlyWarmersWait(program);
    await expectOthersGoOn(program);
    await program.ask('abort');
    for (const { transferred } of await expectAllSettled(program)) expect(transferred).toBe(0);
    await disk.release();
    await program.ask('close');
  });

  test('a stream of node:fs beside it takes the threads of libuv, and leaves native transfers alone', async () => {
    const disk = await SlowDisk.mount();
    const program = await Program.start(disk);
    await disk.delay('read', 'never');
    await program.ask('start', 'fsStream', disk.paths(8));
    await program.until(async () => program.waiters().libuv === 4, 'all of libuv waits');
    await program.ask('start', 'descriptor', []);
    for (const { backend } of await program.ask<Outcome[]>('hot')) expect(backend).toBe('sendfile');
    expect(await program.ask('stat')).toBe(false);
  });

  test.each(['exit', 'throw', 'SIGTERM', 'itself'])('a process ends by %s', async (way) => {
    const disk = await SlowDisk.mount({ files: 200, flags: ['cache-names'] });
    const program = await Program.start(disk);
    await disk.delay('read', 'never');
    for (const [i, kind] of ['socket', 'stream', 'toFile', 'copyFile'].entries()) {
      await program.ask('start', kind, disk.paths(16, 16 * i));
    }
    await expectOnlyWarmersWait(program);
    program.tell('end', way);
    const end = { exit: 7, throw: 1, SIGTERM: null, itself: 0 }[way];
    expect(await program.ended()).toEqual({ code: end, signal: end === null ? way : null });
    expect(() => process.kill(program.pid, 0)).toThrow('ESRCH');
    expect((await disk.counts()).read.waiting).toBeGreaterThan(0);
  });

  test('a worker thread is terminated', async () => {
    const disk = await SlowDisk.mount({ flags: ['cache-names'] });
    const program = await Program.start(disk);
    await disk.delay('read', 'never');
    await program.ask('worker', disk.paths(40));
    await expectOnlyWarmersWait(program);
    await program.ask('terminate');
    await expectOthersGoOn(program);
  });
});

// What FUSE has begun to ask, a kernel waits for even under a process that is killed, unless the file
// system lets it go. These do, as NFS does.
onDisk(`a process ends, whatever a disk doesn't answer to${why}`, () => {
  const never = { open: 'socket', read: 'descriptor', write: 'upload', lookup: 'socket' } as const;
  test.each(Object.entries(never) as [Operation, string][])('%s of %s', async (operation, kind) => {
    const disk = await SlowDisk.mount({ flags: ['interruptible', 'direct-io'] });
    const program = await Program.start(disk);
    const files = kind === 'upload' ? [disk.path('a'), disk.path('b')] : disk.paths(6);
    if (kind === 'descriptor') await program.ask('open', files);
    await disk.delay(operation, 'never');
    await program.ask('start', kind, files);
    await program.until(async () => program.waiters().warmer !== undefined, 'somebody waits');
    program.tell('end', 'exit');
    expect(await program.ended()).toEqual({ code: 7, signal: null });
  });
});

/** Who waits, for each call that doesn't return; '' where nobody does. */
type Waits = Partial<Record<Operation, string>>;

const W = 'warmer';
/** As with node:fs, by which streams are opened and closed, copyFile() opens, and sinks are opened. */
const L = 'libuv';
/** The stream's own descriptor, and the engine's. */
const LW = 'libuv,warmer';

const table: [kind: string, flags: Flag[], waits: Waits][] = [
  ['socket', [], { lookup: W, open: W, read: W, flush: W, release: '', lseek: '' }],
  ['socket', ['cache-names'], { lookup: W, open: W, getattr: '', read: W, flush: W, release: '' }],
  ['response', ['cache-names'], { lookup: W, open: W, getattr: '', read: W, flush: W, lseek: '' }],
  // To read from it the kernel asks for its attributes again.
  ['descriptor', [], { open: '', getattr: W, read: W, flush: W, release: '', lseek: '' }],
  ['tiny', [], { open: '', getattr: W, read: W, flush: W, release: '', lseek: '' }],
  ['stream', [], { lookup: L, open: L, read: W, flush: LW, release: '', lseek: '' }],
  ['stream', ['cache-names'], { lookup: L, open: L, getattr: '', read: W, flush: LW, release: '' }],
  ['toFile', [], { lookup: W, open: W, getattr: L, read: W, flush: W, release: '', lseek: '' }],
  ['copyFile', [], { lookup: L, open: L, getattr: L, read: W, lseek: W, release: '' }],
  ['upload', [], { lookup: L, create: L, getattr: '', setattr: '', write: W, release: '' }],
  ['copyTo', [], { lookup: L, create: L, getattr: L, setattr: '', write: W, release: '' }],
  ['uploadOver', [], { lookup: L, open: L, getattr: L, setattr: L, write: W, release: '' }],
  ['copyOver', [], { lookup: L, open: L, getattr: L, setattr: L, write: W, release: '' }],
];

onDisk(`calls that never return${why}`, () => {
  test('flush, of a file that is open already and is opened once more', async () => {
    const disk = await SlowDisk.mount({ files: 1, flags: ['keep-cache'] });
    const program = await Program.start(disk);
    await disk.delay('read', 'never');
    await program.ask('start', 'socket', disk.paths(1));
    await disk.until(({ read }) => read.waiting > 0);
    await disk.delay('flush', 'never');
    await program.ask('start', 'socket', disk.paths(1));
    await disk.until(({ open }) => open.total === 2 && open.waiting === 0);
    await expectOthersGoOn(program);
  });

  test.each(table)('%s %j: %j', async (kind, flags, waits) => {
    const CALLS = 6;
    const disk = await SlowDisk.mount({ files: 200, flags });
    const program = await Program.start(disk);
    const seen: Waits = {};
    const makes = kind === 'upload' || kind === 'copyTo';
    let next = 0;
    for (const operation of Object.keys(waits) as Operation[]) {
      const files = Array.from({ length: CALLS }, () => {
        next += 1;
        return disk.path(makes ? `new-${next}` : next);
      });
      if (kind === 'descriptor' || kind === 'tiny') await program.ask('open', files);
      // What is known of the one before is no longer asked for.
      const { [operation]: before } = await disk.counts();
      await disk.delay(operation, 'never');
      await program.ask('start', kind, files);
      // Either somebody waits for it, or all of them end without.
      await program.until(async () => {
        const { [operation]: now } = await disk.counts();
        const ended = (await program.outcomes()).every((outcome) => outcome !== null);
        return ended || now.waiting > before.waiting;
      }, `${operation} is waited for`);
      await program.until(
        async () => {
          seen[operation] = Object.keys(program.waiters()).sort().join();
          return seen[operation] === waits[operation];
        },
        `${operation} is waited for by ${waits[operation] || 'nobody'}`,
      );
      // The JavaScript thread and the movers have time.
      for (const { backend } of await program.ask<Outcome[]>('hot'))
        expect(backend).toBe('sendfile');
      await disk.release();
      await program.ask('close');
      await expectAllSettled(program);
      await expectOnlyWarmersWait(program, 0);
    }
    expect(seen).toEqual(waits);
  });
});

onDisk(`several devices${why}`, () => {
  test('four that are dead leave the fifth and the sixth going', async () => {
    const first = await SlowDisk.mount({ files: 20 });
    const dead = [first];
    for (let i = 1; i < 4; i++) dead.push(await SlowDisk.mount({ files: 20, beside: first }));
    const alive = await SlowDisk.mount({ files: 20, beside: first });
    const slow = await SlowDisk.mount({ files: 20, beside: first });
    const program = await Program.start(first);
    for (const disk of dead) {
      await disk.delay('read', 'never');
      await program.ask('start', 'socket', disk.paths(20));
    }
    await expectOnlyWarmersWait(program, 4 * WARMERS_EACH);
    await slow.delay('read', 10);
    for (const disk of [alive, slow]) {
      for (let i = 0; i < 20; i++) {
        const { bytes } = await program.ask<{ bytes: string }>('send', disk.path(i), {}, 'native');
        expect(Buffer.from(bytes, 'latin1').equals(disk.content(i))).toBe(true);
      }
    }
    await expectOthersGoOn(program);
    await expectOnlyWarmersWait(program, 4 * WARMERS_EACH);
    for (const disk of dead) await disk.release();
  });
});

onDisk(`writes that never return${why}`, () => {
  test.each(['upload', 'copyTo'])('%s: aborts, and the writes of others go on', async (kind) => {
    const disk = await SlowDisk.mount({ flags: ['cache-names'] });
    const program = await Program.start(disk);
    const sockets = await socketsOf(program);
    await disk.delay('write', 'never');
    const names = Array.from({ length: 12 }, (_, i) => disk.path(`new-${i}`));
    await program.ask('start', kind, names);
    await disk.until(({ write }) => write.waiting > 0);
    await expectOnlyWarmersWait(program);
    await expectOthersGoOn(program);
    await program.ask('abort');
    for (const outcome of await expectAllSettled(program)) {
      expect(outcome).toMatchObject({ code: 'ABORT_ERR', transferred: 0 });
    }
    if (kind === 'upload') {
      await program.ask('destroy');
      await program.until(async () => (await socketsOf(program)) <= sockets, 'no socket is held');
    }
    await expectOthersGoOn(program);
    await disk.release();
    await expectOnlyWarmersWait(program, 0);
  });
});

onDisk.each(backends)(`a slow disk that answers, %s${why}`, (backend) => {
  const same: [string, Flag[]][] = [
    ['', []],
    [', though all have one inode number', ['one-inode']],
  ];
  test.each(same)('each file has its own bytes%s', async (_name, flags) => {
    const disk = await SlowDisk.mount({ files: 24, flags });
    const program = await Program.start(disk);
    await disk.delay('read', 15);
    const sent = await Promise.all(
      disk.paths(24).map((file) => program.ask<{ bytes: string }>('send', file, {}, backend)),
    );
    for (const [i, { bytes }] of sent.entries()) {
      expect(Buffer.from(bytes, 'latin1').equals(disk.content(i))).toBe(true);
    }
    // Of them all at once, and not one after the other.
    expect((await disk.counts()).read.most).toBeGreaterThan(4);
  });

  test('a range is read as a whole, and not page by page', async () => {
    const disk = await SlowDisk.mount({ files: 1, size: 2 * 1024 * 1024 });
    const program = await Program.start(disk);
    await disk.delay('read', 'never');
    await program.ask('start', 'socket', [disk.path(0)], backend);
    const reads = backend === 'native' ? 16 : 1; // of 128 KiB
    await disk.until(({ read }) => read.waiting >= reads);
  });

  test('ranges of one file at once', async () => {
    const disk = await SlowDisk.mount({ files: 1, size: 3 * 1024 * 1024 });
    const program = await Program.start(disk);
    await disk.delay('read', 10);
    const ranges = Array.from({ length: 16 }, (_, i) => ({
      offset: 150_001 * i,
      length: i % 3 === 0 ? 1_000_000 : 77_777,
    }));
    const sent = await Promise.all(
      ranges.map((range) => program.ask<{ bytes: string }>('send', disk.path(0), range, backend)),
    );
    const content = disk.content(0);
    for (const [i, { offset, length }] of ranges.entries()) {
      const bytes = Buffer.from(sent[i]?.bytes ?? '', 'latin1');
      expect(bytes.equals(content.subarray(offset, offset + length))).toBe(true);
    }
  });

  test('copied from there, to there, and within', async () => {
    const disk = await SlowDisk.mount({ files: 2, size: 300 * 1024 });
    const program = await Program.start(disk);
    for (const operation of ['read', 'write', 'lookup', 'open', 'flush', 'lseek'] as const) {
      await disk.delay(operation, 3);
    }
    const [outside, inside] = [`${program.scratch}/copy`, disk.path('copy')];
    for (const [from, to] of [
      [disk.path(1), outside],
      [outside, inside],
      [inside, disk.path('again')],
    ]) {
      const { transferred } = await program.ask<Outcome>('copy', from, to, backend);
      expect(transferred).toBe(disk.size);
      const bytes = Buffer.from(await program.ask<string>('read', to), 'latin1');
      expect(bytes.equals(disk.content(1))).toBe(true);
    }
  });
});
