// The ways of sending a file to a socket that trials compare.
import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { createReadStream as createZerocopyStream, transfer } from 'zerocopy';

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

/**
 * The same over a connection that stays open, after which another file may follow. Each resolves when
 * the socket has taken the last byte.
 * @type {Record<'transfer' | 'pipe' | 'zerocopy', (path: string, socket: import('node:net').Socket) =>
 *   Promise<string>>}
 */
export const waysKeptOpen = {
  transfer: async (path, socket) => (await transfer(path, socket)).backend,
  pipe: (path, socket) => pipeKeptOpen(createReadStream(path), socket),
  zerocopy: (path, socket) => pipeKeptOpen(createZerocopyStream(path), socket),
};

function pipeKeptOpen(stream, socket) {
  return new Promise((resolve, reject) => {
    stream
      .on('error', reject)
      .on('end', () => socket.write('', () => resolve(stream.backend ?? 'stream')))
      .pipe(socket, { end: false });
  });
}

async function pipe(stream, socket) {
  stream.pipe(socket);
  await once(socket, 'finish');
  return 'stream';
}
