// Ends, in the way of the second argument, in the middle of a copy.
//   copy-exit.mjs transfer|copyFile WAY SOURCE SINK
import { statSync } from 'node:fs';
import { copyFile, transfer } from 'zerocopy';

const [, , name, way, source, sink] = process.argv;
const copy = name === 'copyFile' ? copyFile : transfer;
const copied = copy(source, sink, { backend: 'native' });
if (way !== 'itself') {
  copied.catch(() => {});
  while (!statSync(sink, { throwIfNoEntry: false })?.blocks) {
    await new Promise((resolve) => setImmediate(resolve));
  }
}
console.log('ready');
if (way === 'exit') process.exit(7);
if (way === 'throw') throw new Error('uncaught');
if (way === 'SIGTERM') process.kill(process.pid, 'SIGTERM');
