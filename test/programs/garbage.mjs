// Transfers of which nobody holds anything: promises, sockets, streams, FileHandles, signals; while
// garbage is collected between every two operations, and on a timer. Prints what came, and what of it
// all is still there when they are over.
//   garbage.mjs FILE FOLDER ROUNDS
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { copyFile, createReadStream, pipeSync, relay, splice, transfer } from 'zerocopy';

const [, , file, folder, rounds] = process.argv;
const content = readFileSync(file);
const collect = globalThis.gc ?? (() => {});

const counts = { whole: 0, wrong: 0, failed: 0, aborted: 0, copied: 0, called: 0 };
/** What must be gone in the end. */
const refs = {};
const watch = (name, object) => {
  refs[name] ??= [];
  refs[name].push(new WeakRef(object));
  return object;
};
const settles = (promise, name) =>
  watch('promise', promise).then(
    () => {
      if (name) counts[name] += 1;
    },
    ({ code }) => {
      counts[code === 'ABORT_ERR' ? 'aborted' : 'failed'] += 1;
    },
  );

/** Counts whose connections bring the whole file. */
const receiver = createServer((peer) => {
  const chunks = [];
  peer.on('data', (chunk) => chunks.push(chunk));
  peer.on('end', () => {
    counts[Buffer.concat(chunks).equals(content) ? 'whole' : 'wrong'] += 1;
  });
});
const sender = createServer((peer) => peer.end(content));
const stuck = createServer((peer) => {
  peer.pause();
  peer.on('error', () => {});
});
for (const server of [receiver, sender, stuck]) {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
}
const socketTo = async (server) => {
  const socket = watch('socket', connect(server.address().port, '127.0.0.1'));
  await once(socket, 'connect');
  return socket;
};
// One for all: it must not gather what it has been given to.
const shared = new AbortController().signal;

let targets = 0;
const target = () => join(folder, `target-${targets++}`);
/** What comes to a file that nobody tells of. */
const files = [];

const operations = [
  async () => {
    settles(transfer(file, await socketTo(receiver), { endSink: true, signal: shared }));
  },
  async () => {
    const handle = watch('FileHandle', await open(file));
    const sink = await socketTo(receiver);
    settles(transfer(handle, sink, { endSink: true }));
    await handle.close();
  },
  async () => {
    const source = watch(
      'stream',
      Readable.from([content.subarray(0, 1000), content.subarray(1000)]),
    );
    settles(transfer(source, await socketTo(receiver), { endSink: true }));
  },
  async () => {
    const list = [content.subarray(0, 5000), { file, offset: 5000 }];
    settles(transfer(watch('list', list), await socketTo(receiver), { endSink: true }));
  },
  async () => {
    watch('stream', createReadStream(file)).pipe(await socketTo(receiver));
  },
  async () => {
    files.push(target());
    settles(transfer(await socketTo(sender), files.at(-1)));
  },
  async () => {
    settles(relay(await socketTo(sender), await socketTo(receiver)));
  },
  async () => {
    files.push(target());
    settles(copyFile(file, files.at(-1), { signal: shared }), 'copied');
  },
  async () => {
    // Nobody but the transfer holds the signal, nor what would abort it.
    const signal = watch('signal', AbortSignal.timeout(50));
    const sink = await socketTo(stuck);
    const more = Array.from({ length: 32 }, () => ({ file }));
    settles(transfer(more, sink, { signal }).finally(() => sink.destroy()));
  },
  async () => {
    const { readFd, writeFd } = pipeSync();
    const inFd = openSync(file);
    const called = splice(inFd, 0, writeFd, null, 4096).then(() => {
      for (const fd of [readFd, writeFd, inFd]) closeSync(fd);
    });
    settles(called, 'called');
  },
];

const timer = setInterval(collect, 20);
for (let round = 0; round < Number(rounds); round++) {
  for (const operation of operations) {
    await operation();
    collect();
    await turn();
    collect();
  }
}
const wanted = Number(rounds);
const isOver = () =>
  counts.whole + counts.wrong >= 6 * wanted &&
  counts.aborted + counts.failed >= wanted &&
  counts.copied >= wanted &&
  counts.called >= wanted;
for (let i = 0; i < 1000 && !isOver(); i++) await sleep(10);
clearInterval(timer);
await sleep(200);
const filesRight = files.filter((name) => readFileSync(name).equals(content)).length;
for (const server of [receiver, sender, stuck]) server.close();

for (let i = 0; i < 5; i++) {
  await sleep(20);
  globalThis.gc?.();
}
const left = Object.fromEntries(
  Object.entries(refs).map(([name, all]) => [name, all.filter((ref) => ref.deref()).length]),
);
console.log(JSON.stringify({ counts, filesRight, left }));
