import { once } from 'node:events';
import { connect } from 'node:net';

/** Fewer than the receiver's backlog, so that no connection has to be tried twice. */
const CONNECTIONS_AT_ONCE = 256;

/**
 * @param {number} port of a receiver
 * @param {number} count
 * @param {string} [host]
 * @returns {Promise<import('node:net').Socket[]>} connected sockets
 */
export async function connectMany(port, count, host = '127.0.0.1') {
  const sockets = [];
  while (sockets.length < count) {
    const batch = Array.from(
      { length: Math.min(count - sockets.length, CONNECTIONS_AT_ONCE) },
      () => connect(port, host),
    );
    await Promise.all(batch.map((socket) => once(socket, 'connect')));
    sockets.push(...batch);
  }
  return sockets;
}
