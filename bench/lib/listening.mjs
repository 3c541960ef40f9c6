// Servers that can't be asked for any free port, and don't say when they listen.
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import { start } from './processes.mjs';

const START_DEADLINE_MS = 10_000;
const START_INTERVAL_MS = 20;
const LISTENING = '0A'; // the state in /proc/net/tcp

/** The kernel does not hand out the same port again so soon. */
export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

/** Whoever connected to find out would be served. @param {number} port */
function isListening(port) {
  const address = `0100007F:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  const sockets = readFileSync('/proc/net/tcp', 'utf8').split('\n');
  return sockets.some((line) => {
    const [, local, , state] = line.trim().split(/\s+/);
    return local === address && state === LISTENING;
  });
}

/**
 * Starts a server, which is measured, and waits until it listens.
 * @param {string[]} command in the foreground
 * @param {number} port of 127.0.0.1
 */
export async function startListening(command, port) {
  const [name] = command;
  const child = start('measured', command, { stdio: ['ignore', 'ignore', 'inherit'] });
  const closed = once(child, 'close');
  for (let waited = 0; !isListening(port); waited += START_INTERVAL_MS) {
    if (child.exitCode !== null) throw new Error(`${name} ended with ${child.exitCode}`);
    if (waited > START_DEADLINE_MS) throw new Error(`${name} does not listen`);
    await setTimeout(START_INTERVAL_MS);
  }
  const stop = async () => {
    child.kill();
    await closed;
  };
  return { pid: child.pid, port, stop };
}
