import { once } from 'node:events';
import * as fs from 'node:fs';
import { createRequire } from 'node:module';
import * as net from 'node:net';
import * as path from 'node:path';
import { scratchFolder } from './files';
import { until } from './process';
import { onTestFinished } from './scope';

const { setBuffers } = createRequire(import.meta.url)('../support/build/Release/support.node') as {
  setBuffers(fd: number, bytes: number): void;
};

export type SocketKind = 'tcp' | 'unix';

export interface Link {
  /** What transfers write to. */
  sink: net.Socket;
  /** Its other end, paused. */
  peer: net.Socket;
}

interface LinkOptions {
  kind?: SocketKind;
  /** Size of the buffers of both ends. */
  buffers?: number;
  /** Takes what arrives, out of one buffer that is used again and again. */
  onData?: (bytes: Uint8Array) => void;
  allowHalfOpen?: boolean;
}

/** Two connected sockets that go with the test. */
export async function link(options: LinkOptions = {}): Promise<Link> {
  const { server, address } = await listen(options.kind ?? 'tcp');
  const accepted = once(server, 'connection') as Promise<[net.Socket]>;
  const peer = net.connect({ ...address, ...(options.onData && onreadOf(options.onData)) });
  peer.pause();
  onTestFinished(() => {
    peer.destroy();
  });
  peer.on('error', () => {});
  const [sink] = await accepted;
  onTestFinished(() => {
    sink.destroy();
  });
  if (peer.connecting) await once(peer, 'connect');
  peer.pause(); // with onread, pausing has no effect before
  if (options.buffers !== undefined) shrink({ sink, peer }, options.buffers);
  server.close();
  return { sink, peer };
}

const shared = new Uint8Array(64 * 1024);

function onreadOf(onData: (bytes: Uint8Array) => void) {
  const callback = (count: number) => {
    onData(shared.subarray(0, count));
    return true;
  };
  return { onread: { buffer: shared, callback } };
}

export type Address = { host: string; port: number } | { path: string };

/** Has a server listen, and returns where. */
export async function listenOn(server: net.Server, kind: SocketKind): Promise<Address> {
  if (kind === 'tcp') return { host: '127.0.0.1', port: await listenOnPort(server) };
  const file = path.relative('.', path.join(scratchFolder(), 's')); // which must be short
  server.listen(file);
  await once(server, 'listening');
  return { path: file };
}

/** The same, on a port of 127.0.0.1. */
export async function listenOnPort(server: net.Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as net.AddressInfo).port;
}

/** A server that goes with the test, and where it listens. */
export async function listen(
  kind: SocketKind,
  onConnection?: (socket: net.Socket) => void,
): Promise<{ server: net.Server; address: Address }> {
  const server = net.createServer({ allowHalfOpen: true }, onConnection);
  onTestFinished(() => {
    server.close();
  });
  return { server, address: await listenOn(server, kind) };
}

export function shrink({ sink, peer }: Link, bytes: number): void {
  setBuffers(fdOf(sink), bytes);
  setBuffers(fdOf(peer), bytes);
}

export function fdOf(socket: net.Socket): number {
  return (socket as unknown as { _handle: { fd: number } })._handle.fd;
}

/** Has libuv look away from a socket, as it does while native code reads from it. */
export function stopReading(socket: net.Socket): void {
  (socket as unknown as { _handle: { readStop(): void } | null })._handle?.readStop();
}

/** The peer of a socket that libuv doesn't look at resets it, and a write to it is told, not we. */
export async function resetUnseen(socket: net.Socket, peer: net.Socket): Promise<void> {
  peer.resetAndDestroy();
  await until(() => {
    try {
      fs.writeSync(fdOf(socket), 'x');
      return false;
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === 'ECONNRESET';
    }
  }, 'it is reset');
}

/** All that arrives until the end. */
export async function receive(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of source) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** The next `length` bytes; the rest stays unread. */
export async function receiveBytes(peer: net.Socket, length: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let missing = length;
  while (missing > 0) {
    const chunk: Buffer | null = peer.read(Math.min(missing, peer.readableLength || 1));
    if (chunk === null) {
      if (peer.readableEnded || peer.destroyed) break;
      await new Promise<void>((resolve) => {
        const done = () => {
          peer.off('readable', done).off('end', done).off('close', done);
          resolve();
        };
        peer.on('readable', done).on('end', done).on('close', done);
      });
      continue;
    }
    chunks.push(chunk);
    missing -= chunk.length;
  }
  return Buffer.concat(chunks);
}
