// A server of its own process, its files, its clients in other processes, and what /proc tells of it.
import { fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { compile, programOf } from '../../bench/lib/compile.mjs';
import { contentOf } from './marks.mjs';

const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** No other file's, and nobody asks for it. */
const DECOY_MARK = 1_000_000;
const DECOY_BYTES = 1024 * 1024;
const SETTLE_MS = 15_000;

const CLIENT = 'test/hostile/client.c';

/** Compiles the client in C. */
export function buildClient() {
  const { missing } = compile(CLIENT);
  if (missing) throw new Error(missing);
}

/** What `buildClient` has made. */
export const clientProgram = () => programOf(CLIENT);

/**
 * Files of these sizes, each filled with its own mark; and folders for what arrives.
 * @param {string} folder
 * @param {number[]} sizes
 */
export function makeSite(folder, sizes) {
  const [root, arrivals] = ['files', 'arrivals'].map((name) => path.join(folder, name));
  for (const made of [root, arrivals]) mkdirSync(made);
  const files = sizes.map((size, i) => ({ mark: i + 1, size }));
  for (const { mark, size } of files)
    writeFileSync(path.join(root, String(mark)), contentOf(mark, size));
  const decoys = path.join(folder, 'decoys');
  writeFileSync(decoys, contentOf(DECOY_MARK, DECOY_BYTES));
  return { root, arrivals, decoys, socket: path.join(folder, 's'), files };
}

/** Fails if anything has been written to the files that nobody writes to. */
export function checkSite({ root, decoys, files }) {
  const wanted = files.map(({ mark, size }) => [path.join(root, String(mark)), mark, size]);
  for (const [file, mark, size] of [...wanted, [decoys, DECOY_MARK, DECOY_BYTES]])
    if (!readFileSync(file).equals(contentOf(mark, size)))
      throw new Error(`WRONG BYTES have been written to ${file}`);
}

/**
 * Checks, and removes, what has come of uploads that were broken off: the beginning of its own, and
 * nothing else. Returns how many there were.
 * @param {number} [most] of the bytes of each that are looked at
 */
export function checkArrivals({ arrivals }) {
  const names = readdirSync(arrivals);
  for (const name of names) {
    const file = path.join(arrivals, name);
    const bytes = readFileSync(file);
    if (/^\d+$/.test(name) && !bytes.equals(contentOf(Number(name), bytes.length)))
      throw new Error(`WRONG BYTES have arrived in ${file}`);
    unlinkSync(file);
  }
  return names.length;
}

/** @param {number} pid */
export function descriptorsOf(pid) {
  return readdirSync(`/proc/${pid}/fd`).length;
}

/** Names of a process's threads. @param {number} pid */
export function threadsOf(pid) {
  return readdirSync(`/proc/${pid}/task`).flatMap((id) => {
    try {
      return [readFileSync(`/proc/${pid}/task/${id}/comm`, 'utf8').trim()];
    } catch {
      return []; // gone since
    }
  });
}

/** What a process has in memory, in bytes. @param {number} pid */
export function residentBytesOf(pid) {
  const [, pages] = readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ');
  return Number(pages) * 4096;
}

/** Fails when the condition doesn't come to hold. */
async function until(condition, what) {
  const end = Date.now() + SETTLE_MS;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`Waited in vain until ${what()}`);
    await sleep(20);
  }
}

export class Server {
  #child;
  #answers = new Map();
  #lastId = 0;
  #stderr = '';
  ports = {};

  /**
   * @param {ReturnType<typeof makeSite>} site
   * @param {{ buffers?: number, execArgv?: string[], env?: NodeJS.ProcessEnv,
   *   certificate?: { key: string, cert: string }, decoys?: boolean }} [options]
   */
  static async start(site, { execArgv = [], env = {}, decoys = true, ...settings } = {}) {
    const { root, arrivals, socket } = site;
    rmSync(socket, { force: true });
    const argument = { files: root, arrivals, socket, ...settings };
    if (decoys) argument.decoys = site.decoys;
    const child = fork(here('server.mjs'), [JSON.stringify(argument)], {
      execArgv,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'inherit', 'pipe', 'ipc'],
    });
    const server = new Server(child, site);
    const [told] = await Promise.race([once(child, 'message'), server.ended]);
    if (!told?.ports) throw new Error(`The server has not started: ${server.#stderr}`);
    server.ports = told.ports;
    return server;
  }

  constructor(child, site) {
    this.#child = child;
    this.site = site;
    this.pid = child.pid;
    child.stderr.on('data', (text) => {
      this.#stderr += text;
    });
    child.on('message', ({ id, answer }) => {
      this.#answers.get(id)?.(answer);
      this.#answers.delete(id);
    });
    this.ended = once(child, 'close').then(([code, signal]) => [`${signal ?? code}`]);
  }

  /** @param {'counts' | 'delays' | 'open' | 'tidy' | 'memory' | 'watch'} ask */
  async ask(ask) {
    const id = ++this.#lastId;
    const answer = new Promise((resolve) => this.#answers.set(id, resolve));
    this.#child.send({ id, ask });
    const [how] = await Promise.race([answer.then((it) => [it]), this.ended]);
    if (this.#child.exitCode !== null || this.#child.signalCode !== null)
      throw new Error(`The server has ended with ${how}: ${this.#stderr}`);
    return how;
  }

  /** When nothing is open or under way any more: what the process then holds. */
  async idle() {
    let counts = await this.ask('counts');
    const open = async () => (await this.ask('open')) === 0;
    await until(open, () => 'all connections are closed');
    const over = async () => {
      counts = await this.ask('counts');
      return counts.begun === counts.ended;
    };
    await until(over, () => `all transfers have ended: ${counts.ended} of ${counts.begun} have`);
    await this.ask('tidy');
    const warmers = () => threadsOf(this.pid).filter((name) => name === 'zerocopy-warmer').length;
    await until(
      () => warmers() === 0,
      () => `${warmers()} warmers have gone`,
    );
    return {
      descriptors: descriptorsOf(this.pid),
      threads: threadsOf(this.pid).length,
      residentBytes: residentBytesOf(this.pid),
    };
  }

  /** Ends it. Fails if it has ended before, or written anything to stderr. */
  async stop() {
    const { exitCode, signalCode } = this.#child;
    const ended = exitCode ?? signalCode;
    this.#child.kill('SIGKILL');
    await this.ended;
    if (ended !== null || this.#stderr !== '')
      throw new Error(`The server has ended with ${ended}: ${this.#stderr}`);
  }
}

/**
 * Runs the client in C to its end. Fails when it has anything to complain about.
 * @param {string} program
 * @param {Record<string, string | number>} options as client.c explains them; `files` are a site's
 */
export async function runClient(program, { files, ...options }) {
  const args = Object.entries(options).map(([name, value]) => `${name}=${value}`);
  if (files) args.push(`files=${files.map(({ mark, size }) => `${mark}:${size}`).join()}`);
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const [stdout, stderr, [code, signal]] = await Promise.all([
    child.stdout.setEncoding('utf8').toArray(),
    child.stderr.setEncoding('utf8').toArray(),
    once(child, 'close'),
  ]);
  if (code !== 0 || stderr.length > 0)
    throw new Error(`client ${args.join(' ')}: ended with ${signal ?? code}\n${stderr.join('')}`);
  return JSON.parse(stdout.join(''));
}
