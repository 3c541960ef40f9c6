// An HTTP CONNECT proxy: what clients tunnel through it (HTTPS, mostly) stays inside the kernel.
//
//   node examples/connect-proxy.mjs [port] [--verbose] [--idle seconds]
//
// It listens on the loopback interface and prints its port. It asks nobody who they are: before it
// listens to others, it needs a list of who may connect to what.
import { once } from 'node:events';
import { createServer, STATUS_CODES } from 'node:http';
import { connect, isIPv6 } from 'node:net';
import { parseArgs } from 'node:util';
import { relay } from 'zerocopy';

const GRACE_MS = 10_000; // for tunnels to end by themselves, once asked to stop

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { verbose: { type: 'boolean' }, idle: { type: 'string', default: '120' } },
});
const idleMs = Number(values.idle) * 1000;
const log = values.verbose ? console.error : () => {};
const stopping = new AbortController();

/** `host:port`, or `[IPv6 address]:port`, and nothing else. */
function parseAuthority(text) {
  const match = /^(?:\[([\da-f:.]+)\]|([\w.-]{1,253})):(\d{1,5})$/i.exec(text);
  if (!match) return undefined;
  const [, address, name, port] = match;
  if (Number(port) < 1 || Number(port) > 65_535) return undefined;
  if (address !== undefined && !isIPv6(address)) return undefined;
  return { host: address ?? name, port: Number(port) };
}

function refuse(client, status) {
  client.resume(); // to its end, or it would stay open
  client.end(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nConnection: close\r\n\r\n`);
}

async function tunnel({ url }, client, head) {
  client.on('error', () => {}); // which are told by the relay
  client.setTimeout(idleMs, () => client.destroy(new Error('idle')));
  const target = parseAuthority(url);
  if (!target) return refuse(client, 400);

  const upstream = connect(target);
  upstream.setTimeout(idleMs, () => upstream.destroy(new Error('idle')));
  const giveUp = () => upstream.destroy(new Error('the client has gone'));
  client.once('close', giveUp);
  try {
    await once(upstream, 'connect', { signal: stopping.signal });
  } catch (error) {
    log(`${url}: ${error.message || error.code}`);
    upstream.on('error', () => {}).destroy();
    return refuse(client, 502);
  }
  client.off('close', giveUp);
  upstream.on('error', () => {});
  client.write(`HTTP/1.1 200 Connection established\r\n\r\n`);
  if (head.length > 0) client.unshift(head); // what the client sent without waiting

  const told = ({ aToB, bToA, backend }) => `${url}: ${aToB} bytes up, ${bToA} down by ${backend}`;
  try {
    log(told(await relay(client, upstream, { signal: stopping.signal })));
  } catch (error) {
    log(`${told(error)}, then ${error.cause?.message ?? error.message}`);
  }
}

const server = createServer((_request, response) => {
  response.writeHead(405, { Allow: 'CONNECT', Connection: 'close' }).end();
});
server.on('connect', tunnel);

// Tunnels may end by themselves. A second signal, or too much time, ends them.
function stop() {
  if (!server.listening) stopping.abort(new Error('the proxy stops'));
  server.close();
  setTimeout(() => stopping.abort(new Error('the proxy stops')), GRACE_MS).unref();
}
process.on('SIGTERM', stop).on('SIGINT', stop);

server.listen(Number(positionals[0] ?? 8080), '127.0.0.1');
await once(server, 'listening');
console.log(server.address().port);
