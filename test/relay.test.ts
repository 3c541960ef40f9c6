// What a relay does: both directions at once, from whatever state its sockets are in.
import { once } from 'node:events';
import * as net from 'node:net';
import { Duplex, PassThrough, Readable, Writable } from 'node:stream';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { type FallbackCode, RelayError, relay, TransferError } from 'zerocopy';
import { backends } from './helpers/backends';
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
  readToEnd,
  relayed,
  warmUp,
} from './helpers/relay';
import { receiveBytes } from './helpers/sockets';

const MIB = 1024 * 1024;
/** Far more than the buffers on the way take. */
const LARGE = 16 * MIB + 3;

beforeAll(warmUp);

/** Ends both directions and checks what arrives, beside what has been sent before. */
async function finish(
  { aPeer, bPeer }: Ends,
  { up = Buffer.alloc(0), down = Buffer.alloc(0) }: { up?: Buffer; down?: Buffer } = {},
) {
  const atA = readToEnd(aPeer);
  const atB = readToEnd(bPeer);
  aPeer.end();
  bPeer.end();
  expectSame(await atB, up);
  expectSame(await atA, down);
}

describe.each(backends)('%s', (backend) => {
  describe.each(relayed)('%s', (kind) => {
    test.each([
      [0, 0],
      [1, 0],
      [4097, 128 * 1024 + 16],
      [0, MIB],
      [64 * 1024 + 1, 64 * 1024 - 1],
      [LARGE, 5],
      [3 * MIB + 1, LARGE],
    ])('%i bytes one way, %i the other, at once', async (aToB, bToA) => {
      const before = openDescriptors();
      const { a, b, aPeer, bPeer } = await ends({ kind });
      const [up, down] = [pattern(aToB, 2), pattern(bToA, 3)];
      const result = relay(a, b, { backend });
      const atA = readToEnd(aPeer);
      const atB = readToEnd(bPeer);
      aPeer.end(up);
      bPeer.end(down);
      expectSame(await atB, up);
      expectSame(await atA, down);
      expectRelayed(await result, backend, aToB, bToA);
      await closed(a, b, aPeer, bPeer);
      for (const socket of [a, b]) expect(socket.errored).toBe(null);
      await until(() => openDescriptors() === before, 'descriptors are back');
    });

    test('what Node had read, what was unshifted, what was written before: all of it first', async () => {
      const sockets = await ends({ kind });
      const { a, b, aPeer, bPeer } = sockets;
      const [early, late] = [pattern(5001, 4), pattern(300_001, 5)];
      aPeer.write(early);
      bPeer.write(early.subarray(1));
      await until(() => a.readableLength === 5001 && b.readableLength === 5000, 'it is read');
      a.unshift(Buffer.from('head of a '));
      b.unshift(Buffer.from('head of b '));
      a.write('written to a ');
      b.write('written to b ');
      const result = relay(a, b, { backend });
      aPeer.write(late);
      bPeer.write(late.subarray(1));
      await finish(sockets, {
        up: Buffer.concat([Buffer.from('written to b head of a '), early, late]),
        down: Buffer.concat([
          Buffer.from('written to a head of b '),
          early.subarray(1),
          late.subarray(1),
        ]),
      });
      // What was written to them was not relayed.
      expectRelayed(await result, backend, 10 + 305_002, 10 + 305_000);
    });

    test('writes before that are still under way, to readers that have not begun', async () => {
      const sockets = await ends({ kind, narrow: true });
      const { a, b, aPeer, bPeer } = sockets;
      const [first, second] = [pattern(4 * MIB, 6), pattern(MIB, 7)];
      a.write(first);
      b.cork();
      b.write(first.subarray(1));
      b.write('corked');
      process.nextTick(() => b.uncork());
      const result = relay(a, b, { backend });
      aPeer.write(second);
      bPeer.write(second);
      await sleep(50);
      await finish(sockets, {
        up: Buffer.concat([first.subarray(1), Buffer.from('corked'), second]),
        down: Buffer.concat([first, second]),
      });
      expectRelayed(await result, backend, MIB, MIB);
    });

    test('a byte at a time', async () => {
      const sockets = await ends({ kind });
      const { a, b, aPeer, bPeer } = sockets;
      for (const socket of Object.values(sockets)) socket.setNoDelay();
      const result = relay(a, b, { backend });
      for (let i = 0; i < 300; i++) {
        aPeer.write(Buffer.of(i));
        expect([...(await receiveBytes(bPeer, 1))]).toEqual([i % 256]);
        bPeer.write(Buffer.of(i + 1));
        expect([...(await receiveBytes(aPeer, 1))]).toEqual([(i + 1) % 256]);
      }
      const up = pattern(2001, 8);
      for (const byte of up) {
        aPeer.write(Buffer.of(byte));
        if (byte < 8) await sleep(0);
      }
      await finish(sockets, { up });
      expectRelayed(await result, backend, 2301, 300);
    });

    // A pipe is full when its 16 slots are, each of which may hold no more than one segment.
    test('thousands of segments of 100 bytes, to a reader that is slow', async () => {
      const sockets = await ends({ kind });
      const { a, b, aPeer, bPeer } = sockets;
      aPeer.setNoDelay();
      bPeer.setNoDelay();
      const result = relay(a, b, { backend });
      const content = pattern(600_000, 9);
      const send = async (peer: net.Socket) => {
        for (let at = 0; at < content.length; at += 100) {
          peer.write(content.subarray(at, at + 100));
          if (at % 1000 === 0) await new Promise(setImmediate);
        }
      };
      await Promise.all([send(aPeer), send(bPeer)]);
      await sleep(100);
      const start = await receiveBytes(bPeer, 12_345);
      await sleep(50);
      await finish(sockets, { up: content.subarray(12_345), down: content });
      expectSame(start, content.subarray(0, 12_345));
      expectRelayed(await result, backend, 600_000, 600_000);
    });

    test('segments of 100 bytes, each read before the next but one is sent', async () => {
      const sockets = await ends({ kind });
      const { a, b, aPeer, bPeer } = sockets;
      aPeer.setNoDelay();
      const result = relay(a, b, { backend });
      const content = pattern(200_000, 10);
      aPeer.write(content.subarray(0, 100));
      for (let at = 100; at < content.length; at += 100) {
        aPeer.write(content.subarray(at, at + 100));
        expectSame(await receiveBytes(bPeer, 100), content.subarray(at - 100, at));
      }
      await finish(sockets, { up: content.subarray(-100) });
      expectRelayed(await result, backend, 200_000, 0);
    });

    test('a reader that stops holds up nobody but its own direction', async () => {
      const { a, b, aPeer, bPeer } = await ends({ kind, narrow: true });
      const [up, down] = [pattern(4 * MIB, 11), pattern(3 * MIB + 1, 12)];
      const result = relay(a, b, { backend });
      const atA = readToEnd(aPeer);
      aPeer.end(up);
      bPeer.end(down);
      expectSame(await atA, down);
      expect(a.bytesRead).toBeLessThan(4 * MIB);
      await sleep(100);
      expect(await Promise.race([result, sleep(0)])).toBeUndefined();
      expectSame(await readToEnd(bPeer), up);
      expectRelayed(await result, backend, 4 * MIB, 3 * MIB + 1);
    });

    test('both readers read now and then', async () => {
      const { a, b, aPeer, bPeer } = await ends({ kind, narrow: true });
      const [up, down] = [pattern(2 * MIB, 13), pattern(2 * MIB + 1, 14)];
      const result = relay(a, b, { backend });
      aPeer.end(up);
      bPeer.end(down);
      const slowly = async (peer: net.Socket, content: Buffer) => {
        let at = 0;
        for (let length = 1; at < content.length / 2; length = (length * 3) % 40_009) {
          expectSame(await receiveBytes(peer, length), content.subarray(at, at + length));
          at += length;
          if (length % 5 === 0) await sleep(3);
        }
        expectSame(await readToEnd(peer), content.subarray(at));
      };
      await Promise.all([slowly(bPeer, up), slowly(aPeer, down)]);
      expectRelayed(await result, backend, 2 * MIB, 2 * MIB + 1);
    });

    test('bytesRead and bytesWritten, at every moment', async () => {
      const { a, b, aPeer, bPeer } = await ends({ kind, narrow: true });
      aPeer.write('before');
      await until(() => a.readableLength === 6, 'it is read');
      b.write('mine');
      const counts = () => [a.bytesRead, b.bytesWritten, b.bytesRead, a.bytesWritten];
      const result = relay(a, b, { backend });
      expect(a.bytesRead).toBe(6);
      expect(b.bytesWritten).toBeGreaterThanOrEqual(4);
      aPeer.write(pattern(4 * MIB));
      bPeer.write(pattern(4 * MIB));
      await receiveBytes(bPeer, 300_010);
      await until(() => a.bytesRead >= 300_006 && b.bytesWritten >= 300_010, 'they are counted');
      expect(a.bytesRead).toBeLessThan(4 * MIB + 6);
      expect(b.bytesWritten).toBeLessThan(4 * MIB + 10);
      await receiveBytes(aPeer, 200_000);
      await until(() => b.bytesRead >= 200_000 && a.bytesWritten >= 200_000, 'they are counted');
      expect(a.bytesWritten).toBeLessThan(4 * MIB);
      const seen = counts();
      const ended = Promise.all([readToEnd(aPeer), readToEnd(bPeer)]);
      aPeer.end();
      bPeer.end();
      await ended;
      await result;
      const all = [4 * MIB + 6, 4 * MIB + 10, 4 * MIB, 4 * MIB];
      expect(counts()).toEqual(all);
      for (const [i, count] of seen.entries()) expect(count).toBeLessThanOrEqual(all[i] as number);
      await closed(a, b);
      expect(counts()).toEqual(all);
    });
  });

  // Each at its moment of the event loop, so that the hand-over meets bytes at every stage.
  const moments: [string, () => unknown][] = [
    ['the same turn', () => {}],
    ['a microtask', () => Promise.resolve()],
    ['a tick', () => new Promise<void>((resolve) => process.nextTick(resolve))],
    ['an immediate', () => new Promise(setImmediate)],
    ['two immediates', () => new Promise((resolve) => setImmediate(setImmediate, resolve))],
    ['1 ms', () => sleep(1)],
    ['5 ms', () => sleep(5)],
  ];
  const pairsOfMoments = moments.flatMap(([before, wait]) =>
    moments.map(([after, waitAgain]) => ({ before, wait, after, waitAgain })),
  );

  test.each(['tcp', 'unix'] as const)(
    '%s: bytes that come before, at and after the hand-over',
    async (kind) => {
      for (const size of [1000, 200_000]) {
        for (const { before, wait, after, waitAgain } of pairsOfMoments) {
          const sockets = await ends({ kind });
          const { a, b, aPeer, bPeer } = sockets;
          const content = pattern(3 * size, 15);
          const send = (part: number) => {
            aPeer.write(content.subarray(part * size, (part + 1) * size));
            bPeer.write(content.subarray(part * size, (part + 1) * size));
          };
          send(0);
          await wait();
          const result = relay(a, b, { backend });
          send(1);
          await waitAgain();
          send(2);
          await finish(sockets, { up: content, down: content });
          expect({ before, after, ...(await result) }).toMatchObject({
            before,
            after,
            aToB: 3 * size,
            bToA: 3 * size,
          });
        }
      }
    },
    60_000,
  );

  test('a socket that JavaScript has read a header of', async () => {
    const sockets = await ends();
    const { a, b, aPeer } = sockets;
    const body = pattern(200_000, 16);
    aPeer.write(Buffer.concat([Buffer.from('CONNECT\n'), body]));
    expect((await receiveBytes(a, 8)).toString()).toBe('CONNECT\n');
    const result = relay(a, b, { backend });
    await finish(sockets, { up: body });
    expectRelayed(await result, backend, 200_000, 0);
  });

  test("a socket that has flown, by 'data', and was paused", async () => {
    const sockets = await ends();
    const { a, b, aPeer } = sockets;
    const body = pattern(400_000, 17);
    aPeer.write(body.subarray(0, 100_000));
    const [chunk] = (await once(a, 'data')) as [Buffer];
    a.pause();
    a.unshift(chunk.subarray(10));
    const result = relay(a, b, { backend });
    aPeer.write(body.subarray(100_000));
    await finish(sockets, { up: body.subarray(10) });
    expectRelayed(await result, backend, 399_990, 0);
  });

  test('sockets that were paused, and one that was accepted so', async () => {
    const { address, accepted } = await listenOnce('tcp', { pauseOnConnect: true });
    const aPeer = net.connect({ ...address, allowHalfOpen: true });
    onTestFinished(() => {
      aPeer.destroy();
    });
    const { b, bPeer } = await ends();
    const a = await accepted;
    b.pause();
    const [up, down] = [pattern(100_000, 18), pattern(200_000, 19)];
    aPeer.write(up);
    bPeer.write(down);
    await sleep(20);
    const result = relay(a, b, { backend });
    await finish({ a, b, aPeer, bPeer }, { up, down });
    expectRelayed(await result, backend, 100_000, 200_000);
  });

  describe.each(['tcp', 'unix'] as const)('%s: sockets that are still connecting', (kind) => {
    const connecting = (address: net.NetConnectOpts) => {
      const socket = net.connect(address);
      onTestFinished(() => {
        socket.destroy();
      });
      return socket;
    };

    test('one, with bytes that wait for it', async () => {
      const { a, aPeer } = await ends({ kind });
      const upstream = await listenOnce(kind);
      const [up, down] = [pattern(MIB, 20), pattern(2 * MIB, 21)];
      aPeer.write(up);
      await until(() => a.readableLength > 0, 'some of it is read');
      const b = connecting(upstream.address);
      b.write('written first ');
      const result = relay(a, b, { backend });
      expect(b.connecting).toBe(true);
      const bPeer = await upstream.accepted;
      bPeer.write(down);
      const wanted = Buffer.concat([Buffer.from('written first '), up]);
      await finish({ a, b, aPeer, bPeer }, { up: wanted, down });
      expectRelayed(await result, backend, MIB, 2 * MIB);
    });

    test('both', async () => {
      const [left, right] = [await listenOnce(kind), await listenOnce(kind)];
      const [a, b] = [connecting(left.address), connecting(right.address)];
      const result = relay(a, b, { backend });
      expect(a.connecting && b.connecting).toBe(true);
      const [aPeer, bPeer] = [await left.accepted, await right.accepted];
      const [up, down] = [pattern(300_000, 22), pattern(1, 23)];
      aPeer.write(up);
      bPeer.write(down);
      await finish({ a, b, aPeer, bPeer }, { up, down });
      expectRelayed(await result, backend, 300_000, 1);
    });
  });
});

describe('what goes by streams, and says why', () => {
  const overridden: [string, FallbackCode, (socket: net.Socket) => void][] = [
    [
      'an encoding',
      'SOURCE_ENCODED',
      (socket) => {
        socket.setEncoding('latin1');
      },
    ],
    [
      'a read of its own',
      'SOURCE_OVERRIDDEN',
      (socket) => {
        const { read } = socket;
        socket.read = function (size) {
          return read.call(this, size);
        };
      },
    ],
    [
      'a write of its own',
      'SINK_OVERRIDDEN',
      (socket) => {
        const { write } = socket;
        socket.write = function (this: net.Socket, ...args: never[]) {
          return (write as (...args: never[]) => boolean).apply(this, args);
        } as typeof write;
      },
    ],
  ];
  describe.each(overridden)('%s', (_name, code, override) => {
    test.each(['a', 'b'] as const)('of %s', async (which) => {
      const sockets = await ends({ allowHalfOpen: false });
      const { a, b, aPeer, bPeer } = sockets;
      override(sockets[which]);
      const [up, down] = [pattern(300_000, 22), pattern(400_000, 23)];
      const result = relay(a, b);
      aPeer.write(up);
      bPeer.write(down);
      await finish(sockets, { up, down });
      expect(await result).toMatchObject({
        aToB: 300_000,
        bToA: 400_000,
        backend: 'stream',
        fallback: { code, at: 0 },
      });
    });

    test('a native relay of it is refused', async () => {
      const { a, b } = await ends();
      override(b);
      await expect(relay(a, b, { backend: 'native' })).rejects.toMatchObject({
        code: 'ERR_NOT_NATIVE',
        aToB: 0,
        bToA: 0,
        transferred: 0,
        cause: { code },
      });
    });
  });

  /** What is written to one can be read from the other. */
  function duplexes(): [Duplex, Duplex] {
    const [there, back] = [new PassThrough(), new PassThrough()];
    return [
      Duplex.from({ readable: back, writable: there }),
      Duplex.from({ readable: there, writable: back }),
    ];
  }

  async function collect(source: Readable): Promise<Buffer> {
    const chunks: Buffer[] = [];
    source.on('data', (chunk) => chunks.push(chunk)).resume();
    await once(source, 'end');
    return Buffer.concat(chunks);
  }

  test.each(['a', 'b', 'both'])('Duplexes that are no sockets: %s', async (which) => {
    const sockets = await ends();
    let a: Duplex = sockets.a;
    let b: Duplex = sockets.b;
    let aPeer: Duplex = sockets.aPeer;
    let bPeer: Duplex = sockets.bPeer;
    if (which !== 'b') [a, aPeer] = duplexes();
    if (which !== 'a') [b, bPeer] = duplexes();
    const [up, down] = [pattern(300_000, 24), pattern(MIB, 25)];
    const result = relay(a, b);
    const received = Promise.all([collect(aPeer), collect(bPeer)]);
    aPeer.end(up);
    await sleep(10);
    bPeer.end(down);
    const [atA, atB] = await received;
    expectSame(atB, up);
    expectSame(atA, down);
    const { fallback, ...moved } = await result;
    expect(moved).toEqual({ aToB: 300_000, bToA: MIB, backend: 'stream' });
    expect(['SOURCE_STREAM', 'SINK_TYPE']).toContain(fallback?.code);
  });

  test('a Duplex that fails resets the socket', async () => {
    const { a, aPeer } = await ends();
    const [b, bPeer] = duplexes();
    const lost = fate(aPeer);
    const failed = fails(relay(a, b));
    aPeer.write('x');
    await once(bPeer, 'data');
    const cause = Object.assign(new Error('EWHATEVER'), { code: 'EWHATEVER' });
    for (const side of [b, bPeer]) side.on('error', () => {});
    b.destroy(cause);
    expect(await failed).toMatchObject({ code: 'EWHATEVER', cause, aToB: 1, backend: 'stream' });
    expect(await lost).toBe('ECONNRESET');
  });
});

describe('arguments', () => {
  const call = relay as (...args: unknown[]) => Promise<unknown>;
  const type = { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' };
  const value = { name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE' };

  /** Refuses, and leaves the sockets as they were. */
  async function refused(
    replaced: { a?: unknown; b?: unknown; options?: unknown },
    error: { name: string; code: string },
  ) {
    const { a, b, aPeer, bPeer } = await ends();
    const before = openDescriptors();
    const args = { a, b, ...replaced };
    await expect(call(args.a, args.b, args.options)).rejects.toMatchObject(error);
    expect(openDescriptors()).toBe(before);
    for (const [socket, peer] of [
      [a, aPeer],
      [b, bPeer],
    ] as const) {
      socket.write('hello');
      expect((await receiveBytes(peer, 5)).toString()).toBe('hello');
      peer.write('hello back');
      expect((await receiveBytes(socket, 10)).toString()).toBe('hello back');
    }
  }

  test.each([
    ['undefined', undefined],
    ['null', null],
    ['a path', '/tmp/socket'],
    ['a descriptor', 1],
    ['an object', {}],
    ['a Readable', new Readable({ read: () => {} })],
    ['a Writable', new Writable()],
    ['a Server', net.createServer()],
  ])('%s is no Duplex', async (_name, replaced) => {
    await refused({ a: replaced }, type);
    await refused({ b: replaced }, type);
  });

  test.each([
    ['null', null, type],
    ['a string', 'native', type],
    ['an array', [], type],
    ['a name unknown', { timeout: 5 }, value],
    ['a name of transfer()', { endSink: true }, value],
    ['backend: a number', { backend: 1 }, type],
    ["backend: 'splice'", { backend: 'splice' }, value],
    ['signal: an object', { signal: {} }, type],
    ['signal: a controller', { signal: new AbortController() }, type],
  ])('options, %s', async (_name, options, error) => {
    await refused({ options }, error);
  });

  test('the same socket twice', async () => {
    const { a, aPeer } = await ends();
    const duplex = new PassThrough();
    await expect(relay(a, a)).rejects.toMatchObject(value);
    await expect(relay(duplex, duplex)).rejects.toMatchObject(value);
    a.write('hello');
    expect((await receiveBytes(aPeer, 5)).toString()).toBe('hello');
  });

  test('a RelayError is a TransferError', () => {
    expect(RelayError.prototype).toBeInstanceOf(TransferError);
  });
});

describe.each(backends)('%s: sockets that can be relayed no more', (backend) => {
  test.each(['a', 'b'] as const)('%s was destroyed', async (which) => {
    const sockets = await ends();
    sockets[which].destroy();
    const lost = fate(sockets[which === 'a' ? 'bPeer' : 'aPeer']);
    const error = await fails(relay(sockets.a, sockets.b, { backend }));
    expect(error).toMatchObject({ code: 'ERR_STREAM_PREMATURE_CLOSE', aToB: 0, bToA: 0 });
    expect(await lost).toBe('ECONNRESET');
  });

  test.each(['a', 'b'] as const)('%s was ended by its owner', async (which) => {
    const sockets = await ends();
    sockets[which].end('last');
    const error = await fails(relay(sockets.a, sockets.b, { backend }));
    expect(error).toBeInstanceOf(RelayError);
    expect(error).toMatchObject({ code: 'ERR_STREAM_WRITE_AFTER_END', aToB: 0, bToA: 0 });
  });
});
