// The processes of the bench: what is measured on one core, all others on another.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fromBench } from './paths.mjs';

const TRIAL_TIMEOUT_MS = 120_000;

/** The first two cores that this process may use, if it may use two and `taskset` is there. */
export const cores = allowedCores();

export const pinned = cores !== undefined;

const children = new Set();
process.on('exit', () => {
  for (const child of children) child.kill('SIGKILL');
});

function allowedCores() {
  if (spawnSync('taskset', ['--version']).status !== 0) return undefined;
  const status = readFileSync('/proc/self/status', 'utf8');
  const list = /^Cpus_allowed_list:\s+(\S+)$/m.exec(status)?.[1] ?? '';
  const allowed = list.split(',').flatMap((range) => {
    const [first, last = first] = range.split('-').map(Number);
    return Array.from({ length: last - first + 1 }, (_, index) => first + index);
  });
  return allowed.length < 2 ? undefined : { measured: allowed[0], peer: allowed[1] };
}

/**
 * Where a process runs: on the one core, on the other, or wherever there is one.
 * @typedef {'measured' | 'peer' | 'anywhere'} Role
 */

/**
 * @param {Role} role
 * @param {string[]} command
 * @param {import('node:child_process').SpawnOptions} options
 */
export function start(role, command, options) {
  const core = cores?.[role];
  const pinning = core === undefined ? [] : ['taskset', '-c', `${core}`];
  const [file, ...args] = [...pinning, ...command];
  const child = spawn(file, args, options);
  children.add(child);
  child.once('exit', () => children.delete(child));
  return child;
}

/**
 * Runs a trial in a process of its own.
 * @param {string[]} command
 * @param {Role} [role]
 * @returns the JSON document that it prints
 */
export async function runTrial(command, role = 'measured') {
  return JSON.parse(await runToEnd(role, command));
}

/**
 * Runs a command to its end.
 * @param {Role} role
 * @param {string[]} command
 * @returns {Promise<string>} what it prints
 */
export async function runToEnd(role, command) {
  const child = start(role, command, {
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: TRIAL_TIMEOUT_MS,
  });
  const output = child.stdout.setEncoding('utf8').toArray();
  const [status, signal] = await once(child, 'close');
  if (status !== 0) throw new Error(`${command.join(' ')}: ended with ${signal ?? status}`);
  return (await output).join('');
}

/**
 * The command of a trial in Node.js.
 * @param {string} script in bench/trials
 * @param {object} parameters
 * @param {string[]} [nodeOptions]
 */
export function nodeTrial(script, parameters, nodeOptions = []) {
  const path = fromBench(`trials/${script}`);
  return [process.execPath, ...nodeOptions, path, JSON.stringify(parameters)];
}

/** Starts a receiver (bench/receiver), or another peer. @param {string[]} command */
export function startReceiver(command) {
  return startService('peer', command);
}

/** Starts a server, which is measured. @param {string[]} command */
export function startServer(command) {
  return startService('measured', command);
}

/** Starts what prints its port, and ends when its input does. */
async function startService(role, command) {
  const child = start(role, command, { stdio: ['pipe', 'pipe', 'inherit'] });
  const closed = once(child, 'close');
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  /** The next JSON line that it prints. */
  const next = async () => {
    const { value, done } = await lines.next();
    if (done) throw new Error(`${command.join(' ')}: ended early`);
    return JSON.parse(value);
  };
  const { port } = await next();
  /** Has it do something. @param {string} line */
  const ask = (line) => {
    child.stdin.write(`${line}\n`);
    return next();
  };
  const stop = async () => {
    child.stdin.end();
    await closed;
  };
  return { pid: child.pid, port, next, ask, stop };
}

/** The command of the receiver in Node.js. @param {'discard' | 'sha256'} mode */
export function nodeReceiver(mode) {
  return [process.execPath, fromBench('receiver/receiver.mjs'), mode];
}
