// Slow and dead disks (bench/peers/slow-disk.c), and programs that use them.
//
// Each is mounted in a mount namespace of its own, where only the programs of its test are: no other
// test meets it, and it is gone with the last of them whatever happens.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { createInterface } from 'node:readline';
import { onTestFinished } from 'vitest';
import { compile } from '../../bench/lib/compile.mjs';
import { scratchFolder } from './files';
import { foreignEnvironment } from './sanitizers';
import { isRoot, whyNotRoot } from './skips';

const { program, missing } = compile('bench/peers/slow-disk.c', ['-lfuse3']);

/** Why there can be no slow disk: to be put into the name of a test that is skipped. */
export function whyNoSlowDisk(): string {
  if (!isRoot) return whyNotRoot('to mount');
  if (!fs.existsSync('/dev/fuse')) return ' (SKIPPED: needs /dev/fuse)';
  if (missing) return ` (SKIPPED: needs libfuse3-dev: ${missing})`;
  return '';
}

export type Operation =
  | 'lookup'
  | 'getattr'
  | 'setattr'
  | 'open'
  | 'create'
  | 'read'
  | 'write'
  | 'flush'
  | 'release'
  | 'fsync'
  | 'lseek'
  | 'unlink'
  | 'statfs';

export type Counts = Record<Operation, { waiting: number; most: number; total: number }>;

export type Flag = 'keep-cache' | 'direct-io' | 'cache-names' | 'interruptible' | 'one-inode';

interface SlowDiskOptions {
  files?: number;
  size?: number;
  flags?: Flag[];
  /** Another one, in whose namespace this one is to be too. */
  beside?: SlowDisk;
}

export class SlowDisk {
  readonly folder: string;
  readonly size: number;
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  private constructor(folder: string, size: number, child: ChildProcess) {
    this.folder = folder;
    this.size = size;
    this.#child = child;
    if (!child.stdout) throw new Error('no stdout');
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  }

  static async mount({ files = 64, size = 256 * 1024, flags = [], beside }: SlowDiskOptions = {}) {
    const folder = path.join(scratchFolder(), 'disk');
    fs.mkdirSync(folder);
    const into = beside ? beside.inside : ['unshare', '--mount', '--propagation', 'private'];
    const words = [...into, program ?? '', folder, String(files), String(size), ...flags];
    const [command = '', ...rest] = words;
    const stdio = ['pipe', 'pipe', 'inherit'] as const;
    const child = spawn(command, rest, { stdio: [...stdio], env: foreignEnvironment() });
    onTestFinished(async () => {
      child.stdin.end();
      if (child.exitCode === null) await once(child, 'exit');
    });
    const disk = new SlowDisk(folder, size, child);
    await disk.#next();
    return disk;
  }

  /** What goes before a command that is to see this disk. */
  get inside(): string[] {
    return ['nsenter', `--mount=/proc/${this.#child.pid}/ns/mnt`, `--wd=${process.cwd()}`];
  }

  path(name: number | string): string {
    return path.join(this.folder, String(name));
  }

  paths(count: number, first = 0): string[] {
    return Array.from({ length: count }, (_, i) => this.path(first + i));
  }

  /** What a file has, from the beginning of the disk on. */
  content(file: number): Buffer {
    const words = new Uint32Array(this.size / 4);
    const mark = Math.imul(file + 1, 0x9e3779b1);
    for (let i = 0; i < words.length; i++) words[i] = Math.imul(i, 0x85ebca6b) ^ mark;
    return Buffer.from(words.buffer);
  }

  async #next<T>(): Promise<T> {
    const { value, done } = await this.#lines.next();
    if (done) throw new Error('the slow disk has ended');
    return JSON.parse(value) as T;
  }

  #ask<T>(line: string): Promise<T> {
    this.#child.stdin?.write(`${line}\n`);
    return this.#next();
  }

  /** From now on an operation takes so many milliseconds, or doesn't return. */
  delay(operation: Operation, length: number | 'never'): Promise<void> {
    return this.#ask(`delay ${operation} ${length}`);
  }

  /** Answers all that waits, and waits no more. */
  release(): Promise<void> {
    return this.#ask('release');
  }

  counts(): Promise<Counts> {
    return this.#ask('counts');
  }

  /** Waits until a condition of its counts holds. */
  async until(condition: (counts: Counts) => boolean, limitMs = 10_000): Promise<Counts> {
    for (const end = Date.now() + limitMs; ; ) {
      const counts = await this.counts();
      if (condition(counts)) return counts;
      if (Date.now() > end) throw new Error(`Waited in vain; ${JSON.stringify(counts)}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
}
