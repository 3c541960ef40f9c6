// Workers that are terminated while they relay: prints how many of the peers' connections were there, and closed.
import { once } from 'node:events';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { listening, peersAt, relayAt } from './relay-ends.mjs';

const WORKERS = 5;
const RELAYS = 10;

async function work({ stage, ports }) {
  const relays = Array.from({ length: RELAYS }, () => relayAt(stage, ...ports));
  await Promise.all(relays);
  parentPort.postMessage('under way');
}

async function main(stage) {
  let open = 0;
  let closed = 0;
  const server = (name) =>
    listening((peer) => {
      open += 1;
      peer.on('close', () => {
        closed += 1;
      });
      // Otherwise it would not notice.
      const looks = setInterval(() => peer.writableEnded || peer.write('?'), 20);
      peer.on('close', () => clearInterval(looks));
      peersAt[stage](peer, name);
      if (stage === 'idle' || stage === 'connecting') peer.resume();
    });
  const servers = [await server('a'), await server('b')];
  const ports = servers.map((server) => server.address().port);
  for (let i = 0; i < WORKERS; i++) {
    const worker = new Worker(process.argv[1], { workerData: { stage, ports } });
    await once(worker, 'message');
    await worker.terminate();
  }
  const end = Date.now() + 10_000;
  do await new Promise((resolve) => setTimeout(resolve, 100));
  while (closed < open && Date.now() < end);
  console.log(JSON.stringify({ open, closed }));
  process.exit();
}

if (isMainThread) await main(process.argv[2]);
else await work(workerData);
