// Load over HTTP, by wrk.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { runPinned } from './processes.mjs';

const CONNECTIONS = 32;

export const missing =
  spawnSync('wrk', ['--version']).error === undefined ? undefined : 'wrk (Debian package wrk)';

/** In one thread, over kept-alive connections. @param {string} url @param {number} seconds */
export async function load(url, seconds) {
  const command = ['wrk', '-t1', `-c${CONNECTIONS}`, `-d${seconds}s`, '--latency', url];
  const text = await runPinned('peer', command);
  const bad = /Socket errors.*|Non-2xx.*/.exec(text)?.[0];
  if (bad) throw new Error(`${url}: ${bad}`);
  const [, latency, unit] = /99%\s+([\d.]+)(us|ms|s)/.exec(text);
  return {
    requests: Number(/(\d+) requests in/.exec(text)[1]),
    requestsPerSecond: Number(/Requests\/sec:\s+([\d.]+)/.exec(text)[1]),
    latencyP99Ms: Number(latency) * { us: 1e-3, ms: 1, s: 1e3 }[unit],
  };
}

/** Seconds of CPU that a process has used, all its threads together; to a hundredth. @param {number} pid */
export function cpuSecondsOf(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
  const [user, system] = [fields[11], fields[12]];
  return (Number(user) + Number(system)) / 100; // USER_HZ
}
