// HAProxy as it splices best: in one thread, in TCP mode.
import { once } from 'node:events';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import path from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { start } from './processes.mjs';

const MOST_CONNECTIONS = 100;
const START_DEADLINE_MS = 10_000;
const START_INTERVAL_MS = 20;
const LISTENING = '0A'; // the state in /proc/net/tcp

const directories = [...(process.env.PATH ?? '').split(path.delimiter), '/usr/sbin'];
const program = directories
  .map((directory) => path.join(directory, 'haproxy'))
  .find((file) => existsSync(file));

export const missing = program === undefined ? 'HAProxy (Debian package haproxy)' : undefined;

/** @param {number} port @param {number} upstreamPort */
const configuration = (port, upstreamPort) => `
global
  nbthread 1
  maxconn ${MOST_CONNECTIONS}
  tune.pipesize 1048576

defaults
  mode tcp
  no option splice-auto
  option splice-request
  option splice-response
  timeout connect 10s
  timeout client 60s
  timeout server 60s

listen relay
  bind 127.0.0.1:${port}
  server upstream 127.0.0.1:${upstreamPort}
`;

/** HAProxy can't be given port 0. The kernel does not hand out the same port again so soon. */
async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

/** Whoever connected to find out would be relayed. @param {number} port */
function isListening(port) {
  const address = `0100007F:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  const sockets = readFileSync('/proc/net/tcp', 'utf8').split('\n');
  return sockets.some((line) => {
    const [, local, , state] = line.trim().split(/\s+/);
    return local === address && state === LISTENING;
  });
}

/**
 * Starts HAProxy in the foreground, before a server.
 * @param {number} upstreamPort
 * @param {string} scratch directory for its configuration
 */
export async function startHaproxy(upstreamPort, scratch) {
  const file = path.join(scratch, 'haproxy.cfg');
  const port = await freePort();
  writeFileSync(file, configuration(port, upstreamPort));
  const child = start('measured', [program, '-q', '-db', '-f', file], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const closed = once(child, 'close');
  for (let waited = 0; !isListening(port); waited += START_INTERVAL_MS) {
    if (child.exitCode !== null) throw new Error(`HAProxy ended with ${child.exitCode}`);
    if (waited > START_DEADLINE_MS) throw new Error('HAProxy does not listen');
    await setTimeout(START_INTERVAL_MS);
  }
  const stop = async () => {
    child.kill();
    await closed;
  };
  return { pid: child.pid, port, stop };
}
