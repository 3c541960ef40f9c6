// The ways in which the server answers over a bare connection, line by line.
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import path from 'node:path';
import { copyFile, createReadStream, transfer } from 'zerocopy';
import { ended } from './counts.mjs';
import { soon } from './http-ways.mjs';

const PIECE_BYTES = 1000;
const MOST_LINE_BYTES = 200;

/** Until there may be something to read. */
function stirred(socket) {
  const events = ['readable', 'end', 'close'];
  return new Promise((resolve) => {
    const listener = () => {
      for (const event of events) socket.off(event, listener);
      resolve();
    };
    for (const event of events) socket.on(event, listener);
  });
}

/** The next line; undefined at the end. What is behind it stays in the socket. */
async function nextLine(socket) {
  let line = '';
  for (;;) {
    const chunk = socket.read();
    if (chunk === null) {
      if (socket.readableEnded || socket.destroyed) return undefined;
      await stirred(socket);
      continue;
    }
    const end = chunk.indexOf('\n');
    line += chunk.toString('latin1', 0, end < 0 ? chunk.length : end);
    if (line.length > MOST_LINE_BYTES) throw new Error('What a line');
    if (end < 0) continue;
    if (end + 1 < chunk.length) socket.unshift(chunk.subarray(end + 1));
    return line;
  }
}

const segment = (file, offset, length) => ({ file, offset, length });

/** Each sends a head and a range of a file. */
const ways = {
  gather: (socket, head, file, offset, length) => {
    const half = Math.floor(length / 2);
    const tail = segment(file, offset + half, length - half);
    return transfer([head, segment(file, offset, half), tail], socket);
  },
  plain: (socket, head, file, offset, length) => {
    socket.write(head);
    return transfer(file, socket, { offset, length });
  },
  pieces: (socket, head, file, offset, length) => {
    const list = [head];
    for (let at = 0; at < length; at += PIECE_BYTES)
      list.push(segment(file, offset + at, Math.min(PIECE_BYTES, length - at)));
    return transfer(list, socket);
  },
  stream: (socket, head, file, offset, length) => {
    socket.write(head);
    return transfer(file, socket, { offset, length, backend: 'stream' });
  },
  pipe: async (socket, head, file, offset, length) => {
    socket.write(head);
    if (length === 0) return { backend: 'none' };
    const stream = createReadStream(file, { start: offset, end: offset + length - 1 });
    stream.pipe(socket, { end: false });
    await once(stream, 'close');
    return stream;
  },
  /** Aborted any moment, and taken up again where it was, until all is sent. */
  resumed: async (socket, head, file, offset, length) => {
    socket.write(head);
    for (let sent = 0; ; ) {
      const controller = new AbortController();
      soon(5, () => controller.abort());
      const range = { offset: offset + sent, length: length - sent };
      try {
        return await transfer(file, socket, { ...range, signal: controller.signal });
      } catch (error) {
        if (error.code !== 'ABORT_ERR') throw error;
        sent += error.transferred;
      }
    }
  },
};

/** Each takes what comes from a socket into a file. */
const uploads = {
  upload: (socket, file, length) => transfer(socket, file, { length }),
  'upload-stream': (socket, file, length) => transfer(socket, file, { length, backend: 'stream' }),
  'upload-aborted': (socket, file, length) => {
    const controller = new AbortController();
    soon(20, () => controller.abort());
    const backend = Math.random() < 0.5 ? 'auto' : 'stream';
    return transfer(socket, file, { length, backend, signal: controller.signal });
  },
  /** The descriptor is closed at once, and its number a decoy's from then on. */
  'upload-descriptor': (socket, file, length, decoys) => {
    const fd = openSync(file, 'w');
    const arrived = transfer(socket, fd, { length });
    closeSync(fd);
    decoys.takeNumber();
    return arrived;
  },
};

async function serve(socket, line, { files, arrivals }, decoys) {
  const [way, name, ...numbers] = line.split(' ');
  const [offset = 0, length = 0] = numbers.map(Number);
  const source = path.join(files, name);
  if (way in uploads) {
    const sink = path.join(arrivals, name);
    const { transferred } = await ended(way, uploads[way](socket, sink, length, decoys));
    if (transferred < length) throw new Error('The client has gone');
    socket.write(`${name} ${length} 0\n`);
  } else if (way === 'copy') {
    const sink = path.join(arrivals, String(offset));
    const { transferred } = await ended(way, copyFile(source, sink));
    socket.write(`${name} ${transferred} 0\n`);
  } else {
    const head = Buffer.from(`${name} ${offset} ${length}\n`);
    await ended(`raw ${way}`, ways[way](socket, head, source, offset, length));
  }
}

/** Answers lines until there are no more. Rejects when something has failed. */
export async function converse(socket, settings, decoys) {
  for (;;) {
    const line = await nextLine(socket);
    if (line === undefined) return;
    await serve(socket, line, settings, decoys);
  }
}
