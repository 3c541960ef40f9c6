// Tells what is in a worker thread: of a process with or without register (option of Node's), or with
// register by the worker's own options, or by an import there, as the second argument says.
import { once } from 'node:events';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';

if (isMainThread) {
  const [, self, file, way] = process.argv;
  const worker = new Worker(self, {
    workerData: { file, way },
    ...(way === 'option' && { execArgv: ['--import', 'zerocopy/register'] }),
  });
  const exit = once(worker, 'exit');
  const [told] = await once(worker, 'message');
  const [code] = await exit;
  console.log(JSON.stringify({ ...told, code }));
} else {
  if (workerData.way === 'import') await import('zerocopy/register');
  const { tell } = await import('./tell.mjs');
  parentPort.postMessage(await tell(workerData.file));
}
