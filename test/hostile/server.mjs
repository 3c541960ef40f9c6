// A small server that does all that the library can do, to clients that mean it harm (client.c).
//
//   server.mjs '{"files":FOLDER,"arrivals":FOLDER,...}'
//
// Serves the files of a folder, whose names are their marks. Over HTTP and HTTPS: GET /WAY/MARK, and
// PUT /WAY/ID; over a bare connection, TCP or Unix: lines of WAY MARK OFFSET LENGTH. Two more ports
// relay to these. Tells its ports, and what it is asked for, over IPC.
import { readFileSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { createRequire } from 'node:module';
import { connect, createServer } from 'node:net';
import path from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { capabilities, relay } from 'zerocopy';
import { counts, ended } from './counts.mjs';
import { Decoys } from './decoys.mjs';
import { answer } from './http-ways.mjs';
import { converse } from './raw-ways.mjs';

/**
 * @typedef {{
 *   files: string, arrivals: string, socket: string,
 *   buffers?: number, decoys?: string, certificate?: { key: string, cert: string },
 * }} Settings
 */

/** @type {Settings} */
const settings = JSON.parse(process.argv[2]);
const { buffers, certificate } = settings;
const decoys = new Decoys(settings.decoys);

const support = createRequire(import.meta.url);
const { setBuffers } = buffers
  ? support('../support/build/Release/support.node')
  : { setBuffers: undefined };

function accept(socket) {
  counts.accepted += 1;
  // Small ones, so that whoever doesn't read is soon felt.
  setBuffers?.(socket._handle.fd, buffers);
  socket.once('close', () => decoys.takeNumber());
}

const http = createHttpServer((request, response) => answer(request, response, settings, decoys));
http.on('connection', accept);

const raw = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
  accept(socket);
  socket.on('error', () => {}); // the transfers tell
  converse(socket, settings, decoys).then(
    () => socket.end(),
    () => socket.destroy(),
  );
});

const rawOverUnix = createServer({ allowHalfOpen: true }, (socket) =>
  raw.emit('connection', socket),
);

/** The relays' own connections that are open. */
let upstreams = 0;

/** Relays to one of the other services. */
function relayTo(target) {
  return createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
    accept(client);
    client.on('error', () => {});
    const upstream = connect({ ...target(), allowHalfOpen: true, noDelay: true });
    upstream.on('error', () => {});
    upstreams += 1;
    upstream.once('close', () => {
      upstreams -= 1;
      decoys.takeNumber();
    });
    ended('relay', relay(client, upstream)).catch(() => {});
  });
}

const portOf = (server) => server.address()?.port;
const services = {
  http,
  raw,
  rawOverUnix,
  relayToHttp: relayTo(() => ({ port: portOf(http), host: '127.0.0.1' })),
  relayToRaw: relayTo(() => ({ path: settings.socket })),
};
if (certificate) {
  const { key, cert } = certificate;
  const options = { key: readFileSync(key), cert: readFileSync(cert) };
  const https = createHttpsServer(options, (request, response) =>
    answer(request, response, settings, decoys),
  );
  https.on('tlsClientError', () => {});
  services.https = https;
}

const connectionsOf = (server) =>
  new Promise((resolve) => server.getConnections((_error, count) => resolve(count)));

const LOOP_RESOLUTION_MS = 10;
const delays = monitorEventLoopDelay({ resolution: LOOP_RESOLUTION_MS });

const tells = {
  /** What has happened so far. */
  counts: () => counts,
  /** How late the event loop has been since the last time, in milliseconds, and what has begun. */
  delays() {
    const late = (ns) => Math.max(0, ns / 1e6 - LOOP_RESOLUTION_MS);
    const delay = { max: late(delays.max), p99: late(delays.percentile(99)) };
    delays.reset();
    return { begun: counts.begun, delay };
  },
  /** How many connections are open. */
  async open() {
    const open = await Promise.all(Object.values(services).map(connectionsOf));
    return open.reduce((all, count) => all + count, upstreams);
  },
  /** Closes what is open of its own. */
  tidy() {
    decoys.close();
  },
  /** After a collection of garbage; another one takes what the first has set free to be collected. */
  async memory() {
    for (let i = 0; i < 2; i++) {
      globalThis.gc?.();
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    globalThis.gc?.();
    return process.memoryUsage();
  },
  watch() {
    delays.enable();
  },
};

process.on('message', async ({ id, ask }) => {
  process.send({ id, answer: await tells[ask]() });
});
process.on('disconnect', () => process.exit());

const listening = Object.entries(services).map(
  ([name, server]) =>
    new Promise((resolve) => {
      const address = name === 'rawOverUnix' ? [settings.socket] : [0, '127.0.0.1'];
      server.listen(...address, 4096, resolve);
    }),
);
await Promise.all(listening);
const ports = Object.fromEntries(
  Object.entries(services).map(([name, server]) => [name, portOf(server)]),
);
process.send({ ports, native: capabilities().native, root: path.resolve(settings.files) });
