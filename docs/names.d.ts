// What the code of these pages uses and doesn't declare. The test that checks and runs it
// (test/docs.test.ts) has values for them.
import type * as http from 'node:http';
import type * as net from 'node:net';
import type * as streams from 'node:stream/promises';
import type * as library from 'zerocopy';

declare global {
  const capabilities: typeof library.capabilities;
  const constants: typeof library.constants;
  const copyFile: typeof library.copyFile;
  const createReadStream: typeof library.createReadStream;
  const pipe: typeof library.pipe;
  const relay: typeof library.relay;
  const sendfile: typeof library.sendfile;
  const splice: typeof library.splice;
  const transfer: typeof library.transfer;
  const TransferError: typeof library.TransferError;
  type Fallback = library.Fallback;
  type Socket = net.Socket;
  const connect: typeof net.connect;
  const createServer: typeof http.createServer;
  const pipeline: typeof streams.pipeline;

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
