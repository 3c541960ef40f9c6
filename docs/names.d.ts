// What the code of these pages uses and doesn't declare. The test that checks and runs it
// (test/docs.test.ts) has values for them.
import type * as http from 'node:http';
import type * as net from 'node:net';
import type * as streams from 'node:stream/promises';
import type * as library from 'zerocopy';

declare global {
  const { capabilities, constants, copyFile, createReadStream, pipe }: typeof library;
  const { relay, sendfile, splice, transfer, TransferError }: typeof library;
  type Fallback = library.Fallback;
  type Socket = net.Socket;
  const { createServer }: typeof http;
  const { connect }: typeof net;
  const { pipeline }: typeof streams;

  /** The other ends of these are somebody else's. */
  const socket: net.Socket;
  const upload: net.Socket;
  const client: net.Socket;
  const upstream: net.Socket;
  const server: http.Server;

  /** A path, and descriptors. */
  const file: string;
  const fileFd: number;
  const socketFd: number;

  const header: Uint8Array;
  const content: Uint8Array;
  const offset: number;
  const length: number;
  const signal: AbortSignal;
  const onProgress: (progress: library.Progress) => void;

  function readExactly(socket: net.Socket, length: number): Promise<Buffer>;
  function hostOf(request: http.IncomingMessage): string;
}
