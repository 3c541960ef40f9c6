// Handles passed to a child process while transfers are under way in this one: a server, connections,
// and one in mid-transfer. Prints what came of them.
//   fork-handles.mjs FILE BACKEND
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { transfer } from 'zerocopy';

const [, self, file, backend, role] = process.argv;

/** But for stdio and a child's channel. */
const sockets = () =>
  readdirSync('/proc/self/fd').filter((fd) => {
    try {
      if (Number(fd) <= 3) return false;
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith('socket:');
    } catch {
      return false;
    }
  }).length;

function child() {
  process.send({ inherited: sockets() });
  const serve = async (socket) => {
    const { backend: way } = await transfer(file, socket, { backend, endSink: true });
    process.send({ way });
  };
  let server;
  process.on('message', (message, handle) => {
    if (message === 'server') {
      server = handle.on('connection', serve);
      process.send({ serving: true });
    }
    if (message === 'connection') serve(handle);
    if (message === 'in mid-transfer') handle.end();
    if (message === 'end') {
      server.close();
      process.disconnect();
    }
  });
}

async function received(socket) {
  const chunks = [];
  for await (const chunk of socket) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function parent() {
  const content = readFileSync(file);
  const before = sockets();
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  const pair = async () => {
    const accepted = once(server, 'connection');
    const peer = connect(port, '127.0.0.1');
    peer.on('error', () => {});
    peer.pause();
    const [socket] = await accepted;
    return { socket, peer };
  };

  // Under way while the child is made, and for as long as nobody reads.
  const own = await pair();
  const ownSent = transfer(file, own.socket, { backend, endSink: true });
  const program = fork(self, [file, backend, 'child']);
  const ways = [];
  let inherited;
  let onServing;
  const serving = new Promise((resolve) => {
    onServing = resolve;
  });
  program.on('message', (message) => {
    inherited ??= message.inherited;
    if (message.way) ways.push(message.way);
    if (message.serving) onServing();
  });
  await once(program, 'message');

  const passed = await pair();
  program.send('connection', passed.socket);
  const passedRight = (await received(passed.peer)).equals(content);

  // The duplicates of the transfers here are not the child's: it would hold the connection open.
  const ownReceived = received(own.peer);
  await ownSent;
  const ownRight = (await ownReceived).equals(content);

  // As with a write that is under way: what has gone has gone, and the rest fails.
  const torn = await pair();
  const failed = transfer(file, torn.socket, { backend }).then(
    () => 'sent',
    ({ transferred }) => (transferred < content.length ? 'failed' : 'sent and failed'),
  );
  torn.socket.on('error', () => {});
  await new Promise((resolve) => setTimeout(resolve, 30));
  program.send('in mid-transfer', torn.socket);
  const part = await received(torn.peer);
  const tornRight = part.equals(content.subarray(0, part.length)) && part.length < content.length;
  const tornEnds = await failed;

  program.send('server', server);
  // A handle that follows another is sent when the child has acknowledged that one.
  await serving;
  server.close(); // the child's alone
  const served = await Promise.all(
    [1, 2, 3].map(async () => {
      const peer = connect(port, '127.0.0.1');
      return (await received(peer)).equals(content);
    }),
  );
  program.send('end');
  const [code] = await once(program, 'exit');
  const grown = sockets() - before;
  const right = { passedRight, ownRight, tornRight, served };
  console.log(JSON.stringify({ ...right, tornEnds, ways, inherited, code, grown }));
}

if (role === 'child') child();
else await parent();
