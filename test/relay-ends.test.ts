// How relays end: half-closes, resets, destroyed sockets, aborts, timeouts.
import { once } from 'node:events';
import * as net from 'node:net';
import { beforeAll, describe, expect, test, vi } from 'vitest';
import { RelayError, relay, TransferError } from 'zerocopy';
import { backends, counted, type TestedBackend } from './helpers/backends';
import { pattern } from './helpers/files';
import { expectSame } from './helpers/http';
import { openDescriptors, sleep, until } from './helpers/process';
import {
  closed,
  type Ends,
  ends,
  expectRelayed,
  fails,
  fate,
  listenOnce,
  type Relayed,
  readToEnd,
  relayed,
  warmUp,
} from './helpers/relay';
import { receiveBytes, resetUnseen, stopReading } from './helpers/sockets';

const MIB = 1024 * 1024;
/** Far more than the buffers on the way take. */
const LARGE = 16 * MIB + 3;

beforeAll(warmUp);

/** The ends as seen from one side, so that each test runs in both directions. */
function seenFrom(side: 'a' | 'b', { a, b, aPeer, bPeer }: Ends) {
  return side === 'a'
    ? { near: a, nearPeer: aPeer, far: b, farPeer: bPeer }
    : { near: b, nearPeer: bPeer, far: a, farPeer: aPeer };
}

/** Counts of a result as seen from one side. */
function countsFrom(side: 'a' | 'b', { aToB, bToA }: { aToB: number; bToA: number }) {
  return side === 'a' ? { there: aToB, back: bToA } : { there: bToA, back: aToB };
}

/** Fails with everything that an error of a relay has, both sockets down. */
async function expectFailure(
  failed: Promise<RelayError>,
  backend: TestedBackend,
  codes: string[],
  { a, b }: Ends,
): Promise<RelayError> {
  const error = await failed;
  expect(error).toBeInstanceOf(RelayError);
  expect(error).toBeInstanceOf(TransferError);
  expect(error.name).toBe(error.code === 'ABORT_ERR' ? 'AbortError' : 'RelayError');
  expect(codes).toContain(error.code);
  expect(error.backend === 'stream').toBe(backend === 'stream');
  expect(error.transferred).toBe(error.aToB + error.bToA);
  await closed(a, b);
  return error;
}

async function writeUntilClosed(peer: net.Socket): Promise<void> {
  peer.resume();
  while (!peer.closed) {
    peer.write('more');
    await sleep(5);
  }
}

const sides = ['a', 'b'] as const;

describe.each(backends)('%s', (backend) => {
  const halfOpen = [true, false];
  const kindsAndSides = relayed.flatMap((kind) =>
    sides.flatMap((side) => halfOpen.map((allowHalfOpen) => ({ kind, side, allowHalfOpen }))),
  );

  describe.each(kindsAndSides)(
    '$kind, $side ends first, allowHalfOpen: $allowHalfOpen',
    ({ side, ...options }) => {
      test('the other direction goes on for long after', async () => {
        const before = openDescriptors();
        const sockets = await ends(options);
        const { near, far, nearPeer, farPeer } = seenFrom(side, sockets);
        const result = relay(sockets.a, sockets.b, { backend });
        const question = pattern(100_001, 31);
        nearPeer.end(question);
        expectSame(await readToEnd(farPeer), question);
        await sleep(100);
        expect(near.destroyed || far.destroyed).toBe(false);

        const answer = pattern(2 * MIB, 32);
        farPeer.write(answer.subarray(0, 10));
        expectSame(await receiveBytes(nearPeer, 10), answer.subarray(0, 10));
        await sleep(100);
        farPeer.write(answer.subarray(10, MIB));
        await sleep(20);
        const rest = readToEnd(nearPeer);
        await sleep(20);
        expect(await Promise.race([result, sleep(0)])).toBeUndefined();
        farPeer.end(answer.subarray(MIB));
        expectSame(await rest, answer.subarray(10));
        const counts = await result;
        expect(countsFrom(side, counts)).toEqual({ there: 100_001, back: 2 * MIB });
        expectRelayed(counts, backend, counts.aToB, counts.bToA);
        await closed(...Object.values(sockets));
        await until(() => openDescriptors() === before, 'descriptors are back');
      });

      test('while its bytes are still on their way to a slow reader', async () => {
        const sockets = await ends({ ...options, narrow: true });
        const { nearPeer, farPeer } = seenFrom(side, sockets);
        const result = relay(sockets.a, sockets.b, { backend });
        const content = pattern(4 * MIB, 33);
        nearPeer.end(content);
        farPeer.write('an answer');
        expect((await receiveBytes(nearPeer, 9)).toString()).toBe('an answer');
        await sleep(50);
        expectSame(await readToEnd(farPeer), content);
        const rest = readToEnd(nearPeer);
        farPeer.end(', and its end');
        expect((await rest).toString()).toBe(', and its end');
        expect(countsFrom(side, await result)).toEqual({ there: 4 * MIB, back: 22 });
      });

      test('before the relay, and JavaScript has not looked', async () => {
        const sockets = await ends(options);
        const { near, nearPeer, farPeer } = seenFrom(side, sockets);
        nearPeer.end('last words');
        await until(() => near.readableLength === 10, 'it is read');
        await sleep(20);
        const result = relay(sockets.a, sockets.b, { backend });
        expect((await readToEnd(farPeer)).toString()).toBe('last words');
        const answer = pattern(300_000, 34);
        const received = readToEnd(nearPeer);
        farPeer.end(answer);
        expectSame(await received, answer);
        expect(countsFrom(side, await result)).toEqual({ there: 10, back: 300_000 });
      });
    },
  );

  test.each(sides)(
    "%s has ended, and JavaScript has seen its 'end', before the relay",
    async (side) => {
      const sockets = await ends();
      const { near, nearPeer, farPeer } = seenFrom(side, sockets);
      nearPeer.end('hello');
      expect((await readToEnd(near)).toString()).toBe('hello');
      const result = relay(sockets.a, sockets.b, { backend });
      expect((await readToEnd(farPeer)).length).toBe(0);
      const answer = pattern(300_000, 35);
      const received = readToEnd(nearPeer);
      farPeer.end(answer);
      expectSame(await received, answer);
      expect(countsFrom(side, await result)).toEqual({ there: 0, back: 300_000 });
    },
  );

  test.each(relayed)('%s: both sides end without a byte, at once', async (kind) => {
    const sockets = await ends({ kind, allowHalfOpen: false });
    const { a, b, aPeer, bPeer } = sockets;
    const result = relay(a, b, { backend });
    aPeer.end();
    bPeer.end();
    await Promise.all([readToEnd(aPeer), readToEnd(bPeer)]);
    expectRelayed(await result, backend, 0, 0);
    await closed(...Object.values(sockets));
  });

  test('both had ended before the relay', async () => {
    const { a, b, aPeer, bPeer } = await ends();
    aPeer.end('from a');
    bPeer.end('from b');
    await sleep(20);
    const result = relay(a, b, { backend });
    const [atA, atB] = await Promise.all([readToEnd(aPeer), readToEnd(bPeer)]);
    expect([`${atA}`, `${atB}`]).toEqual(['from b', 'from a']);
    expectRelayed(await result, backend, 6, 6);
  });

  test("the sockets emit 'end' and 'close' once, and no 'error'", async () => {
    const sockets = await ends({ allowHalfOpen: false });
    const { a, b, aPeer, bPeer } = sockets;
    const events: string[] = [];
    for (const [name, socket] of Object.entries({ a, b })) {
      for (const event of ['end', 'error', 'close', 'timeout']) {
        socket.on(event, () => events.push(`${name} ${event}`));
      }
    }
    const result = relay(a, b, { backend });
    aPeer.end('x');
    await readToEnd(bPeer);
    expect(a.writableEnded).toBe(false);
    bPeer.end('y');
    await result;
    await closed(a, b);
    await sleep(10);
    expect(events.sort()).toEqual(['a close', 'a end', 'b close', 'b end']);
  });

  describe.each(sides)('a reset of the peer of %s', (side) => {
    test('idle', async () => {
      const before = openDescriptors();
      const sockets = await ends();
      const { nearPeer, farPeer } = seenFrom(side, sockets);
      const failed = fails(relay(sockets.a, sockets.b, { backend }));
      nearPeer.write('some');
      expect((await receiveBytes(farPeer, 4)).toString()).toBe('some');
      const lost = fate(farPeer);
      nearPeer.resetAndDestroy();
      const error = await expectFailure(failed, backend, ['ECONNRESET'], sockets);
      expect(countsFrom(side, error)).toEqual({ there: 4, back: 0 });
      expect(await lost).toBe('ECONNRESET');
      await closed(...Object.values(sockets));
      await until(() => openDescriptors() === before, 'descriptors are back');
    });

    test('while it sends', async () => {
      const sockets = await ends();
      const { nearPeer, farPeer } = seenFrom(side, sockets);
      const failed = fails(relay(sockets.a, sockets.b, { backend }));
      const content = pattern(LARGE, 36);
      nearPeer.write(content);
      expectSame(await receiveBytes(farPeer, 300_000), content.subarray(0, 300_000));
      nearPeer.resetAndDestroy();
      // libuv may make an end of it, and a stream learns no more then until it writes.
      if (backend === 'stream') await writeUntilClosed(farPeer);
      const lost = fate(farPeer);
      const error = await expectFailure(failed, backend, ['ECONNRESET', 'EPIPE'], sockets);
      const { there, back } = countsFrom(side, error);
      expect(there).toBeGreaterThanOrEqual(counted(backend, 300_000));
      expect(there).toBeLessThan(LARGE);
      expect(back).toBe(0);
      expect(backend === 'native' ? ['ECONNRESET'] : ['ECONNRESET', 'EPIPE']).toContain(await lost);
    });

    test('while it receives', async () => {
      const sockets = await ends();
      const { nearPeer, farPeer } = seenFrom(side, sockets);
      const failed = fails(relay(sockets.a, sockets.b, { backend }));
      farPeer.write(pattern(LARGE, 37));
      await receiveBytes(nearPeer, 300_000);
      const lost = fate(farPeer);
      nearPeer.resetAndDestroy();
      const error = await expectFailure(failed, backend, ['ECONNRESET', 'EPIPE'], sockets);
      const { there, back } = countsFrom(side, error);
      expect(there).toBe(0);
      expect(back).toBeGreaterThanOrEqual(counted(backend, 300_000));
      expect(back).toBeLessThan(LARGE);
      expect(await lost).toBe('ECONNRESET');
    });

    test('while both send to readers that have stopped', async () => {
      const sockets = await ends({ narrow: true });
      const { nearPeer, farPeer } = seenFrom(side, sockets);
      const failed = fails(relay(sockets.a, sockets.b, { backend }));
      nearPeer.write(pattern(LARGE, 38));
      farPeer.write(pattern(LARGE, 39));
      await receiveBytes(farPeer, 10_000);
      await sleep(50);
      nearPeer.resetAndDestroy();
      await expectFailure(failed, backend, ['ECONNRESET', 'EPIPE'], sockets);
      expect(await fate(farPeer)).toBe('ECONNRESET');
    });

    // Of streams there is one thread, which hears of the write before it reads.
    if (backend === 'native')
      test('that a write is told of, and reading not', async () => {
        const sockets = await ends();
        const { near, nearPeer, farPeer } = seenFrom(side, sockets);
        stopReading(near);
        nearPeer.write('some');
        await resetUnseen(near, nearPeer);
        const lost = fate(farPeer);
        const failed = fails(relay(sockets.a, sockets.b, { backend }));
        const error = await expectFailure(failed, backend, ['ECONNRESET'], sockets);
        expect(countsFrom(side, error)).toEqual({ there: 4, back: 0 });
        expect(await lost).toBe('ECONNRESET');
      });

    test('after it has ended its direction', async () => {
      const sockets = await ends();
      const { nearPeer, farPeer } = seenFrom(side, sockets);
      const failed = fails(relay(sockets.a, sockets.b, { backend }));
      nearPeer.end('question');
      expect((await readToEnd(farPeer)).toString()).toBe('question');
      farPeer.write('some of the answer');
      await receiveBytes(nearPeer, 18);
      nearPeer.resetAndDestroy();
      // Where an end has been read already, it takes a write to learn of a reset.
      await writeUntilClosed(farPeer);
      const error = await expectFailure(failed, backend, ['ECONNRESET', 'EPIPE'], sockets);
      const { there, back } = countsFrom(side, error);
      expect(there).toBe(8);
      expect(back).toBeGreaterThanOrEqual(18);
    });

    test('over Unix sockets, where closing with bytes unread is one', async () => {
      const sockets = await ends({ kind: 'unix', narrow: true });
      const { nearPeer, farPeer } = seenFrom(side, sockets);
      const failed = fails(relay(sockets.a, sockets.b, { backend }));
      farPeer.write(pattern(MIB, 40));
      await receiveBytes(nearPeer, 10_000);
      nearPeer.destroy();
      await expectFailure(failed, backend, ['ECONNRESET', 'EPIPE'], sockets);
      expect(['ECONNRESET', 'EPIPE', 'end']).toContain(await fate(farPeer));
    });
  });

  describe.each(sides)('%s is destroyed', (side) => {
    test.each(relayed)('%s, idle', async (kind) => {
      const before = openDescriptors();
      const sockets = await ends({ kind });
      const { near, nearPeer, farPeer } = seenFrom(side, sockets);
      const failed = fails(relay(sockets.a, sockets.b, { backend }));
      farPeer.write('some');
      await receiveBytes(nearPeer, 4);
      const lost = fate(farPeer);
      const ended = fate(nearPeer);
      near.destroy();
      const codes = ['ERR_STREAM_PREMATURE_CLOSE'];
      const error = await expectFailure(failed, backend, codes, sockets);
      expect(countsFrom(side, error)).toEqual({ there: 0, back: 4 });
      const farIsTcp = kind === 'tcp' || (kind === 'tcp and unix' && side === 'b');
      expect(await lost).toBe(farIsTcp ? 'ECONNRESET' : 'end');
      expect(await ended).toBe('end');
      for (const peer of [nearPeer, farPeer]) peer.destroy();
      await closed(...Object.values(sockets));
      await until(() => openDescriptors() === before, 'descriptors are back');
    });

    test('in mid-transfer, both directions', async () => {
      const sockets = await ends();
      const { near, nearPeer, farPeer } = seenFrom(side, sockets);
      const failed = fails(relay(sockets.a, sockets.b, { backend }));
      nearPeer.write(pattern(LARGE, 41));
      farPeer.write(pattern(LARGE, 42));
      await Promise.all([receiveBytes(nearPeer, 200_000), receiveBytes(farPeer, 200_000)]);
      const lost = fate(farPeer);
      near.destroy();
      const codes = ['ERR_STREAM_PREMATURE_CLOSE'];
      const error = await expectFailure(failed, backend, codes, sockets);
      expect(error.aToB).toBeGreaterThanOrEqual(counted(backend, 200_000));
      expect(error.bToA).toBeGreaterThanOrEqual(counted(backend, 200_000));
      expect(await lost).toBe('ECONNRESET');
    });

    test('with an error of its own', async () => {
      const sockets = await ends();
      const { near, farPeer } = seenFrom(side, sockets);
      const failed = fails(relay(sockets.a, sockets.b, { backend }));
      await sleep(10);
      const lost = fate(farPeer);
      const cause = Object.assign(new Error('EWHATEVER'), { code: 'EWHATEVER' });
      near.destroy(cause);
      const error = await expectFailure(failed, backend, ['EWHATEVER'], sockets);
      expect(error.cause).toBe(cause);
      expect(await lost).toBe('ECONNRESET');
    });

    test('in the turn of the call, and with the other one too', async () => {
      for (const both of [false, true]) {
        const sockets = await ends();
        const { near, far, nearPeer } = seenFrom(side, sockets);
        nearPeer.write('some');
        const failed = fails(relay(sockets.a, sockets.b, { backend }));
        near.destroy();
        if (both) far.destroy();
        await expectFailure(failed, backend, ['ERR_STREAM_PREMATURE_CLOSE'], sockets);
      }
    });

    test('while the other is still connecting', async () => {
      const { a, aPeer } = await ends();
      const { address } = await listenOnce('tcp');
      const b = net.connect(address);
      b.on('error', () => {});
      const failed = fails(relay(a, b, { backend }));
      (side === 'a' ? a : b).destroy();
      expect(await failed).toMatchObject({ code: 'ERR_STREAM_PREMATURE_CLOSE', transferred: 0 });
      await closed(a, b);
      aPeer.destroy();
    });
  });

  test('an upstream that refuses the connection', async () => {
    const { address, server } = await listenOnce('tcp');
    server.close();
    await once(server, 'close');
    const { a, aPeer } = await ends();
    const b = net.connect(address);
    b.on('error', () => {});
    aPeer.write('hello');
    const lost = fate(aPeer);
    const error = await fails(relay(a, b, { backend }));
    expect(error).toMatchObject({ code: 'ECONNREFUSED', aToB: 0, bToA: 0, transferred: 0 });
    expect(await lost).toBe('ECONNRESET');
    await closed(a, b);
  });

  test('an error that nobody listens for is no uncaught exception: the rejection tells of it', async () => {
    const sockets = await ends();
    const { a, b, aPeer } = sockets;
    for (const socket of [a, b]) socket.removeAllListeners('error');
    const failed = fails(relay(a, b, { backend }));
    await sleep(10);
    aPeer.resetAndDestroy();
    await expectFailure(failed, backend, ['ECONNRESET'], sockets);
    await sleep(10);
  });

  describe('aborted', () => {
    test('before the call', async () => {
      const sockets = await ends();
      const { a, b, aPeer, bPeer } = sockets;
      aPeer.write('some');
      const lost = [fate(aPeer), fate(bPeer)];
      const reason = new Error('enough');
      const failed = fails(relay(a, b, { backend, signal: AbortSignal.abort(reason) }));
      const error = await expectFailure(failed, backend, ['ABORT_ERR'], sockets);
      expect(error).toMatchObject({ cause: reason, aToB: 0, bToA: 0, transferred: 0 });
      expect(await Promise.all(lost)).toEqual(['ECONNRESET', 'ECONNRESET']);
    });

    test.each(['in the turn of the call', 'idle', 'in mid-transfer'])('%s', async (when) => {
      const before = openDescriptors();
      const sockets = await ends({ narrow: true });
      const { a, b, aPeer, bPeer } = sockets;
      const controller = new AbortController();
      const failed = fails(relay(a, b, { backend, signal: controller.signal }));
      const far = when === 'in mid-transfer' ? 100_000 : 0;
      if (when === 'idle') await sleep(30);
      if (far > 0) {
        aPeer.write(pattern(LARGE, 43));
        bPeer.write(pattern(LARGE, 44));
        await Promise.all([receiveBytes(aPeer, far), receiveBytes(bPeer, far)]);
      }
      const reason = new Error('enough');
      controller.abort(reason);
      const error = await expectFailure(failed, backend, ['ABORT_ERR'], sockets);
      expect(error.cause).toBe(reason);
      for (const count of [error.aToB, error.bToA]) {
        expect(count).toBeGreaterThanOrEqual(far && counted(backend, far));
        expect(count).toBeLessThan(LARGE);
      }
      expect(await Promise.all([fate(aPeer), fate(bPeer)])).toEqual(['ECONNRESET', 'ECONNRESET']);
      await closed(...Object.values(sockets));
      await until(() => openDescriptors() === before, 'descriptors are back');
    });

    // Node's resetAndDestroy() fails while a shutdown(2) is under way, and the socket is never closed.
    test.each(sides)('just when the end of %s is passed on', async (side) => {
      const moments: ((then: () => void) => void)[] = [
        (then) => then(),
        (then) => process.nextTick(then),
        (then) => process.nextTick(process.nextTick, then),
        (then) => process.nextTick(queueMicrotask, then),
        (then) => setImmediate(then),
        (then) => setImmediate(setImmediate, then),
      ];
      for (const at of moments) {
        const before = openDescriptors();
        const sockets = await ends();
        const { a, b, aPeer, bPeer } = sockets;
        const { nearPeer, far } = seenFrom(side, sockets);
        const controller = new AbortController();
        const bothClose = Promise.all(
          [a, b].map((s) => new Promise((done) => s.once('close', done))),
        );
        const { end } = far;
        far.end = function (this: net.Socket, ...args: never[]) {
          (end as (...args: never[]) => net.Socket).apply(this, args);
          at(() => controller.abort());
          return this;
        } as typeof end;
        const failed = fails(relay(a, b, { backend, signal: controller.signal }));
        nearPeer.end('last words');
        await expectFailure(failed, backend, ['ABORT_ERR'], sockets);
        await bothClose;
        for (const peer of [aPeer, bPeer]) peer.destroy();
        await closed(aPeer, bPeer);
        await until(() => openDescriptors() === before, 'descriptors are back');
      }
    });

    test('over Unix sockets', async () => {
      const sockets = await ends({ kind: 'unix', narrow: true });
      const { a, b, aPeer, bPeer } = sockets;
      const controller = new AbortController();
      const failed = fails(relay(a, b, { backend, signal: controller.signal }));
      aPeer.write(pattern(MIB, 45));
      await receiveBytes(bPeer, 20_000);
      controller.abort();
      await expectFailure(failed, backend, ['ABORT_ERR'], sockets);
      for (const peer of [aPeer, bPeer]) {
        expect(['ECONNRESET', 'EPIPE', 'end']).toContain(await fate(peer));
      }
    });

    test('after the end: it changes nothing, and the signal is let go', async () => {
      const { a, b, aPeer, bPeer } = await ends();
      const controller = new AbortController();
      const listen = vi.spyOn(controller.signal, 'addEventListener');
      const unlisten = vi.spyOn(controller.signal, 'removeEventListener');
      const result = relay(a, b, { backend, signal: controller.signal });
      aPeer.end('x');
      bPeer.end('y');
      await Promise.all([readToEnd(aPeer), readToEnd(bPeer)]);
      expectRelayed(await result, backend, 1, 1);
      expect(unlisten.mock.calls.length).toBe(listen.mock.calls.length);
      controller.abort();
      await closed(a, b);
      expect([a.errored, b.errored]).toEqual([null, null]);
    });
  });

  describe.each(['before', 'during'])('idle timeouts set %s', (when) => {
    async function timed(kind: Relayed = 'tcp', narrow = false) {
      const sockets = await ends({ kind, narrow });
      const { a, b } = sockets;
      const fired: string[] = [];
      a.on('timeout', () => fired.push('a'));
      b.on('timeout', () => fired.push('b'));
      const start = () => {
        a.setTimeout(150);
        b.setTimeout(150);
      };
      if (when === 'before') start();
      const result = relay(a, b, { backend });
      result.catch(() => {});
      if (when === 'during') {
        await sleep(5);
        start();
      }
      return { ...sockets, fired, result };
    }

    test.each([
      ['aToB', 'tcp'],
      ['bToA', 'tcp'],
      ['bToA', 'unix'],
    ] as const)('bytes from %s alone keep both awake (%s)', async (direction, kind) => {
      const { a, b, aPeer, bPeer, fired, result } = await timed(kind);
      const [from, to] = direction === 'aToB' ? [aPeer, bPeer] : [bPeer, aPeer];
      for (let i = 0; i < 25; i++) {
        from.write(Buffer.alloc(1000, i));
        await receiveBytes(to, 1000);
        await sleep(40);
      }
      expect(fired).toEqual([]);
      await until(() => fired.length === 2, 'it times out');
      expect(fired.sort()).toEqual(['a', 'b']);
      // It is for the program to do something about it.
      from.write('goes on');
      expect((await receiveBytes(to, 7)).toString()).toBe('goes on');
      a.destroy();
      expect(await fails(result)).toMatchObject({ code: 'ERR_STREAM_PREMATURE_CLOSE' });
      await closed(b);
    });

    test('a slow reader keeps its own side awake', async () => {
      const { a, b, aPeer, bPeer, fired, result } = await timed('unix', true);
      aPeer.write(pattern(MIB, 46));
      for (let i = 0; i < 25; i++) {
        await receiveBytes(bPeer, 16 * 1024);
        await sleep(40);
      }
      expect(fired).not.toContain('b');
      a.destroy();
      await fails(result);
      await closed(a, b);
    });

    test('idle from the start, and stuck', async () => {
      const idle = await timed();
      await until(() => idle.fired.length === 2, 'it times out');
      const stuck = await timed('unix', true);
      stuck.aPeer.write(pattern(MIB, 47));
      stuck.bPeer.write(pattern(MIB, 48));
      await until(() => stuck.fired.length === 2, 'it times out');
      const halfClosed = await timed();
      halfClosed.aPeer.end();
      await readToEnd(halfClosed.bPeer);
      await until(() => halfClosed.fired.length === 2, 'it times out');
      for (const { a, result } of [idle, stuck, halfClosed]) {
        a.destroy(new Error('timed out'));
        expect((await fails(result)).cause).toMatchObject({ message: 'timed out' });
      }
    });
  });

  test('every kind of end, 40 times over: no descriptor is left, pipes among them', async () => {
    const kindsOfEnd: ((sockets: Ends, controller: AbortController) => void)[] = [
      ({ aPeer }) => aPeer.resetAndDestroy(),
      ({ bPeer }) => bPeer.resetAndDestroy(),
      ({ a }) => a.destroy(),
      ({ b }) => b.destroy(),
      ({ b }) => b.resetAndDestroy(),
      (_sockets, controller) => controller.abort(),
    ];
    const before = openDescriptors();
    for (const end of kindsOfEnd) {
      await Promise.all(
        Array.from({ length: 40 }, async (_, i) => {
          const sockets = await ends({ narrow: true });
          const { a, b, aPeer, bPeer } = sockets;
          const controller = new AbortController();
          const failed = fails(relay(a, b, { backend, signal: controller.signal }));
          const content = pattern(4 * MIB, i + 1);
          aPeer.write(content);
          bPeer.write(content);
          expectSame(await receiveBytes(bPeer, 20_000), content.subarray(0, 20_000));
          end(sockets, controller);
          await failed;
          for (const peer of [aPeer, bPeer]) peer.destroy();
          await closed(...Object.values(sockets));
        }),
      );
      await until(() => openDescriptors() === before, 'descriptors are back');
    }
  });
});
