// Worker threads that transfer a file at once, all on one engine.
//   workers.mjs FILE
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';

async function work({ file, port }) {
  const { transfer } = await import('zerocopy');
  const sockets = [0, 1, 2, 3].map(() => connect(port, '127.0.0.1'));
  const results = await Promise.all(
    sockets.map((socket) => transfer(file, socket, { endSink: true })),
  );
  parentPort.postMessage(results);
  for (const socket of sockets) socket.resume();
}

async function main(self, file) {
  let right = 0;
  const content = readFileSync(file);
  const server = createServer((peer) => {
    const chunks = [];
    peer.on('data', (chunk) => chunks.push(chunk));
    peer.on('end', () => {
      if (Buffer.concat(chunks).equals(content)) right += 1;
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  const workers = [0, 1, 2, 3].map(() => new Worker(self, { workerData: { file, port } }));
  const exits = Promise.all(workers.map((worker) => once(worker, 'exit')));
  const results = await Promise.all(workers.map((worker) => once(worker, 'message')));
  await exits;
  server.close();
  console.log(JSON.stringify({ right, backends: results.flat(2).map(({ backend }) => backend) }));
}

if (isMainThread) await main(process.argv[1], process.argv[2]);
else await work(workerData);
