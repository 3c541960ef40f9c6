// Worker threads: all on one engine. What to do is the first argument.
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';

const [, self, task = '', file = '', count = '1'] = process.argv;
const descriptors = () => readdirSync('/proc/self/fd').length;

/** In a worker: transfers to a port of the main thread's, or to one that never reads. */
async function work({ task, file, port }) {
  const { transfer } = await import('zerocopy');
  const sockets = [0, 1, 2, 3].map(() => connect(port, '127.0.0.1'));
  if (task === 'transfer') {
    const results = await Promise.all(
      sockets.map((socket) => transfer(file, socket, { endSink: true })),
    );
    parentPort.postMessage(results);
    for (const socket of sockets) socket.resume();
    return;
  }
  for (const socket of sockets) transfer(file, socket).catch(() => {});
  await Promise.all(sockets.map((socket) => once(socket, 'connect')));
  setTimeout(() => parentPort.postMessage('under way'), 10);
}

function startWorker(port) {
  const worker = new Worker(self, { workerData: { task, file, port } });
  worker.on('error', (error) => {
    console.error(error);
    process.exit(1);
  });
  return worker;
}

async function main() {
  const reads = task === 'transfer';
  let right = 0;
  const content = readFileSync(file);
  const server = createServer({ pauseOnConnect: !reads }, (peer) => {
    const chunks = [];
    peer.on('error', () => {});
    if (!reads) return;
    peer.on('data', (chunk) => chunks.push(chunk));
    peer.on('end', () => {
      if (Buffer.concat(chunks).equals(content)) right += 1;
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();

  if (task === 'transfer') {
    const workers = [0, 1, 2, 3].map(() => startWorker(port));
    const exits = Promise.all(workers.map((worker) => once(worker, 'exit')));
    const results = await Promise.all(workers.map((worker) => once(worker, 'message')));
    await exits;
    console.log(JSON.stringify({ right, backends: results.flat(2).map(({ backend }) => backend) }));
  } else {
    // 'terminate': the addon is in the main thread too. 'only': in workers alone.
    if (task === 'terminate') await import('zerocopy');
    let first;
    for (let i = 0; i < Number(count); i++) {
      const worker = startWorker(port);
      await once(worker, 'message');
      await worker.terminate();
      first ??= descriptors();
    }
    await new Promise((resolve) => setTimeout(resolve, 300));
    console.log(JSON.stringify({ grown: descriptors() - first }));
  }
  process.exit();
}

if (isMainThread) await main();
else await work(workerData);
