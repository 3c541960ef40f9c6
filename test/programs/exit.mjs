// Ends, in the way of the second argument, when a transfer has reached the stage of the first.
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { transfer } from 'zerocopy';

const [, , stage, way, file] = process.argv;
const server = createServer((peer) => {
  peer.pause();
  if (stage === 'ended') peer.resume();
});
server.listen(0, '127.0.0.1');
await once(server, 'listening');
const sink = connect(server.address().port, '127.0.0.1');
if (stage !== 'connecting') await once(sink, 'connect');

const cold = stage === 'opening' ? '/proc/self/../self/status' : file;
const first = transfer(cold, sink);
const second = transfer([Buffer.alloc(300_000), { file }], sink);
first.catch(() => {});
second.catch(() => {});
if (stage === 'under-way') await new Promise((resolve) => setTimeout(resolve, 50));
if (stage === 'ended') await Promise.all([first, second]);

console.log('ready');
if (way === 'exit') process.exit(7);
if (way === 'throw') throw new Error('uncaught');
if (way === 'SIGTERM') process.kill(process.pid, 'SIGTERM');
if (way === 'destroy') {
  sink.destroy();
  server.close();
  for (const handle of process._getActiveHandles()) handle.destroy?.();
}
