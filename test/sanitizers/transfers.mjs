// Thousands of transfers of every kind, of which half fail or are aborted. Prints how they ended.
//   transfers.mjs FOLDER ROUNDS
import { once } from 'node:events';
import { closeSync, ftruncateSync, openSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import {
  copyFile,
  copyFileRange,
  createReadStream,
  pipeSync,
  relay,
  sendfile,
  splice,
  transfer,
} from 'zerocopy';

const [, , folder, rounds] = process.argv;
const MIB = 1024 * 1024;
const file = join(folder, 'file');
const target = join(folder, 'target');
writeFileSync(file, Buffer.alloc(MIB, 'transferred'));
const large = Array.from({ length: 16 }, () => ({ file }));

const counts = {};
const settled = (name, promise) =>
  promise
    .then(
      ({ backend } = {}) => backend ?? 'done',
      ({ code, residual }) => `${code}${residual ? ' with a rest' : ''}`,
    )
    .then((how) => {
      const key = `${name}: ${how}`;
      counts[key] = (counts[key] ?? 0) + 1;
    });

/** The servers' ends: those that read nothing wouldn't see that the others have gone. */
const peers = new Set();

async function listen(use) {
  const server = createServer((peer) => {
    peers.add(peer.on('error', () => {}));
    use(peer);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}
const reads = await listen((peer) => peer.resume());
const stuck = await listen((peer) => peer.pause());
const sends = await listen((peer) => peer.resume().end(Buffer.alloc(300_000)));
const endless = await listen((peer) => {
  const more = () => {
    while (!peer.destroyed && peer.write(Buffer.alloc(64 * 1024)));
  };
  peer.on('drain', more).resume();
  more();
});
const resets = await listen((peer) => peer.once('data', () => peer.resetAndDestroy()));

async function to(server, use) {
  const socket = connect(server.address().port, '127.0.0.1');
  socket.on('error', () => {});
  await once(socket, 'connect');
  try {
    await use(socket);
  } finally {
    socket.destroy();
  }
}

/** What is aborted or destroyed as soon as it is under way. */
const soon = (what) => setTimeout(what, 2);

const kinds = {
  short: (name) => to(reads, (sink) => settled(name, transfer(file, sink, { length: 5000 }))),
  long: (name) => to(reads, (sink) => settled(name, transfer(file, sink))),
  list: (name) =>
    to(reads, (sink) =>
      settled(name, transfer([Buffer.alloc(100), { file }, Buffer.alloc(300_000)], sink)),
    ),
  stream: (name) =>
    to(reads, (sink) =>
      settled(
        name,
        once(
          createReadStream(file)
            .on('end', () => sink.end())
            .pipe(sink),
          'finish',
        ),
      ),
    ),
  receive: (name) => to(sends, (source) => settled(name, transfer(source, target))),
  pass: (name) => to(sends, (source) => to(reads, (sink) => settled(name, transfer(source, sink)))),
  relay: (name) => to(sends, (a) => to(sends, (b) => settled(name, relay(a, b)))),
  copyFile: (name) => settled(name, copyFile(file, target)),
  calls: async (name) => {
    const { readFd, writeFd } = pipeSync();
    const fds = [readFd, writeFd, openSync(file), openSync(target, 'w')];
    const [, , inFd, outFd] = fds;
    await settled(name, sendfile(outFd, inFd, 0, 1000));
    await settled(name, splice(inFd, 0, writeFd, null, 1000));
    await settled(name, copyFileRange(inFd, 0, outFd, 0, 1000));
    await settled(name, copyFileRange(outFd, 0, inFd, 0, 1000));
    for (const fd of fds) closeSync(fd);
  },
  'no source': (name) => to(reads, (sink) => settled(name, transfer(join(folder, 'none'), sink))),
  'a source that shrinks': (name) =>
    to(reads, async (sink) => {
      const shrinking = join(folder, 'shrinking');
      writeFileSync(shrinking, Buffer.alloc(MIB));
      const fd = openSync(shrinking, 'r+');
      const parts = Array.from({ length: 16 }, () => ({ file: fd }));
      const moved = settled(name, transfer(parts, sink));
      ftruncateSync(fd, 0);
      await moved;
      closeSync(fd);
    }),
  'a sink that resets': (name) => to(resets, (sink) => settled(name, transfer(large, sink))),
  'aborted to a socket': (name) =>
    to(stuck, async (sink) => {
      const controller = new AbortController();
      soon(() => controller.abort());
      await settled(name, transfer(large, sink, { signal: controller.signal }));
    }),
  'aborted to a file': (name) =>
    to(endless, async (source) => {
      const controller = new AbortController();
      soon(() => controller.abort());
      await settled(name, transfer(source, target, { signal: controller.signal }));
    }),
  'aborted with bytes on their way': (name) =>
    to(endless, (source) =>
      to(stuck, async (sink) => {
        const controller = new AbortController();
        setTimeout(() => controller.abort(), 30);
        await settled(name, transfer(source, sink, { signal: controller.signal }));
      }),
    ),
  'destroyed under it': (name) =>
    to(stuck, async (sink) => {
      soon(() => sink.destroy());
      await settled(name, transfer(large, sink));
    }),
  'a relay that is reset': (name) =>
    to(endless, (a) =>
      to(stuck, async (b) => {
        soon(() => b.destroy());
        await settled(name, relay(a, b));
      }),
    ),
  'aborted copyFile': async (name) => {
    const controller = new AbortController();
    setImmediate(() => controller.abort());
    await settled(name, copyFile(file, target, { signal: controller.signal }));
  },
};

for (let round = 0; round < Number(rounds); round++) {
  await Promise.all(Object.entries(kinds).map(([name, start]) => start(name)));
  for (const peer of peers) peer.destroy();
  peers.clear();
}
for (const server of [reads, stuck, sends, endless, resets]) server.close();
console.log(JSON.stringify(counts, undefined, 2));
