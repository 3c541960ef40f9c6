// A program (test/programs/cold.mjs) that does with slow disks what a test tells it to, and what its
// threads wait for meanwhile.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { onTestFinished } from 'vitest';
import { scratchFolder, testFile } from './files';
import { withResolvers } from './process';
import type { SlowDisk } from './slow-disk';

/** Short and long ways: at once, from the JavaScript thread; by movers; in several steps. */
const HOT_SIZES = [64 * 1024, 1024 * 1024, 9 * 1024 * 1024];

/** Far longer than anything takes that doesn't hang. */
const ANSWER_LIMIT_MS = 10_000;

export interface Outcome {
  transferred: number;
  backend?: string;
  name?: string;
  code?: string;
  message?: string;
}

interface Answer {
  id: number;
  result?: unknown;
  error?: string;
}

/** What may wait for a disk: one of our warmers, one of Node's own threads, which are libuv's. */
export type Waiter = 'JavaScript' | 'mover' | 'warmer' | 'libuv' | 'other';

export class Program {
  readonly scratch: string;
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, (answer: Answer) => void>();
  readonly #ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  #lastId = 0;

  private constructor(scratch: string, child: ChildProcess) {
    this.scratch = scratch;
    this.#child = child;
    this.#ended = once(child, 'exit').then(([code, signal]) => ({ code, signal }));
    child.on('message', (answer: Answer) => this.#waiting.get(answer.id)?.(answer));
  }

  static async start(disk: SlowDisk, env: NodeJS.ProcessEnv = {}): Promise<Program> {
    const scratch = scratchFolder();
    const hot = HOT_SIZES.map((size) => testFile(size, scratch).path);
    const file = path.resolve('test/programs/cold.mjs');
    const [command = '', ...rest] = [...disk.inside, process.execPath, file, scratch, ...hot];
    const child = spawn(command, rest, {
      stdio: ['ignore', 'inherit', 'pipe', 'ipc'],
      env: { ...process.env, ...env },
    });
    const program = new Program(scratch, child);
    onTestFinished(async () => {
      await disk.release().catch(() => {});
      child.kill('SIGKILL');
      await program.#ended;
    });
    await once(child, 'message');
    return program;
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  /** Fails where there is no answer: the JavaScript thread hangs. */
  async ask<T>(name: string, ...args: unknown[]): Promise<T> {
    const id = ++this.#lastId;
    const { promise, resolve, reject } = withResolvers<Answer>();
    this.#waiting.set(id, resolve);
    const seen = () =>
      reject(new Error(`No answer to ${name}: ${JSON.stringify(threadsOf(this.pid))}`));
    const timer = setTimeout(seen, ANSWER_LIMIT_MS);
    this.#child.send({ id, name, args });
    const { result, error } = await promise.finally(() => clearTimeout(timer));
    if (error) throw new Error(error);
    return result as T;
  }

  tell(name: string, ...args: unknown[]): void {
    this.#child.send({ id: 0, name, args });
  }

  outcomes(): Promise<(Outcome | null)[]> {
    return this.ask('outcomes');
  }

  /** Waits until what it tells satisfies a condition. */
  async until(condition: () => Promise<boolean>, what: string, limitMs = 10_000): Promise<void> {
    for (const end = Date.now() + limitMs; !(await condition()); ) {
      if (Date.now() > end) {
        const state = JSON.stringify([this.waiters(), await this.outcomes()]);
        throw new Error(`Waited in vain until ${what}: ${state}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  /** How it ended, or undefined when it doesn't. */
  async ended(limitMs = ANSWER_LIMIT_MS) {
    const { promise, resolve } = withResolvers<undefined>();
    const timer = setTimeout(resolve, limitMs, undefined);
    return await Promise.race([this.#ended, promise]).finally(() => clearTimeout(timer));
  }

  /** How many of its threads wait for a file system, by what they are. */
  waiters(): Partial<Record<Waiter, number>> {
    const counts: Partial<Record<Waiter, number>> = {};
    for (const thread of threadsOf(this.pid)) {
      if (!/fuse|folio|request_wait|filemap/.test(thread.where)) continue;
      const who = nameOf(thread, this.pid);
      counts[who] = (counts[who] ?? 0) + 1;
    }
    return counts;
  }

  threads(): string[] {
    return threadsOf(this.pid).map(({ comm }) => comm);
  }
}

interface Thread {
  id: number;
  comm: string;
  /** In the kernel: the function that it sleeps in, and those that have called it. */
  where: string;
}

function threadsOf(pid: number): Thread[] {
  return fs.readdirSync(`/proc/${pid}/task`).flatMap((id) => {
    const read = (name: string) => fs.readFileSync(`/proc/${pid}/task/${id}/${name}`, 'utf8');
    try {
      return [{ id: Number(id), comm: read('comm').trim(), where: read('wchan') + read('stack') }];
    } catch {
      return []; // gone since
    }
  });
}

function nameOf({ id, comm }: Thread, pid: number): Waiter {
  if (id === pid) return 'JavaScript';
  if (comm.startsWith('zerocopy-mover')) return 'mover';
  if (comm.startsWith('zerocopy-warm')) return 'warmer';
  return comm === 'node' || comm.startsWith('libuv') ? 'libuv' : 'other';
}
