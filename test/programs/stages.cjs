// Transfers of every kind, brought to a stage of their life: for programs that end there.
'use strict';

const { once } = require('node:events');
const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const { isMainThread } = require('node:worker_threads');

const MIB = 1024 * 1024;
const turn = () => new Promise((resolve) => setImmediate(resolve));
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Of all but what an engine has that has been started: it keeps these. */
function descriptors() {
  const isKept = (link) => link.startsWith('anon_inode:');
  const links = fs.readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return [fs.readlinkSync(`/proc/self/fd/${fd}`)];
    } catch {
      return []; // gone since
    }
  });
  return links.filter((link) => !isKept(link)).length;
}

/** Holds JavaScript up. */
function block(ms) {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

/** Until native code has let go of all that it had open: then a completion waits to be told. */
function blockUntilLetGo(before) {
  if (!isMainThread) return block(30); // the descriptors are those of all threads
  const end = Date.now() + 10_000;
  while (descriptors() > before) {
    if (Date.now() > end) throw new Error('Waited in vain until native code had let go');
    block(1);
  }
  block(5);
}

/** What ends one of them, and the sockets and descriptors that it has. */
class Life {
  constructor(place) {
    Object.assign(this, place);
    this.zerocopy = require('zerocopy');
    this.controller = new AbortController();
    this.sockets = [];
    this.fds = [];
  }

  /** A socket to one of the peers of test/helpers/peers.ts. */
  async connect(kind, stage) {
    const socket = net.connect(this.ports[kind], '127.0.0.1');
    socket.on('error', () => {});
    this.sockets.push(socket);
    if (stage !== 'connecting') await once(socket, 'connect');
    return socket;
  }

  /** A pipe that goes with it. */
  pipe() {
    const { readFd, writeFd } = this.zerocopy.pipeSync();
    this.fds.push(readFd, writeFd);
    return { readFd, writeFd };
  }

  open(file, flags) {
    const fd = fs.openSync(file, flags);
    this.fds.push(fd);
    return fd;
  }

  target() {
    Life.targets = (Life.targets ?? 0) + 1;
    return path.join(this.folder, `target-${Life.targets}`);
  }

  /** Has the peers that wait send something, and end. */
  async cue() {
    const socket = await this.connect('cue');
    socket.end();
    await once(socket, 'close');
  }

  /** Waits for what takes time to get under way. */
  async settle(stage, moved) {
    moved.catch(() => {});
    if (stage === 'ended') await moved;
    else if (!['opening', 'connecting', 'started', 'posted'].includes(stage)) await sleep(30);
  }

  /** Lets go of everything, so that nothing keeps the process alive. */
  finish() {
    this.controller.abort();
    for (const socket of this.sockets) socket.destroy();
    for (const fd of this.fds) fs.closeSync(fd);
    this.fds = [];
  }
}

const reachIn = {
  async send(stage, life) {
    const peers = { 'under-way': 'slow', warming: 'slow', posted: 'reads', ended: 'reads' };
    const sink = await life.connect(peers[stage] ?? 'stuck', stage);
    if (stage === 'queued') sink.write(Buffer.alloc(8 * MIB));
    const before = descriptors();
    // By another file system's links: the kernel's caches alone can't tell where that leads.
    const source = stage === 'opening' ? '/proc/self/../self/exe' : life.file;
    const { signal } = life.controller;
    const moved = life.zerocopy.transfer(source, sink, { signal });
    if (stage === 'posted') blockUntilLetGo(before + 1); // with the file, which JavaScript holds
    await life.settle(stage, moved);
  },

  async stream(stage, life) {
    const peers = { 'under-way': 'slow', warming: 'slow', posted: 'reads', ended: 'reads' };
    const sink = await life.connect(peers[stage] ?? 'stuck', stage);
    if (stage === 'queued') sink.write(Buffer.alloc(8 * MIB));
    const before = descriptors();
    const source = stage === 'opening' ? '/proc/self/../self/exe' : life.file;
    const stream = life.zerocopy.createReadStream(source);
    stream.on('error', () => {});
    stream.pipe(sink);
    if (stage === 'posted') {
      while (stream.bytesRead === 0) await turn();
      blockUntilLetGo(before + 1);
    }
    await life.settle(stage, stage === 'ended' ? once(stream, 'close') : Promise.resolve());
    life.sockets.push(stream);
  },

  async receive(stage, life) {
    const peers = { writing: 'sends', posted: 'waits', ended: 'sends' };
    const source = await life.connect(peers[stage] ?? 'reads', stage);
    const { signal } = life.controller;
    const length = stage === 'ended' ? 100_000 : undefined;
    const before = descriptors();
    const moved = life.zerocopy.transfer(source, life.target(), { signal, length });
    if (stage === 'posted') {
      await sleep(30);
      await life.cue();
      blockUntilLetGo(before + 1);
    }
    await life.settle(stage, moved);
  },

  async relay(stage, life) {
    const peers = { stuck: 'stuck', 'under-way': 'sends', posted: 'waits', ended: 'waits' };
    const kind = peers[stage] ?? 'reads';
    const a = await life.connect(stage === 'stuck' ? 'sends' : kind, stage);
    const b = await life.connect(stage === 'half-closed' ? 'ends' : kind, stage);
    const before = descriptors();
    const relayed = life.zerocopy.relay(a, b, { signal: life.controller.signal });
    if (stage === 'posted' || stage === 'ended') {
      await sleep(30);
      await life.cue();
    }
    if (stage === 'posted') blockUntilLetGo(before);
    await life.settle(stage, relayed);
  },

  copy: (stage, life) => copyBy(life.zerocopy.transfer, stage, life, 2),

  copyFile: (stage, life) => copyBy(life.zerocopy.copyFile, stage, life, 4),

  /** One after the other: it ends at any moment of starting one, and of hearing of one. */
  async many(stage, life) {
    const { transfer } = life.zerocopy;
    const { signal } = life.controller;
    const sinks = await Promise.all(Array.from({ length: 4 }, () => life.connect('reads')));
    const source = [Buffer.alloc(10), { file: life.file, length: 100_000 }, Buffer.alloc(10)];
    const go = (sink) =>
      transfer(source, sink, { signal }).then(
        () => go(sink),
        () => {},
      );
    for (const sink of [...sinks, ...sinks]) go(sink);
    await life.settle(stage, Promise.resolve());
  },

  async calls(stage, life) {
    const { zerocopy } = life;
    const blocked = life.pipe();
    const full = life.pipe();
    const target = life.open(life.target(), 'w');
    const before = descriptors();
    const quiet = (promise) => promise.catch(() => {});
    const wait = () => quiet(zerocopy.splice(blocked.readFd, null, full.writeFd, null, 1000));
    if (stage === 'started' || stage === 'waiting') wait();
    // More than native code has threads for them.
    if (stage === 'queued') for (let i = 0; i < 10; i++) wait();
    if (stage === 'writing') {
      const source = life.open(life.largeFile, 'r');
      quiet(zerocopy.copyFileRange(source, 0, target, 0, 1024 * MIB));
    }
    if (stage === 'posted' || stage === 'ended') {
      const source = life.open(life.file, 'r');
      const called = zerocopy.sendfile(target, source, 0, MIB);
      if (stage === 'posted') blockUntilLetGo(before + 1);
      else await called;
    }
    if (stage === 'waiting' || stage === 'queued') await sleep(30);
  },
};

/** `held`: how many descriptors JavaScript holds of such a copy. */
async function copyBy(copy, stage, life, held) {
  const { signal } = life.controller;
  const source = stage === 'ended' ? life.file : life.largeFile;
  const target = life.target();
  const before = descriptors();
  const copied = copy(source, target, { signal, backend: 'native' });
  copied.catch(() => {});
  if (stage === 'writing' || stage === 'posted') {
    while (!fs.statSync(target, { throwIfNoEntry: false })?.blocks) await turn();
  }
  if (stage === 'posted') blockUntilLetGo(before + held);
  if (stage === 'ended') await copied;
}

/** The stages that each kind of transfer comes to. `warming` needs what makes a file cold. */
const stagesOf = {
  send: [
    'opening',
    'connecting',
    'queued',
    'started',
    'waiting',
    'warming',
    'under-way',
    'posted',
    'ended',
  ],
  receive: ['opening', 'connecting', 'waiting', 'writing', 'posted', 'ended'],
  relay: ['connecting', 'idle', 'stuck', 'under-way', 'half-closed', 'posted', 'ended'],
  copy: ['opening', 'writing', 'posted', 'ended'],
  copyFile: ['opening', 'writing', 'posted', 'ended'],
  stream: ['opening', 'connecting', 'queued', 'waiting', 'warming', 'under-way', 'posted', 'ended'],
  many: ['under-way'],
  calls: ['queued', 'started', 'waiting', 'writing', 'posted', 'ended'],
};

/**
 * Brings a transfer to a stage; resolves with what ends it. `place`: ports of the peers, `folder` for
 * what is written, `file` and `largeFile` to read.
 */
async function reach(kind, stage, place) {
  const life = new Life(place);
  await reachIn[kind](stage, life);
  return life;
}

/** Ends this process, or this worker thread, here and now. */
function end(way, life) {
  if (way === 'exit') process.exit(7);
  if (way === 'throw') {
    process.nextTick(() => {
      throw new Error('uncaught');
    });
  }
  if (way === 'rejection') Promise.reject(new Error('uncaught'));
  if (way === 'SIGTERM' || way === 'SIGKILL') process.kill(process.pid, way);
  if (way === 'itself') life?.finish();
}

module.exports = { block, end, reach, stagesOf };
