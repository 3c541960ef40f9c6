// The ways in which the server answers over HTTP.
import * as fs from 'node:fs';
import { closeSync, copyFileSync, openSync, statSync, truncateSync, unlinkSync } from 'node:fs';
import path from 'node:path';
import { pipeline } from 'node:stream';
import { createReadStream, transfer } from 'zerocopy';
import { count, counts, ended } from './counts.mjs';

/** Of what has been sent by then, pages keep what they had when a file loses all of them. */
const AFTER_TRUNCATION = 0;

const sizes = new Map();

function sizeOf(file) {
  if (!sizes.has(file)) sizes.set(file, statSync(file).size);
  return sizes.get(file);
}

/** Any moment of the next `ms`; 0 is now. */
export const soon = (ms, what) => {
  const delay = Math.random() * ms;
  return delay < 1 ? setImmediate(what) : setTimeout(what, delay);
};

/** @typedef {{ offset: number, length: number }} Range */

/** Counts how a stream ends. */
function streamed(way, stream, decoys) {
  counts.begun += 1;
  stream.once('close', () => {
    counts.ended += 1;
    count(`${way} ${stream.backend ?? 'none'}`);
    decoys.takeNumber();
  });
  return stream;
}

const bounds = ({ offset, length }) => ({ start: offset, end: offset + length - 1 });

/** Each sends a range of a file as the body of a response. */
const ways = {
  pipe: (file, range, response, { decoys }) =>
    streamed('pipe', createReadStream(file, bounds(range)), decoys).pipe(response),
  pipeline: (file, range, response, { decoys, signal }) => {
    const stream = streamed(
      'pipeline',
      createReadStream(file, { ...bounds(range), signal }),
      decoys,
    );
    pipeline(stream, response, () => {});
  },
  /** As people have it who change nothing. */
  fs: (file, range, response, { decoys }) =>
    streamed('fs', fs.createReadStream(file, bounds(range)), decoys).pipe(response),
  transfer: (file, range, response, { signal }) => transfer(file, response, { ...range, signal }),
  stream: (file, range, response, { signal }) =>
    transfer(file, response, { ...range, signal, backend: 'stream' }),
  gather: (file, { offset, length }, response, { signal }) => {
    const half = Math.floor(length / 2);
    const segments = [
      { file, offset, length: half },
      { file, offset: offset + half, length: 0 },
      { file, offset: offset + half, length: length - half },
    ];
    return transfer(segments, response, { signal });
  },
  /** The descriptor is closed at once, and its number a decoy's from then on. */
  descriptor: (file, range, response, { decoys, signal }) => {
    const fd = openSync(file, 'r');
    const sent = transfer(fd, response, { ...range, signal });
    closeSync(fd);
    decoys.takeNumber();
    return sent;
  },
  /** A copy of the file that loses all that it has, some time soon. */
  truncated: (file, range, response, { arrivals }) => {
    const copy = path.join(arrivals, `truncated-${counts.begun}`);
    copyFileSync(file, copy);
    const cut = new Promise((resolve) => {
      soon(20, () => {
        truncateSync(copy, AFTER_TRUNCATION);
        unlinkSync(copy);
        resolve();
      });
    });
    return transfer(copy, response, range).finally(() => cut);
  },
};

/** The same without Content-Length. */
const chunked = new Set(['chunked', 'chunked-transfer']);
ways.chunked = ways.pipe;
ways['chunked-transfer'] = ways.transfer;

/** Each takes the numbers of a range as they come: the library is to refuse what is none. */
const naiveWays = {
  pipe: (file, start, end, response) => createReadStream(file, { start, end }).pipe(response),
  transfer: (file, start, end, response) =>
    transfer(file, response, { offset: start, length: end - start + 1 }),
  gather: (file, start, end, response) =>
    transfer([{ file, offset: start, length: end - start + 1 }], response),
};

async function answerNaively(way, file, { searchParams }, response) {
  const [, first, last] = /^(.+)-(.+)$/.exec(searchParams.get('range'));
  try {
    await naiveWays[way](file, Number(first), Number(last), response);
  } catch (error) {
    count(`${way} ${error.code}`);
    response.writeHead(error instanceof RangeError ? 416 : 500).end();
  }
}

function rangeOf({ headers }, size) {
  const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(headers.range ?? '') ?? [];
  if (first === undefined) return { status: 200, offset: 0, length: size };
  return { status: 206, offset: Number(first), length: Number(last) - Number(first) + 1 };
}

/** `?abort=MS` aborts, `?die=MS` destroys the connection: any moment of the next MS milliseconds. */
function hurt({ searchParams }, { socket }) {
  const [abort, die] = ['abort', 'die'].map((name) => searchParams.get(name));
  if (die !== null) soon(Number(die), () => socket.destroy());
  const idle = searchParams.get('idle');
  if (idle !== null) socket.setTimeout(Number(idle), () => socket.destroy());
  if (abort === null) return undefined;
  const controller = new AbortController();
  soon(Number(abort), () => controller.abort());
  return controller.signal;
}

/** @param {import('./server.mjs').Settings} settings */
export function answer(request, response, { files, arrivals }, decoys) {
  const url = new URL(request.url, 'http://h');
  const [, way, mark] = url.pathname.split('/');
  if (request.method === 'PUT') return receive(request, response, path.join(arrivals, mark));
  const file = path.join(files, mark);
  if (way.startsWith('naive-')) return answerNaively(way.slice(6), file, url, response);
  const { status, offset, length } = rangeOf(request, sizeOf(file));
  const signal = hurt(url, request);
  response.writeHead(status, chunked.has(way) ? {} : { 'Content-Length': length });
  if (length === 0) return response.end();
  const sent = ways[way](file, { offset, length }, response, { signal, arrivals, decoys });
  if (!(sent instanceof Promise)) return;
  ended(way, sent).catch(() => response.destroy());
}

function receive(request, response, file) {
  ended('put', transfer(request, file)).then(
    () => response.writeHead(200, { 'Content-Length': 0 }).end(),
    () => response.destroy(),
  );
}
