// A transfer of each kind: between files, sockets and pipes, as a copy, a relay, an answer over HTTP.
// Each tells how it went, and whether what arrived is what was sent.
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer, get } from 'node:http';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { copyFile, createReadStream, pipeSync, relay, transfer } from 'zerocopy';
import { connection, receive } from './connection.mjs';

export const MANY = 3_000_001;

/** Bytes that differ at every offset of interest. @param {number} length */
export function pattern(length) {
  const words = new Uint32Array(Math.ceil(length / 4));
  for (let i = 0, state = 1; i < words.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    words[i] = state;
  }
  return Buffer.from(words.buffer, 0, length);
}

const content = pattern(MANY);

/** A file with the first `length` bytes of it. */
export function fileOf(folder, length) {
  const file = join(folder, `${length}-bytes`);
  writeFileSync(file, content.subarray(0, length));
  return file;
}

async function toSocket(source, expected, options) {
  const { sink, peer } = await connection();
  const received = receive(peer);
  sink.on('error', () => {});
  const result = await settled(transfer(source, sink, options));
  source.destroy?.(); // which a transfer that fails leaves to the caller
  sink.end();
  sink.resume();
  return { ...result, right: isPart(await received, expected, result) };
}

async function toFile(source, folder, options) {
  const target = join(folder, 'target');
  const result = await settled(transfer(source, target, options));
  source.destroy?.();
  return { ...result, right: isPart(readIfThere(target), content, result) };
}

/** What a socket brings. */
async function fromSocket() {
  const { sink: source, peer } = await connection();
  source.on('error', () => {});
  peer.on('error', () => {});
  peer.end(content);
  return source;
}

/** Both ends of a pipe, as Node's sockets. */
function pipeEnds() {
  const { readFd, writeFd } = pipeSync();
  const source = new Socket({ fd: readFd, readable: true, writable: false });
  const sink = new Socket({ fd: writeFd, readable: false, writable: true });
  for (const end of [source, sink]) end.on('error', () => {});
  return { source, sink };
}

async function fromPipe() {
  const { source, sink } = pipeEnds();
  sink.end(content);
  return source;
}

async function toPipe(file, options) {
  const { source, sink } = pipeEnds();
  const received = receive(source);
  const result = await settled(transfer(file, sink, options));
  sink.end();
  return { ...result, right: isPart(await received, content, result) };
}

async function whole(folder, options) {
  const target = join(folder, 'copy');
  const result = await settled(copyFile(fileOf(folder, MANY), target, options));
  return { ...result, right: isPart(readIfThere(target), content, result) };
}

async function relayed(options) {
  const [left, right] = [await connection(), await connection()];
  for (const { sink, peer } of [left, right])
    for (const end of [sink, peer]) end.on('error', () => {});
  const back = content.subarray(0, 100_000);
  const result = settled(relay(left.peer, right.sink, options));
  left.sink.end(content);
  right.peer.end(back);
  // One that fails resets both.
  const arrived = await Promise.allSettled([receive(right.peer), receive(left.sink)]);
  const { aToB, bToA, ...rest } = await result;
  if (rest.error) return { ...rest, right: true };
  const [there, here] = arrived.map(({ value }) => value);
  const isRight = there.equals(content) && here.equals(back) && bToA === back.length;
  return { ...rest, transferred: aToB, right: isRight };
}

async function answer(file) {
  let stream;
  const server = createServer((_request, response) => {
    response.setHeader('Content-Length', MANY);
    stream = createReadStream(file);
    stream.pipe(response);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const request = get({ port: server.address().port, host: '127.0.0.1', agent: false });
  const [response] = await once(request, 'response');
  const bytes = await receive(response);
  server.close();
  // Later, or by now.
  if (!stream.closed) await once(stream, 'close');
  const { bytesRead, backend, fallback } = stream;
  return { transferred: bytesRead, backend, fallback, right: bytes.equals(content) };
}

/** @type {Record<string, (folder: string, options: object) => Promise<object>>} */
export const kinds = {
  'tiny file to socket': (folder, options) =>
    toSocket(fileOf(folder, 1000), content.subarray(0, 1000), options),
  'short file to socket': (folder, options) =>
    toSocket(fileOf(folder, 40_000), content.subarray(0, 40_000), options),
  'file to socket': (folder, options) => toSocket(fileOf(folder, MANY), content, options),
  'list to socket': (folder, options) => {
    const file = fileOf(folder, MANY);
    const list = [content.subarray(0, 1000), { file, offset: 1000, length: 2_000_000 }];
    list.push(content.subarray(2_001_000));
    return toSocket(list, content, options);
  },
  'file to pipe': (folder, options) => toPipe(fileOf(folder, MANY), options),
  'socket to socket': async (_folder, options) => toSocket(await fromSocket(), content, options),
  'socket to file': async (folder, options) => toFile(await fromSocket(), folder, options),
  'pipe to socket': async (_folder, options) => toSocket(await fromPipe(), content, options),
  'pipe to file': async (folder, options) => toFile(await fromPipe(), folder, options),
  'file to file': (folder, options) => toFile(fileOf(folder, MANY), folder, options),
  copyFile: whole,
  relay: (_folder, options) => relayed(options),
  createReadStream: (folder) => answer(fileOf(folder, MANY)),
};

/** How a promise of the library ended; of an error what callers are told to look at. */
export function settled(promise) {
  return promise.then(
    (result) => result,
    ({ name, code, syscall, transferred, backend, residual, message }) => ({
      error: { name, code, syscall, message },
      transferred,
      backend,
      residual: residual?.length,
    }),
  );
}

/** Whether what arrived is what a transfer says has gone: all of it, unless it failed. */
function isPart(bytes, expected, { transferred, error }) {
  if (!error && transferred !== expected.length) return false;
  return bytes.equals(expected.subarray(0, transferred));
}

function readIfThere(file) {
  try {
    return readFileSync(file);
  } catch {
    return Buffer.alloc(0);
  }
}
