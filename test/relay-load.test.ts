// Many relays: at once, one after the other, with everything that can happen to them.
import type * as net from 'node:net';
import { beforeAll, describe, expect, test } from 'vitest';
import { RelayError, relay } from 'zerocopy';
import { backends } from './helpers/backends';
import { pattern } from './helpers/files';
import { openDescriptors, runNode, sleep, threads, until } from './helpers/process';
import {
  closed,
  ends,
  expectRelayed,
  type Relayed,
  readToEnd,
  relayed,
  warmUp,
} from './helpers/relay';

const MIB = 1024 * 1024;

beforeAll(warmUp);

/** Most that the engine keeps while there are relays (native/pipe_pool.h). */
const MAX_IDLE_PIPES = 16;

const kindOf = (i: number) => relayed[i % relayed.length] as Relayed;

describe.each(backends)('%s: 1,000 relays at once', (backend) => {
  const [up, down] = [pattern(30_001, 61), pattern(20_003, 62)];

  /** All of them, from the first byte to the last. */
  async function round() {
    const before = openDescriptors();
    const all = await Promise.all(
      Array.from({ length: 1000 }, (_, i) => ends({ kind: kindOf(i) })),
    );
    const connected = openDescriptors();
    expect(connected - before).toBe(4000);
    const results = all.map(({ a, b }) => relay(a, b, { backend }));
    for (const { aPeer, bPeer } of all) {
      aPeer.write(up.subarray(0, 10_000));
      bPeer.write(down.subarray(0, 10_000));
    }
    await sleep(100);
    // A dup of each socket for each direction; pipes only where bytes are on their way.
    expect(openDescriptors() - connected).toBeLessThanOrEqual(4000 + 2 * MAX_IDLE_PIPES);
    globalThis.gc?.();
    const received = all.flatMap(({ aPeer, bPeer }) => [readToEnd(aPeer), readToEnd(bPeer)]);
    for (const { aPeer, bPeer } of all) {
      aPeer.end(up.subarray(10_000));
      bPeer.end(down.subarray(10_000));
    }
    let right = 0;
    for (const [i, bytes] of (await Promise.all(received)).entries()) {
      if (bytes.equals(i % 2 === 0 ? down : up)) right += 1;
    }
    expect(right).toBe(2000);
    for (const result of results) expectRelayed(await result, backend, up.length, down.length);
    await closed(...all.flatMap((sockets) => Object.values(sockets)));
    await until(() => openDescriptors() === before, 'descriptors are back');
    return threads().length;
  }

  test('all right, and nothing is left behind', async () => {
    const first = await round();
    expect(await round()).toBe(first);
  }, 120_000);

  test('round after round, in no more memory', async () => {
    const execArgv = ['--expose-gc'];
    const { code, stdout, stderr } = await runNode('relay-memory.mjs', [backend, '12'], {
      execArgv,
    });
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    // The allocator's arenas grow for some rounds, and vary after that.
    const rounds: { rss: number; heapUsed: number; descriptors: number }[] = JSON.parse(stdout);
    const [fourth, last] = [rounds[3], rounds.at(-1)];
    if (!fourth || !last) throw new Error(`No rounds: ${stdout}`);
    expect(last.descriptors).toBe(fourth.descriptors);
    expect(last.heapUsed - fourth.heapUsed).toBeLessThan(MIB);
    const resident = rounds.map(({ rss }) => rss);
    const grown = Math.min(...resident.slice(-4)) - Math.max(...resident.slice(0, 6));
    expect(grown).toBeLessThan(16 * MIB);
  }, 120_000);
});

describe.each(backends)('%s', (backend) => {
  test('300 relays one after the other', async () => {
    const before = openDescriptors();
    for (let i = 0; i < 300; i++) {
      const { a, b, aPeer, bPeer } = await ends({ kind: kindOf(i), allowHalfOpen: i % 4 < 2 });
      const result = relay(a, b, { backend });
      const content = pattern(i * 97, i);
      const received = [readToEnd(aPeer), readToEnd(bPeer)];
      aPeer.end(content);
      bPeer.end(content.subarray(1));
      const [atA, atB] = await Promise.all(received);
      expect(atB?.equals(content)).toBe(true);
      expect(atA?.equals(content.subarray(1))).toBe(true);
      expectRelayed(await result, backend, content.length, Math.max(0, content.length - 1));
      await closed(a, b, aPeer, bPeer);
    }
    await until(() => openDescriptors() === before, 'descriptors are back');
  }, 60_000);

  const deeds = [
    'end',
    'reset aPeer',
    'reset bPeer',
    'destroy aPeer',
    'destroy bPeer',
    'reset a',
    'reset b',
    'destroy a',
    'destroy b',
    'destroy both',
    'abort',
    'end one and reset the other',
    'end one and abort',
  ] as const;

  // Whatever happens, and whenever: what has arrived is the beginning of what was sent, the relay
  // settles, and nothing is left.
  test('600 relays to which all kinds of things happen at all kinds of moments', async () => {
    let state = 63;
    const random = (below: number) => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    const content = pattern(2 * MIB, 64);
    /** Where there are resets: over TCP. */
    const reset = (socket: net.Socket) => {
      if (socket.remoteAddress !== undefined) socket.resetAndDestroy();
      else socket.destroy();
    };
    /** Checks what arrives as it comes. */
    const follow = (peer: net.Socket) => {
      const seen = { count: 0, right: true, ended: false };
      peer.on('data', (chunk: Buffer) => {
        const { count } = seen;
        if (content.compare(chunk, 0, chunk.length, count, count + chunk.length) !== 0) {
          seen.right = false;
        }
        seen.count += chunk.length;
      });
      peer.on('end', () => {
        seen.ended = true;
      });
      peer.resume();
      return seen;
    };

    async function one(i: number) {
      const deed = deeds[i % deeds.length] as (typeof deeds)[number];
      const kind = kindOf(random(3));
      const sockets = await ends({
        kind,
        allowHalfOpen: random(2) === 0,
        narrow: random(2) === 0,
      });
      const { a, b, aPeer, bPeer } = sockets;
      const controller = new AbortController();
      const atA = follow(aPeer);
      const atB = follow(bPeer);
      aPeer.write(content.subarray(0, random(content.length)));
      if (random(2) === 0) await sleep(random(3));
      const settled = relay(a, b, { backend, signal: controller.signal }).catch(
        (error: RelayError) => error,
      );
      bPeer.write(content.subarray(0, random(content.length)));
      await sleep(random(12));
      const [first, second] = random(2) === 0 ? [aPeer, bPeer] : [bPeer, aPeer];
      if (deed === 'end') {
        first.end();
        await sleep(random(5));
        second.end();
      } else if (deed === 'reset aPeer') reset(aPeer);
      else if (deed === 'reset bPeer') reset(bPeer);
      else if (deed === 'destroy aPeer') aPeer.destroy();
      else if (deed === 'destroy bPeer') bPeer.destroy();
      else if (deed === 'reset a') reset(a);
      else if (deed === 'reset b') reset(b);
      else if (deed === 'destroy a') a.destroy();
      else if (deed === 'destroy b') b.destroy();
      else if (deed === 'abort') controller.abort();
      else if (deed === 'destroy both') {
        a.destroy();
        b.destroy();
      } else {
        first.end();
        await sleep(random(5));
        if (deed === 'end one and abort') controller.abort();
        else reset(second);
      }
      // A peer that is closed without bytes unread has merely ended, and libuv may make an end of a
      // reset: the other one ends, too.
      const byPeer = deed.endsWith('Peer') || deed === 'end one and reset the other';
      if (byPeer) for (const peer of [aPeer, bPeer]) if (!peer.destroyed) peer.end();
      const outcome = await settled;
      if (deed === 'end') {
        expect(outcome).not.toBeInstanceOf(Error);
        await until(() => atA.ended && atB.ended, 'the ends have arrived');
        expect({ kind, ...outcome }).toMatchObject({ aToB: atB.count, bToA: atA.count });
      } else if (!byPeer) {
        expect({ deed, kind, outcome }).toMatchObject({ outcome: expect.any(RelayError) });
      }
      expect([deed, atA.right, atB.right]).toEqual([deed, true, true]);
      await closed(a, b);
      for (const peer of [aPeer, bPeer]) peer.destroy();
      await closed(aPeer, bPeer);
    }

    const before = openDescriptors();
    let next = 0;
    const worker = async () => {
      while (next < 600) await one(next++);
    };
    await Promise.all(Array.from({ length: 30 }, worker));
    await until(() => openDescriptors() === before, 'descriptors are back');
  }, 120_000);
});

describe('20 relays that have nothing to do use no CPU', () => {
  test.each(['idle', 'stuck', 'half-closed', 'with timeouts'])('%s', async (state) => {
    const { code, stdout, stderr } = await runNode('relay-idle.mjs', [state]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const { cpuMs, backends } = JSON.parse(stdout);
    expect(backends).toEqual(Array(20).fill('splice'));
    expect(cpuMs).toBeLessThan(20);
  });
});
