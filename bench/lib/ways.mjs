// The ways of sending a file to a socket that trials compare.
import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { transfer } from 'zerocopy';

/** @typedef {'transfer' | 'pipe' | 'pipe-1m'} Way */

/**
 * Each sends a file, ends the socket, and resolves to the backend that was used when the kernel has
 * taken the last byte.
 * @type {Record<Way, (path: string, socket: import('node:net').Socket) => Promise<string>>}
 */
export const ways = {
  transfer: async (path, socket) => {
    const finished = once(socket, 'finish');
    const { backend } = await transfer(path, socket, { endSink: true });
    await finished;
    return backend;
  },
  pipe: (path, socket) => pipe(createReadStream(path), socket),
  'pipe-1m': (path, socket) => pipe(createReadStream(path, { highWaterMark: 1024 * 1024 }), socket),
};

async function pipe(stream, socket) {
  stream.pipe(socket);
  await once(socket, 'finish');
  return 'stream';
}
