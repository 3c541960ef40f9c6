// The two sockets of a relay, and the peers that talk through it.
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as net from 'node:net';
import { expect } from 'vitest';
import { constants, pipeSync, type RelayError, relay, spliceSync } from 'zerocopy';
import type { TestedBackend } from './backends';
import { errorOf } from './failures';
import { sleep, withResolvers } from './process';
import { onTestFinished } from './scope';
import { fdOf, listenOn, type SocketKind, shrink, stopReading } from './sockets';

export type RelayResult = Awaited<ReturnType<typeof relay>>;

/** aPeer — a [relay] b — bPeer: a was accepted, b connected, as in a proxy. */
export interface Ends {
  a: net.Socket;
  b: net.Socket;
  /** Like `bPeer`: paused, and open for writing after it has read the end. */
  aPeer: net.Socket;
  bPeer: net.Socket;
}

/** What a and b are. */
export const relayed = ['tcp', 'unix', 'tcp and unix'] as const;
export type Relayed = (typeof relayed)[number];

interface EndsOptions {
  kind?: Relayed;
  /** Of a and b. Their peers always have it. */
  allowHalfOpen?: boolean;
  /** Whether the readers have to read for anything to come on. */
  narrow?: boolean;
}

/** What is to be done when the test is over; a hook has none. */
type AtEnd = (undo: () => void) => void;

/** Over smaller ones TCP creeps: a segment at a time, each after a timer. */
export const NARROW_BYTES = { tcp: 64 * 1024, unix: 4096 };

export async function ends(
  { kind = 'tcp', allowHalfOpen = true, narrow = false }: EndsOptions = {},
  atEnd: AtEnd = onTestFinished,
): Promise<Ends> {
  const [kindOfA, kindOfB] = kind === 'tcp and unix' ? (['tcp', 'unix'] as const) : [kind, kind];
  const left = await connection(kindOfA, { accepted: allowHalfOpen }, atEnd);
  const right = await connection(kindOfB, { connected: allowHalfOpen }, atEnd);
  const all = {
    a: left.accepted,
    aPeer: left.connected,
    b: right.connected,
    bPeer: right.accepted,
  };
  for (const socket of Object.values(all)) socket.on('error', () => {});
  for (const peer of [all.aPeer, all.bPeer]) peer.pause();
  if (narrow) {
    shrink({ sink: all.a, peer: all.aPeer }, NARROW_BYTES[kindOfA]);
    shrink({ sink: all.b, peer: all.bPeer }, NARROW_BYTES[kindOfB]);
  }
  return all;
}

/** A server for one connection, and where it is. */
export async function listenOnce(
  kind: SocketKind,
  options: net.ServerOpts = {},
  atEnd: AtEnd = onTestFinished,
) {
  const server = net.createServer({ allowHalfOpen: true, ...options });
  atEnd(() => {
    server.close();
  });
  const address = await listenOn(server, kind);
  const accepted = once(server, 'connection').then(([socket]: net.Socket[]) => {
    server.close();
    atEnd(() => {
      socket?.destroy();
    });
    return socket as net.Socket;
  });
  return { server, address, accepted };
}

/** Two connected sockets; each says whether it allows half-open connections. */
export async function connection(
  kind: SocketKind,
  halfOpen: { accepted?: boolean; connected?: boolean },
  atEnd: AtEnd,
): Promise<{ accepted: net.Socket; connected: net.Socket }> {
  const { address, accepted } = await listenOnce(
    kind,
    { allowHalfOpen: halfOpen.accepted ?? true },
    atEnd,
  );
  const connected = net.connect({ ...address, allowHalfOpen: halfOpen.connected ?? true });
  atEnd(() => {
    connected.destroy();
  });
  if (connected.connecting) await once(connected, 'connect');
  return { accepted: await accepted, connected };
}

/** All that arrives until the end. Unlike receive() it leaves the peer open for writing. */
export function readToEnd(peer: net.Socket): Promise<Buffer> {
  const { promise, resolve, reject } = withResolvers<Buffer>();
  const chunks: Buffer[] = [];
  peer.on('data', (chunk) => chunks.push(chunk));
  peer.once('end', () => resolve(Buffer.concat(chunks)));
  peer.once('error', reject);
  peer.once('close', () => reject(new Error('Closed before its end')));
  peer.resume();
  return promise;
}

/**
 * How a peer's connection comes to its end, as the kernel tells: 'end', or the code of an error. libuv
 * makes an end of a reset that it meets together with bytes. The peer is gone afterwards.
 */
export async function fate(peer: net.Socket): Promise<string> {
  stopReading(peer);
  const { readFd, writeFd } = pipeSync();
  const bytes = Buffer.alloc(64 * 1024);
  try {
    for (;;) {
      if (peer.errored) return (peer.errored as NodeJS.ErrnoException).code ?? 'an error';
      if (peer.destroyed) return 'close';
      try {
        const flags = constants.SPLICE_F_NONBLOCK;
        const taken = spliceSync(fdOf(peer), null, writeFd, null, bytes.length, flags);
        if (taken === 0) return 'end';
        fs.readSync(readFd, bytes, 0, taken, null);
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code !== 'EAGAIN') return code ?? 'an error';
        await sleep(2);
      }
    }
  } finally {
    peer.destroy();
    fs.closeSync(readFd);
    fs.closeSync(writeFd);
  }
}

export async function closed(...sockets: net.Socket[]): Promise<void> {
  for (const socket of sockets) {
    // Not by once(), which rejects on 'error'.
    if (!socket.closed) await new Promise<void>((resolve) => socket.once('close', () => resolve()));
  }
}

/** The result of a relay that went the way it was asked to. */
export function expectRelayed(
  result: RelayResult,
  backend: TestedBackend,
  aToB: number,
  bToA: number,
) {
  if (backend === 'native') expect(result).toEqual({ aToB, bToA, backend: 'splice' });
  else {
    const fallback = { code: 'REQUESTED', at: 0 };
    expect(result).toMatchObject({ aToB, bToA, backend: 'stream', fallback });
  }
}

/** The error of a relay that has to fail. */
export const fails = errorOf<RelayError>;

/** The engine opens its own descriptors with the first relay: for tests that count them. */
export async function warmUp(): Promise<void> {
  const { a, b, aPeer, bPeer } = await ends({}, () => {});
  const result = relay(a, b);
  aPeer.end(Buffer.alloc(1_000_000));
  bPeer.end(Buffer.alloc(1_000_000));
  await Promise.all([readToEnd(aPeer), readToEnd(bPeer), result]);
  await closed(a, b, aPeer, bPeer);
}
