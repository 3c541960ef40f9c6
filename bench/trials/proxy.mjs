// A proxy: relays every connection to the upstream server, until its input ends; then it prints by
// which backends, and how many bytes have come from upstream.
//
//   node proxy.mjs '{"way":"relay","upstreamPort":1234}'
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { relay } from 'zerocopy';

const { way, upstreamPort } = JSON.parse(process.argv[2]);

/** Each resolves when both directions have ended. */
const ways = {
  relay: async (client, upstream) => {
    const { backend, bToA } = await relay(client, upstream);
    return { backend, bytes: bToA };
  },
  'pipe-both': async (client, upstream) => {
    const closed = Promise.all([once(client, 'close'), once(upstream, 'close')]);
    client.pipe(upstream);
    upstream.pipe(client);
    await closed;
    return { backend: 'stream', bytes: upstream.bytesRead };
  },
};

const relays = [];

async function accept(client) {
  const upstream = connect({ port: upstreamPort, host: '127.0.0.1', noDelay: true });
  await once(upstream, 'connect');
  return ways[way](client, upstream);
}

const server = createServer({ noDelay: true }, (client) => relays.push(accept(client)));
server.listen(0, '127.0.0.1', () => {
  console.log(JSON.stringify({ port: server.address().port }));
});

async function end() {
  const results = await Promise.all(relays);
  const backend = [...new Set(results.map((result) => result.backend))].join();
  const bytes = results.reduce((sum, result) => sum + result.bytes, 0);
  console.log(JSON.stringify({ backend, relayed: bytes }));
  process.exit();
}
process.stdin.on('end', end).resume();
