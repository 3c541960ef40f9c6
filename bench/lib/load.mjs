// Load over HTTP/1.1, over kept-alive connections: by wrk, or where there is none by autocannon.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { repository } from './paths.mjs';
import { find } from './peers.mjs';
import { runToEnd } from './processes.mjs';

const CONNECTIONS = 32;

const wrk = find('wrk');

/** Why it isn't the load generator that takes least itself. */
export const missing =
  wrk.missing && `${wrk.missing}: autocannon loads, whose own speed limits what is seen`;

/**
 * @typedef {object} Load
 * @property {number} requests
 * @property {number} requestsPerSecond
 * @property {number} latencyP99Ms
 */

/**
 * @param {string} url
 * @param {number} seconds
 * @param {object} [options]
 * @param {number} [options.connections]
 * @param {Record<string, string>} [options.headers]
 * @returns {Promise<Load>}
 */
export function load(url, seconds, { connections = CONNECTIONS, headers = {} } = {}) {
  const given = Object.entries(headers).flatMap(([name, value]) => ['-H', `${name}: ${value}`]);
  const options = { url, seconds, connections, given };
  return wrk.program ? loadByWrk(options) : loadByAutocannon(options);
}

async function loadByWrk({ url, seconds, connections, given }) {
  const command = [wrk.program, '-t1', `-c${connections}`, `-d${seconds}s`, '--latency'];
  const text = await runToEnd('peer', [...command, ...given, url]);
  const bad = /Socket errors.*|Non-2xx.*/.exec(text)?.[0];
  if (bad) throw new Error(`${url}: ${bad}`);
  const [, latency, unit] = /99%\s+([\d.]+)(us|ms|s)/.exec(text);
  return {
    requests: Number(/(\d+) requests in/.exec(text)[1]),
    requestsPerSecond: Number(/Requests\/sec:\s+([\d.]+)/.exec(text)[1]),
    latencyP99Ms: Number(latency) * { us: 1e-3, ms: 1, s: 1e3 }[unit],
  };
}

async function loadByAutocannon({ url, seconds, connections, given }) {
  const program = path.join(repository, 'node_modules/autocannon/autocannon.js');
  const command = [process.execPath, program, `-c${connections}`, `-d${seconds}`, '--json'];
  const text = await runToEnd('peer', [...command, '--no-progress', ...given, url]);
  const { requests, latency, duration, errors, non2xx } = JSON.parse(text);
  if (errors + non2xx > 0) throw new Error(`${url}: ${errors} errors, ${non2xx} bad answers`);
  return {
    requests: requests.total,
    requestsPerSecond: requests.total / duration,
    latencyP99Ms: latency.p99,
  };
}

/** Seconds of CPU that a process has used, all its threads together; to a hundredth. @param {number} pid */
export function cpuSecondsOf(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
  const [user, system] = [fields[11], fields[12]];
  return (Number(user) + Number(system)) / 100; // USER_HZ
}
