// Transfers while no thread is to be had, or only some, and then while there are again.
//   threads.mjs FOLDER nproc N     a user's limit, with N threads to be had; no user but root's
//   threads.mjs FOLDER as          no address space for a stack; of the first transfer alone
//   threads.mjs FOLDER seccomp     clone(2) refused, for good
import { once } from 'node:events';
import { openSync, readdirSync, readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { capabilities, sendfile, transfer } from 'zerocopy';
import { connection, receive } from './connection.mjs';
import { fileOf, kinds, MANY, settled } from './kinds.mjs';

const [, , folder, way, count] = process.argv;
const { refuse, setLimit } = createRequire(import.meta.url)(
  '../support/build/Release/support.node',
);

const KINDS = ['tiny file to socket', 'file to socket', 'socket to file', 'file to file', 'relay'];
KINDS.push('createReadStream');
const MIB = 1024 * 1024;

const tasks = () => readdirSync('/proc/self/task');
const ours = () =>
  tasks()
    .map((id) => readFileSync(`/proc/self/task/${id}/comm`, 'latin1').trim())
    .filter((name) => name.startsWith('zerocopy'))
    .sort();

// libuv's own threads, without which it aborts.
await Promise.all(Array.from({ length: 8 }, () => readFile('/proc/self/comm')));

const report = { before: capabilities() };
if (way === 'as') {
  report.scarce = { first: await withoutAddressSpace() };
} else {
  if (way === 'nproc') setLimit('nproc', tasks().length + Number(count));
  else refuse('thread', 'EAGAIN');
  report.scarce = await everything();
}
report.scarce.capabilities = capabilities();
report.scarce.threads = ours();
setLimit('nproc', -1);
if (way !== 'seccomp') {
  report.free = await everything();
  report.free.capabilities = capabilities();
  report.free.threads = [...new Set(ours())];
}
console.log(JSON.stringify(report));

async function everything() {
  const results = {};
  for (const name of KINDS) results[name] = await kinds[name](folder, {});
  const { source, sink } = { source: openSync('/proc/self/exe'), sink: openSync('/dev/null', 'w') };
  return { kinds: results, call: await settled(sendfile(sink, source, 0, 10)) };
}

/** The call alone: what follows is JavaScript's, which needs some. */
async function withoutAddressSpace() {
  const file = fileOf(folder, MANY);
  const [first, second] = [await connection(), await connection()];
  if (second.sink.connecting) await once(second.sink, 'connect');
  // Everything has been called once, and its memory been had.
  await transfer(fileOf(folder, 1000), first.sink);
  const received = receive(second.peer);
  globalThis.gc();
  const used = /VmSize:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'latin1'))[1] * 1024;
  setLimit('as', used + MIB / 8);
  const promise = transfer(file, second.sink, { endSink: true });
  setLimit('as', -1);
  const result = await settled(promise);
  first.sink.destroy();
  second.sink.resume();
  return { ...result, right: (await received).equals(readFileSync(file)) };
}
