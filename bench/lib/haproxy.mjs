// HAProxy as it splices best: in one thread, in TCP mode.
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { freePort, startListening } from './listening.mjs';
import { find } from './peers.mjs';

const MOST_CONNECTIONS = 100;

const { program, missing } = find('haproxy');

export { missing };

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

/**
 * Starts HAProxy before a server.
 * @param {number} upstreamPort
 * @param {string} scratch directory for its configuration
 */
export async function startHaproxy(upstreamPort, scratch) {
  const file = path.join(scratch, 'haproxy.cfg');
  const port = await freePort();
  writeFileSync(file, configuration(port, upstreamPort));
  return startListening([program, '-q', '-db', '-f', file], port);
}
