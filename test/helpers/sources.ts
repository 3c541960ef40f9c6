// Streams that transfers read from, what writes to them, and what became of their bytes.
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import * as net from 'node:net';
import * as path from 'node:path';
import { expect } from 'vitest';
import { pipeSync, TransferError, type TransferResult } from 'zerocopy';
import type { TestedBackend } from './backends';
import { fails } from './failures';
import { handleFor, openFor, scratchFolder } from './files';
import { openDescriptors, until } from './process';
import { onTestFinished } from './scope';
import { link, receive, type SocketKind } from './sockets';

export const kinds: SocketKind[] = ['tcp', 'unix'];

/** The result of a transfer that went by splice(2), or by streams where it was asked to. */
export function expectSpliced(result: TransferResult, backend: TestedBackend, transferred: number) {
  if (backend === 'native') expect(result).toEqual({ transferred, backend: 'splice' });
  else
    expect(result).toMatchObject({ transferred, backend, fallback: { code: 'REQUESTED', at: 0 } });
}

export interface SourceLink {
  /** What transfers read from. */
  source: net.Socket;
  /** Its other end. */
  writer: net.Socket;
}

interface SourceOptions {
  kind?: SocketKind;
  /**
   * `'accepted'`: Node reads ahead of what reads the socket. `'connected'`: it has been paused
   * before it was connected, and has read nothing. @default 'accepted'
   */
  side?: 'accepted' | 'connected';
  /** Size of the buffers of both ends. */
  buffers?: number;
}

export const sides = ['accepted', 'connected'] as const;

/** Two connected sockets that go with the test. */
export async function sourceLink(options: SourceOptions = {}): Promise<SourceLink> {
  const { kind = 'tcp', side = 'accepted', buffers } = options;
  const { sink, peer } = await link({ kind, ...(buffers !== undefined && { buffers }) });
  sink.on('error', () => {}); // resets are looked for where they matter
  return side === 'accepted' ? { source: sink, writer: peer } : { source: peer, writer: sink };
}

/** Both ends of a pipe(2), as the sockets that Node makes of them; they go with the test. */
export function pipeEnds(): SourceLink {
  const { readFd, writeFd } = pipeSync();
  const source = new net.Socket({ fd: readFd, writable: false });
  const writer = new net.Socket({ fd: writeFd, readable: false });
  for (const socket of [source, writer]) {
    socket.on('error', () => {});
    onTestFinished(() => {
      socket.destroy();
    });
  }
  return { source, writer };
}

/** A FIFO in the file system that goes with the test. */
export function fifo(folder = scratchFolder()): string {
  const file = path.join(folder, 'fifo');
  execFileSync('mkfifo', [file]);
  return file;
}

/** A file that a transfer writes to, in one of the ways to say so. */
export interface FileTarget {
  sink: string | number | FileHandle;
  path: string;
}

export const targetKinds = ['path', 'fd', 'FileHandle'] as const;
export type TargetKind = (typeof targetKinds)[number];

/** A new file that goes with the test. */
export async function fileTarget(kind: TargetKind, content?: Uint8Array): Promise<FileTarget> {
  const file = path.join(scratchFolder(), 'target');
  if (content) fs.writeFileSync(file, content);
  if (kind === 'path') return { sink: file, path: file };
  const flags = content ? 'r+' : 'w+';
  if (kind === 'fd') return { sink: openFor(file, flags), path: file };
  return { sink: await handleFor(file, flags), path: file };
}

/** The error of a transfer that has to fail, once it is under way. */
export async function failed(promise: Promise<unknown>): Promise<TransferError> {
  const error = await fails(promise);
  expect(error).toBeInstanceOf(TransferError);
  return error;
}

/**
 * Nothing is lost and nothing comes twice: what the sink has accepted (`error.transferred`), the
 * error's residual, and what is then read of the source are what was sent.
 */
export function expectWhole(error: TransferError, rest: Buffer, sent: Buffer, sunk?: Buffer) {
  const residual = error.residual ?? Buffer.alloc(0);
  expect(error.transferred + residual.length + rest.length).toBe(sent.length);
  const { transferred } = error;
  if (sunk) {
    expect(sunk.subarray(0, transferred).equals(sent.subarray(0, transferred))).toBe(true);
  }
  expect(Buffer.concat([residual, rest]).equals(sent.subarray(transferred))).toBe(true);
}

/** What follows in a source, after what ends it has been called. */
export async function restOf({ source, writer }: SourceLink): Promise<Buffer> {
  const rest = receive(source);
  writer.end();
  return await rest;
}

/** Writes pieces one by one, each when the one before it has gone and what reads has had its turn. */
export async function writePieces(writer: net.Socket, pieces: Uint8Array[]): Promise<void> {
  writer.setNoDelay?.(true);
  for (const piece of pieces) {
    await new Promise<void>((resolve, reject) => {
      writer.write(piece, (error) => (error ? reject(error) : resolve()));
    });
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Bytes cut into pieces of these lengths, in turn; a 0 is skipped. */
export function cut(bytes: Buffer, lengths: number[]): Buffer[] {
  const pieces: Buffer[] = [];
  let at = 0;
  for (let i = 0; at < bytes.length; i++) {
    const length = lengths[i % lengths.length] ?? bytes.length;
    if (length > 0) pieces.push(bytes.subarray(at, at + length));
    at += length;
  }
  return pieces;
}

/** How often each of a stream's events has come. */
export function countEvents(stream: NodeJS.EventEmitter, ...names: string[]) {
  const counts: Record<string, number> = Object.fromEntries(names.map((name) => [name, 0]));
  for (const name of names) {
    stream.on(name, () => {
      counts[name] = (counts[name] ?? 0) + 1;
    });
  }
  return counts;
}

/**
 * Waits until no more descriptors are open than before. Fewer may be: of the clean pipes that the
 * engine keeps, one that ended with bytes in it is closed.
 */
export function descriptorsBack(before: number): Promise<void> {
  return until(() => openDescriptors() <= before, `of the descriptors ${before} are left`);
}
