// Transfers with fewer descriptors than they need: none to be had, then one, two, until all is well. So
// that each step of setting one up is the one that fails, once. Tells of each how it went, and then
// again without a limit, between the same ends where they are still good.
//   descriptors.mjs FOLDER
import { once } from 'node:events';
import { closeSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer, get } from 'node:http';
import { createRequire } from 'node:module';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { copyFile, createReadStream, pipe, pipeSync, relay, sendfile, transfer } from 'zerocopy';
import { connection } from './connection.mjs';
import { fileOf, MANY, pattern, settled } from './kinds.mjs';

const [, , folder] = process.argv;
const { setLimit } = createRequire(import.meta.url)('../support/build/Release/support.node');

const MOST = 12;
const content = pattern(MANY);
const file = fileOf(folder, MANY);

const descriptors = () => readdirSync('/proc/self/fd').map(Number);
const open = () => descriptors().length - 1; // without the one that lists them

/**
 * One use of the library, with all that it needs beside it at hand.
 * @typedef {object} Use
 * @property {() => Promise<object>} run
 * @property {() => Promise<Buffer>} arrived what has, once nothing more is on its way
 * @property {() => void} close
 * @property {boolean} [isOver] whether a failure leaves nothing to try again with
 * @property {boolean} [takes] whether the source has no longer what has been moved
 * @property {boolean} [resets] whether a failure resets its connections
 * @property {boolean} [isCall] whether no content is moved
 * @property {boolean} [startsEngine] which keeps descriptors of its own
 */

function destroy(...sockets) {
  for (const socket of sockets) socket.destroy();
}

function collect(stream) {
  const chunks = [];
  stream.on('data', (chunk) => chunks.push(chunk)).on('error', () => {});
  const ended = new Promise((resolve) => stream.once('close', resolve));
  return () => ended.then(() => Buffer.concat(chunks));
}

/** Two sockets, connected, of which one collects. */
async function socketSink() {
  const { sink, peer } = await connection();
  if (sink.connecting) await once(sink, 'connect');
  sink.on('error', () => {});
  sink.resume();
  const collected = collect(peer);
  const arrived = () => {
    sink.end();
    return collected();
  };
  return { sink, arrived, close: () => destroy(sink, peer) };
}

/** A socket that has the content for whoever reads it. */
async function socketSource() {
  const { sink: writer, peer: source } = await connection();
  for (const socket of [writer, source]) socket.on('error', () => {});
  writer.end(content);
  return { source, close: () => destroy(writer, source) };
}

async function pipeSource() {
  const { readFd, writeFd } = pipeSync();
  const source = new Socket({ fd: readFd, readable: true, writable: false });
  const writer = new Socket({ fd: writeFd, readable: false, writable: true });
  for (const socket of [writer, source]) socket.on('error', () => {});
  writer.end(content);
  return { source, close: () => destroy(writer, source) };
}

async function toSocket(source) {
  const { sink, arrived, close } = await socketSink();
  return { run: () => transfer(source, sink), arrived, close };
}

async function fromDescriptor() {
  const fd = openSync(file);
  const use = await toSocket(fd);
  const close = () => {
    use.close();
    closeSync(fd);
  };
  return { ...use, close };
}

async function through(makeSource) {
  const { source, close } = await makeSource();
  const use = await toSocket(source);
  const closeBoth = () => {
    use.close();
    close();
  };
  return { ...use, close: closeBoth, takes: true };
}

async function intoFile(makeSource) {
  const { source, close } = await makeSource();
  const sink = join(folder, 'sink');
  writeFileSync(sink, '');
  const run = () => transfer(source, sink, { sinkFlags: 'r+', sinkOffset: arrivedBefore });
  return { run, arrived: async () => readFileSync(sink), close, takes: true };
}

/** By the first of two attempts. */
let arrivedBefore = 0;

async function copy(make) {
  const sink = join(folder, 'copy');
  rmSync(sink, { force: true });
  const arrived = async () => {
    try {
      return readFileSync(sink);
    } catch {
      return Buffer.alloc(0);
    }
  };
  return { run: () => make(sink), arrived, close: () => {}, isOver: true };
}

async function relaying() {
  const [left, right] = [await connection(), await connection()];
  for (const { sink, peer } of [left, right]) {
    if (sink.connecting) await once(sink, 'connect');
    for (const socket of [sink, peer]) socket.on('error', () => {});
  }
  const arrived = collect(right.peer);
  left.sink.resume().end(content);
  const run = async () => {
    const result = relay(left.peer, right.sink);
    right.peer.end();
    const { aToB, ...rest } = await result;
    return { ...rest, transferred: aToB };
  };
  const close = () => destroy(left.sink, left.peer, right.sink, right.peer);
  return { run, arrived, close, isOver: true, resets: true };
}

async function serving() {
  const { promise: got, resolve } = withResolvers();
  const server = createServer((_request, response) => {
    response.setHeader('Content-Length', MANY);
    resolve(response);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const request = get({ port: server.address().port, host: '127.0.0.1', agent: false });
  request.on('error', () => {});
  const { promise: collected, resolve: hear } = withResolvers();
  request.on('response', (answer) => hear(collect(answer)));
  const response = await got;
  const run = () =>
    new Promise((resolve, reject) => {
      const stream = createReadStream(file);
      stream.on('error', (error) => {
        reject(Object.assign(error, { transferred: stream.bytesRead, backend: stream.backend }));
      });
      stream.on('close', () => {
        const { bytesRead: transferred, backend, fallback } = stream;
        resolve({ transferred, backend, fallback });
      });
      stream.pipe(response);
    });
  const close = () => {
    response.destroy();
    request.destroy();
    server.close();
  };
  const arrived = async () => (response.headersSent ? (await collected)() : Buffer.alloc(0));
  return { run, arrived, close };
}

async function call(make) {
  const fd = openSync(file);
  const sink = openSync('/dev/null', 'w');
  const run = async () => {
    const result = await make(sink, fd);
    if (result.readFd !== undefined) for (const end of Object.values(result)) closeSync(end);
    return {};
  };
  const close = () => {
    closeSync(fd);
    closeSync(sink);
  };
  return { run, arrived: async () => Buffer.alloc(0), close, isCall: true };
}

function withResolvers() {
  let resolve;
  const promise = new Promise((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

/** @type {Record<string, () => Promise<Use>>} */
const uses = {
  // Which starts the engine, when it can.
  first: async () => ({ ...(await toSocket(file)), isOver: true, startsEngine: true }),
  'path to socket': () => toSocket(file),
  'descriptor to socket': fromDescriptor,
  'list of two files to socket': () => toSocket([{ file, length: 2_000_000 }, { file: other() }]),
  'socket to socket': () => through(socketSource),
  'socket to file': () => intoFile(socketSource),
  'pipe to socket': () => through(pipeSource),
  'pipe to file': () => intoFile(pipeSource),
  'file to file': () => copy((sink) => transfer(file, sink)),
  copyFile: () => copy((sink) => copyFile(file, sink)),
  relay: relaying,
  createReadStream: serving,
  'pipe()': () => call(() => pipe()),
  'sendfile()': () => call((sink, fd) => sendfile(sink, fd, 0, 10)),
};

/** What is missing of the content after the first two million bytes. */
function other() {
  const rest = join(folder, 'rest');
  writeFileSync(rest, content.subarray(2_000_000));
  return rest;
}

/** Takes the free numbers below the highest: the limit is one of numbers. */
function fillGaps() {
  const fillers = [];
  for (;;) {
    const highest = Math.max(...descriptors());
    const fd = openSync('/dev/null');
    fillers.push(fd);
    if (fd >= highest) return { fillers, next: fd + 1 };
  }
}

/** @param {() => Promise<Use>} prepare @param {number} count how many descriptors are to be had */
async function attempt(prepare, count) {
  const before = open();
  const use = await prepare();
  await quiet();
  const { fillers, next } = fillGaps();
  arrivedBefore = 0;
  setLimit('nofile', next + count);
  const result = await settled(use.run());
  setLimit('nofile', -1);
  for (const fd of fillers) closeSync(fd);
  const { error, transferred = 0, residual = 0 } = result;
  arrivedBefore = transferred;
  const again = error && !use.isOver ? await settled(use.run()) : undefined;
  const arrived = await use.arrived();
  // What an error hands back has not arrived, nor is it in the source any more.
  const rest = content.subarray(use.takes ? transferred + residual : 0);
  const expected = [content.subarray(0, transferred), ...(again ? [rest] : [])];
  const whole = Buffer.concat(expected);
  // A reset takes what the peer had still to read.
  const mayHave = error && use.resets ? whole.subarray(0, arrived.length) : whole;
  const right = use.isCall || mayHave.equals(arrived);
  use.close();
  const kept = use.startsEngine && hasOneMore(result) ? 1 : 0;
  const leaked = await until(
    () => open() <= before + kept,
    () => open() - before - kept,
  );
  return { ...result, again, right, leaked };
}

/** The engine keeps its epoll, and then its eventfd; an attempt that fails keeps what it has made. */
function hasOneMore({ error, fallback }) {
  return !error && fallback?.message !== 'epoll_create1 EMFILE';
}

/** All that Node opens for itself has been opened. */
async function quiet() {
  await readFile('/proc/self/comm');
  await new Promise((resolve) => setImmediate(resolve));
}

async function until(condition, otherwise) {
  const end = Date.now() + 10_000;
  while (!condition()) {
    if (Date.now() > end) return otherwise();
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  return 0;
}

const { close } = await socketSink(); // Node keeps a descriptor, from the first server on
close();

const report = {};
for (const [name, prepare] of Object.entries(uses)) {
  report[name] = [];
  for (let count = 0; count < MOST; count++) {
    const result = await attempt(prepare, count);
    report[name].push(result);
    if (!result.error && !result.fallback) break;
  }
}
console.log(JSON.stringify(report));
