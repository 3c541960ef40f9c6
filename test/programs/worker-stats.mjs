// What stats() and the tracing channel know in the main thread and in a worker of the same process.
//   worker-stats.mjs FILE FOLDER
import { tracingChannel } from 'node:diagnostics_channel';
import { once } from 'node:events';
import * as path from 'node:path';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { copyFile, stats } from 'zerocopy';

let traced = 0;
tracingChannel('zerocopy:transfer').subscribe({
  asyncEnd: () => {
    traced += 1;
  },
});

const told = () => ({ ...stats(), traced });

/** As many copies as it says; resolves when all of them have ended. */
async function copies(count, { file, folder, name }) {
  for (let i = 0; i < count; i++) await copyFile(file, path.join(folder, `${name}-${i}`));
}

async function work() {
  await copies(2, { ...workerData, name: 'worker' });
  parentPort.postMessage(told());
}

async function main(self, file, folder) {
  await copies(1, { file, folder, name: 'main' });
  const worker = new Worker(self, { workerData: { file, folder } });
  const exited = once(worker, 'exit');
  const [inWorker] = await once(worker, 'message');
  await exited;
  console.log(JSON.stringify({ main: told(), worker: inWorker }));
}

if (isMainThread) await main(...process.argv.slice(1));
else await work();
