// Transfers files to a receiver in this process, or at the port given; prints what came of it.
//   send.mjs FILE... [--port N] [--backend B]
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { parseArgs } from 'node:util';
import { transfer } from 'zerocopy';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { port: { type: 'string' }, backend: { type: 'string', default: 'native' } },
});

const chunks = [];
let port = Number(values.port);
if (!port) {
  const server = createServer((peer) => peer.on('data', (chunk) => chunks.push(chunk)));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  server.unref();
  ({ port } = server.address());
}

for (const file of positionals) {
  chunks.length = 0;
  const sink = connect(port, '127.0.0.1');
  const result = await transfer(file, sink, { backend: values.backend });
  const warmers = readdirSync('/proc/self/task').filter((id) =>
    readFileSync(`/proc/self/task/${id}/comm`, 'utf8').startsWith('zerocopy-warm'),
  ).length;
  sink.end();
  sink.resume();
  await once(sink, 'close');
  const right = values.port ? undefined : Buffer.concat(chunks).equals(readFileSync(file));
  console.log(JSON.stringify({ ...result, warmers, right }));
}
