// The proxies that trials compare, and what is at their ends.
import { compile } from './compile.mjs';
import { missing as missingHaproxy, startHaproxy } from './haproxy.mjs';
import { fromBench } from './paths.mjs';
import { pinned, startReceiver, startServer } from './processes.mjs';

/** @typedef {'relay' | 'pipe-both' | 'haproxy'} Way */

/** @type {Way[]} */
export const proxyWays = ['relay', 'pipe-both', ...(missingHaproxy ? [] : ['haproxy'])];

export const missingProxies = missingHaproxy ? [missingHaproxy] : [];

/** Starts the upstream server and the client. `missing` says why they can't be had. */
export async function startProxyEnds() {
  const { program, missing } = compile('bench/peers/proxy-ends.c');
  if (!program) return { missing: `the ends of the proxy in C (${missing})` };
  return { ends: await startReceiver([program, pinned ? 'poll' : 'sleep']) };
}

/**
 * Starts a proxy before a server. Its `stop()` resolves to what it knows of its relays, where it is
 * one in Node.js.
 * @param {Way} way
 * @param {number} upstreamPort
 * @param {string} scratch
 * @returns {Promise<{ pid: number, port: number,
 *   stop: () => Promise<{ backend?: string, relayed?: number }> }>}
 */
export async function startProxy(way, upstreamPort, scratch) {
  if (way === 'haproxy') {
    const { stop, ...proxy } = await startHaproxy(upstreamPort, scratch);
    return { ...proxy, stop: async () => (await stop()) ?? {} };
  }
  const parameters = JSON.stringify({ way, upstreamPort });
  const command = [process.execPath, fromBench('trials/proxy.mjs'), parameters];
  const { pid, port, next, stop } = await startServer(command);
  return {
    pid,
    port,
    stop: async () => {
      const [facts] = await Promise.all([next(), stop()]);
      return facts;
    },
  };
}
