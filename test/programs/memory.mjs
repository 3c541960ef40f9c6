// Transfers that need more memory than is to be had (RLIMIT_AS), each followed by one that needs none.
//   memory.mjs FOLDER
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { transfer } from 'zerocopy';
import { connection, receive } from './connection.mjs';
import { fileOf, kinds, pattern, settled } from './kinds.mjs';

const [, , folder] = process.argv;
const require = createRequire(import.meta.url);
const { setLimit } = require('../support/build/Release/support.node');
const { addon } = require('../../dist/native.js');

const MIB = 1024 * 1024;
/** What is left to the process: JavaScript goes on, and none of what is tried here fits. */
const SLACK = 96 * MIB;

function limit() {
  const used = /VmSize:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'latin1'))[1] * 1024;
  setLimit('as', used + SLACK);
}

/** Runs what asks for memory at once, and only that, under the limit. */
async function scarcely(run) {
  globalThis.gc();
  limit();
  const promise = settled(run());
  setLimit('as', -1);
  return await promise;
}

async function sockets() {
  const { sink, peer } = await connection();
  if (sink.connecting) await once(sink, 'connect');
  for (const socket of [sink, peer]) socket.on('error', () => {});
  return { sink, peer };
}

/** The same piece again and again: native code keeps a copy of each. */
const pieces = (count) => Array(count).fill(pattern(MIB / 4));

const tries = {
  'pieces of memory to a socket': async () => {
    const { sink, peer } = await sockets();
    const result = await scarcely(() => transfer(pieces(2048), sink));
    return { result, isGood: await isGood(sink, peer) };
  },
  'pieces of memory to a file': async () => {
    const sink = `${folder}/sink`;
    const promise = transfer(pieces(2048), sink); // which is opened on another thread
    limit();
    const result = await settled(promise);
    setLimit('as', -1);
    return { result, isGood: readFileSync(sink).length === 0 };
  },
  'a long list': async () => {
    const { sink, peer } = await sockets();
    const fd = sink._handle.fd;
    // Three numbers for each range; with the list's own JavaScript there would be no room for either.
    const list = new Array(6 * MIB).fill(0);
    const send = () =>
      new Promise((resolve) => addon.native.send({ fd, kind: 'socket' }, list, resolve));
    const { call, errno, value, outcome } = await scarcely(send);
    return { call: { call, errno, value, outcome }, isGood: await isGood(sink, peer) };
  },
  'what has been put back into a source': async () => {
    const [from, to] = [await sockets(), await sockets()];
    const head = Buffer.alloc(256 * MIB, 1);
    from.peer.pause();
    from.peer.unshift(head);
    from.sink.end('more');
    const result = await scarcely(() => transfer(from.peer, to.sink));
    from.sink.destroy();
    from.peer.destroy();
    return { result, isGood: await isGood(to.sink, to.peer) };
  },
};

/** Whether a connection is as good as before. */
async function isGood(sink, peer) {
  const received = receive(peer);
  const file = fileOf(folder, 500_000);
  await transfer(file, sink, { endSink: true, backend: 'native' });
  return (await received).equals(readFileSync(file));
}

// Everything has run once, and libuv's threads have.
for (const name of ['file to socket', 'socket to socket', 'file to file', 'list to socket'])
  await kinds[name](folder, {});
const report = {};
for (const [name, run] of Object.entries(tries)) report[name] = await run();
report.after = await kinds['file to socket'](folder, {});
console.log(JSON.stringify(report));
process.exit();
