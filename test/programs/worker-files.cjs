// What a worker thread opens, in every way, and what is left of it: prints how many descriptors more
// there are after each worker, and how many of the main thread's own it has closed.
//   worker-files.cjs FIFO BACKEND
'use strict';

const { execFile } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const net = require('node:net');
const { setTimeout } = require('node:timers/promises');
const { promisify } = require('node:util');
const { isMainThread, parentPort, Worker, workerData } = require('node:worker_threads');

const readFiles = {
  /** The kernel's caches alone can't tell where it leads: Node opens it. */
  'opened by Node': '/proc/self/../self/exe',
  'opened by native code': __filename,
  'a device': '/dev/zero',
  'a directory': '/proc',
  'a FIFO': workerData?.fifo,
};

async function send(source, backend) {
  const { transfer } = require('zerocopy');
  const server = net.createServer((peer) => peer.resume()).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const sink = net.connect(server.address().port, '127.0.0.1');
  await once(sink, 'connect');
  await transfer(source, sink, { length: 100_000, backend }).catch(() => {});
  sink.destroy();
  server.close();
}

async function work({ task, reuse, backend }) {
  if (task === 'a pipe') {
    const { readFd, writeFd } = require('zerocopy').pipeSync();
    fs.writeSync(writeFd, 'through');
    if (fs.readSync(readFd, Buffer.alloc(7)) !== 7) throw new Error('not a pipe');
    fs.closeSync(readFd);
    fs.closeSync(writeFd);
  } else if (task === 'a pipe, left open') {
    require('zerocopy').pipeSync();
  } else {
    await send(readFiles[task], backend);
  }
  if (reuse) {
    // Node warns of a number that it takes to be open still.
    const fds = Array.from({ length: 10 }, () => fs.openSync('/dev/null'));
    for (const fd of fds) fs.closeSync(fd);
  }
  parentPort.postMessage('done');
  await once(parentPort, 'message');
  parentPort.close();
}

async function look(task, fifo, backend, reuse) {
  const descriptors = () => fs.readdirSync('/proc/self/fd').length;
  const before = descriptors();
  const worker = new Worker(__filename, { workerData: { task, fifo, backend, reuse } });
  const done = once(worker, 'message');
  if (task === 'a FIFO') await promisify(execFile)('sh', ['-c', `echo through > ${fifo}`]);
  await done;
  // They have numbers that the worker had.
  const own = Array.from({ length: 30 }, () => fs.openSync('/dev/null'));
  worker.postMessage('end');
  await once(worker, 'exit');
  let closed = 0;
  for (const fd of own) {
    try {
      fs.closeSync(fd);
    } catch {
      closed += 1;
    }
  }
  return { grown: await settled(() => descriptors() - before), closed };
}

/** What is left: a descriptor may be somebody's in passing. */
async function settled(grown) {
  for (let tries = 0; tries < 100 && grown() !== 0; tries += 1) await setTimeout(10);
  return grown();
}

async function main(fifo, backend) {
  // What is made once: the engine's own, libuv's for the child.
  await look('opened by Node');
  await look('a FIFO', fifo, backend);
  const report = {};
  for (const task of [...Object.keys(readFiles), 'a pipe', 'a pipe, left open']) {
    report[task] = [];
    for (const reuse of [true, false]) report[task].push(await look(task, fifo, backend, reuse));
  }
  console.log(JSON.stringify(report));
}

if (isMainThread) main(process.argv[2], process.argv[3]);
else work(workerData);
