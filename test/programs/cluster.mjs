// Servers of a file, one cluster: workers are killed and restarted under load.
//   cluster.mjs rr|none FILE
// The primary prints the ports, then a line for each worker that it has replaced, and at last what was
// said of transfers. It replaces one for each line on its stdin, as that says, and ends with it.
import cluster from 'node:cluster';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';

const [, , policy, file] = process.argv;
const WORKERS = 3;

async function work() {
  const { createReadStream, transfer } = await import('zerocopy');
  const tell = (backend) => process.connected && process.send({ backend });
  const server = createHttpServer(async (request, response) => {
    if (request.url === '/stream') {
      const stream = createReadStream(file);
      stream.on('close', () => tell(stream.backend)).pipe(response);
    } else {
      const { backend } = await transfer(file, response).catch(() => ({}));
      if (backend) tell(backend);
    }
  });
  // Connections that the primary has accepted.
  process.on('message', (_, socket) => {
    socket?.on('error', () => {});
    if (socket) transfer(file, socket, { endSink: true }).catch(() => {});
  });
  server.listen(0, '127.0.0.1', () => process.send({ port: server.address().port }));
}

async function lead() {
  cluster.schedulingPolicy = policy === 'rr' ? cluster.SCHED_RR : cluster.SCHED_NONE;
  const backends = {};
  let port;
  const start = async () => {
    const worker = cluster.fork();
    worker.on('message', (message) => {
      port ??= message.port;
      if (message.backend) backends[message.backend] = (backends[message.backend] ?? 0) + 1;
    });
    await once(worker, 'message');
    return worker;
  };
  const workers = await Promise.all(Array.from({ length: WORKERS }, start));
  let turn = 0;
  const passing = createServer({ pauseOnConnect: true }, (socket) => {
    socket.on('error', () => {});
    turn += 1;
    workers[turn % WORKERS].send('connection', socket, (error) => error && socket.destroy());
  });
  passing.listen(0, '127.0.0.1');
  await once(passing, 'listening');
  const descriptors = () => readdirSync('/proc/self/fd').length;
  const before = descriptors();
  console.log(JSON.stringify({ port, passing: passing.address().port }));

  let replaced = 0;
  for await (const way of createInterface({ input: process.stdin })) {
    const number = replaced % WORKERS;
    const worker = workers[number];
    const gone = once(worker, 'exit');
    if (way === 'disconnect') worker.disconnect();
    else worker.process.kill(way);
    workers[number] = await start();
    await gone;
    replaced += 1;
    console.log('replaced');
  }
  passing.close();
  // Sockets that a worker was killed before it had.
  await new Promise((resolve) => setTimeout(resolve, 200));
  console.log(JSON.stringify({ backends, grown: descriptors() - before }));
  cluster.disconnect();
}

if (cluster.isPrimary) await lead();
else await work();
