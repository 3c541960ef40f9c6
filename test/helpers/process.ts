import { spawn } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { PATIENCE } from './sanitizers';
import { onTestFinished } from './scope';

export function openDescriptors(): number {
  return fs.readdirSync('/proc/self/fd').length - 1; // without the one that lists them
}

/** Names of this process's threads. */
export function threads(): string[] {
  return fs.readdirSync('/proc/self/task').flatMap((id) => {
    try {
      return [fs.readFileSync(`/proc/self/task/${id}/comm`, 'utf8').trim()];
    } catch {
      return []; // gone since
    }
  });
}

export const warmers = () => threads().filter((name) => name.startsWith('zerocopy-warm')).length;

/** Waits until a condition holds; fails when it hasn't after 10 s (longer with sanitizers). */
export async function until(
  condition: () => boolean,
  what: string,
  limitMs = 10_000,
): Promise<void> {
  const end = Date.now() + limitMs * PATIENCE;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`Waited in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** What Node warns of from here to the test's end. */
export function warningsOfNode(): Error[] {
  const warnings: Error[] = [];
  const warn = (warning: Error) => warnings.push(warning);
  process.on('warning', warn);
  onTestFinished(() => process.off('warning', warn));
  return warnings;
}

export const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

const NO_LIMIT_MS = 2 ** 31 - 1;

interface ChildResult {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

interface RunOptions {
  execArgv?: string[];
  env?: NodeJS.ProcessEnv;
  wrapper?: string[];
  /** When a program that hasn't ended is killed, and the run fails. */
  limitMs?: number;
}

/** Runs a program of test/programs in a process of its own. */
export function runNode(
  program: string,
  args: string[] = [],
  options: RunOptions = {},
): Promise<ChildResult> {
  const file = path.resolve('test/programs', program);
  const [command = '', ...rest] = [
    ...(options.wrapper ?? []),
    process.execPath,
    ...(options.execArgv ?? []),
    file,
    ...args,
  ];
  const child = spawn(command, rest, { env: { ...process.env, ...options.env } });
  const { limitMs } = options;
  let late = false;
  const limit = setTimeout(
    () => {
      late = child.kill('SIGKILL');
    },
    Math.min((limitMs ?? NO_LIMIT_MS) * PATIENCE, NO_LIMIT_MS),
  );
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (text) => {
    stdout += text;
  });
  child.stderr.on('data', (text) => {
    stderr += text;
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => {
      clearTimeout(limit);
      if (late) reject(new Error(`${program} ${args} hasn't ended after ${limitMs} ms\n${stderr}`));
      else resolve({ code, signal, stdout, stderr });
    });
  });
}

/** Promise.withResolvers, which Node 20 lacks. */
export function withResolvers<T>() {
  let resolve!: (value: T | PromiseLike<T>) => void;
  let reject!: (reason: unknown) => void;
  const promise = new Promise<T>((a, b) => {
    resolve = a;
    reject = b;
  });
  return { promise, resolve, reject };
}
