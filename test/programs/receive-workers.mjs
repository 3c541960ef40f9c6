// Worker threads that are terminated while they transfer from sockets; then the main thread does so.
//   receive-workers.mjs TASK FOLDER COUNT
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';

const [, self, task, folder, count] = process.argv;
const descriptors = () => readdirSync('/proc/self/fd').length;

/** In a worker: two transfers that move for ever, one that is idle, one whose sink is stuck. */
async function work({ port, folder }) {
  const { transfer } = await import('zerocopy');
  const sockets = await Promise.all(
    Array.from({ length: 5 }, async () => {
      const socket = connect(port, '127.0.0.1');
      await once(socket, 'connect');
      socket.on('error', () => {});
      return socket;
    }),
  );
  const [one, two, idle, from, to] = sockets;
  for (const socket of [one, two, from]) socket.write('send');
  for (const [source, sink] of [
    [one, `${folder}/one`],
    [two, `${folder}/two`],
    [idle, `${folder}/idle`],
    [from, to],
  ]) {
    transfer(source, sink, { backend: 'native' }).catch(() => {});
  }
  setTimeout(() => parentPort.postMessage('under way'), 20);
}

async function main() {
  const peers = new Set();
  const chunk = Buffer.alloc(64 * 1024);
  // Sends to who asks for it, and never stops.
  const server = createServer((peer) => {
    peers.add(peer);
    peer.on('error', () => {}).on('close', () => peers.delete(peer));
    peer.once('data', () => {
      const send = () => {
        while (!peer.destroyed && peer.write(chunk));
      };
      peer.on('drain', send);
      send();
      peer.pause();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();

  const round = async () => {
    const worker = new Worker(self, { workerData: { port, folder } });
    worker.on('error', (error) => {
      console.error(error);
      process.exit(1);
    });
    await once(worker, 'message');
    await worker.terminate();
    for (const peer of peers) peer.destroy();
    const end = Date.now() + 5000;
    while (peers.size > 0 && Date.now() < end) await new Promise((then) => setTimeout(then, 5));
    await new Promise((then) => setTimeout(then, 20));
  };
  // 'terminate': the addon is in the main thread too. 'only': in workers alone.
  if (task === 'terminate') await import('zerocopy');
  await round();
  await round();
  const first = descriptors();
  for (let i = 2; i < Number(count); i++) await round();
  await new Promise((then) => setTimeout(then, 200));
  const grown = descriptors() - first;

  const { transfer } = await import('zerocopy');
  const source = connect(port, '127.0.0.1');
  source.write('send');
  const after = await transfer(source, `${folder}/after`, { length: 1_000_000, backend: 'native' });
  console.log(JSON.stringify({ grown, after }));
  process.exit();
}

if (isMainThread) await main();
else await work(workerData);
