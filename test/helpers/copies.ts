// What tests of copies share: files to copy, the way they went, and what became of them.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { expect } from 'vitest';
import * as zerocopy from 'zerocopy';
import { type Backend, copyFileRangeSync, TransferError, type TransferResult } from 'zerocopy';
import type { TestedBackend } from './backends';
import { pattern, scratchFolder, type TestFile } from './files';
import { mounted } from './mounts';
import { runNode } from './process';
import { onTestFinished } from './scope';
import { isRoot } from './skips';

export const MIB = 1024 * 1024;
export const GIB = 1024 * MIB;

/** What transfer() and copyFile() both take. */
interface CopyOptions {
  signal?: AbortSignal;
  onProgress?: (progress: zerocopy.Progress) => void;
  backend?: 'auto' | 'native' | 'stream';
}

export type Copy = (source: string, sink: string, options?: CopyOptions) => Promise<TransferResult>;
export const copies: [name: string, copy: Copy][] = [
  ['transfer', zerocopy.transfer],
  ['copyFile', zerocopy.copyFile],
];

/** A copy that went the way it was asked to. */
export function expectCopied(
  result: TransferResult,
  backend: TestedBackend,
  transferred: number,
  way: Backend = 'copy_file_range',
): void {
  if (backend === 'stream') {
    expect(result).toMatchObject({ transferred, backend, fallback: { code: 'REQUESTED', at: 0 } });
  } else if (transferred === 0) {
    // Nothing went any way.
    expect(result.transferred).toBe(0);
    expect(['copy_file_range', 'sendfile', 'read']).toContain(result.backend);
  } else {
    expect(result).toEqual({ transferred, backend: way });
  }
}

/** It failed, with all that a TransferError has to tell. */
export function expectFailure(error: TransferError, backend: TestedBackend, code: string): void {
  expect({ code: error.code, error }).toMatchObject({ code }); // shows what it was instead
  expect(error).toBeInstanceOf(TransferError);
  expect(error.backend === 'stream').toBe(backend === 'stream');
}

/** Bytes that a file takes on its disk; 0 when there is no file. */
export function allocated(file: string): number {
  return (fs.statSync(file, { throwIfNoEntry: false })?.blocks ?? 0) * 512;
}

/** `copy` of a name below a folder of the test's: a path where there is nothing yet. */
export const newFile = (folder = scratchFolder()) => path.join(folder, 'sink');

export function expectContent(file: string, content: Buffer): void {
  const bytes = fs.readFileSync(file);
  expect(bytes.length).toBe(content.length);
  expect(bytes.equals(content)).toBe(true);
}

/** Where a descriptor stands in its file. */
export function positionOf(fd: number): number {
  const info = fs.readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8');
  return Number(/^pos:\s*(\d+)$/m.exec(info)?.[1]);
}

/** A folder where GiBs come and go without a disk, if we may mount one; else one on the disk. */
export function roomyFolder(): string {
  return isRoot ? mounted('tmpfs', 'size=4g') : scratchFolder();
}

/** A folder of a file system (tmpfs) that is not that of `scratchFolder()` (a disk). */
export function otherFolder(): string {
  const folder = fs.mkdtempSync('/dev/shm/zerocopy-test-');
  onTestFinished(() => fs.rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/**
 * How a file gets from one folder to another: asked of the kernel. Linux 5.3 to 5.18 has
 * copy_file_range(2) copy between any two file systems; before and after that it answers EXDEV where
 * they are not of one mount, or not of one type, and sendfile(2) is the way.
 */
export function wayBetween(from: string, to: string): 'copy_file_range' | 'sendfile' {
  const [source, sink] = [path.join(from, 'probed'), path.join(to, 'probed-copy')];
  fs.writeFileSync(source, 'probe');
  const inFd = fs.openSync(source, 'r');
  const outFd = fs.openSync(sink, 'w');
  try {
    return copyFileRangeSync(inFd, 0, outFd, 0, 5) === 5 ? 'copy_file_range' : 'sendfile';
  } catch {
    return 'sendfile';
  } finally {
    for (const fd of [inFd, outFd]) fs.closeSync(fd);
    for (const file of [source, sink]) fs.rmSync(file);
  }
}

/** `length` bytes without a hole, a MiB of pattern again and again: quickly made. */
export function denseFile(length: number, folder = roomyFolder()): string {
  const file = path.join(folder, `dense-${length}`);
  const fd = fs.openSync(file, 'w');
  const chunk = pattern(MIB, 7);
  for (let at = 0; at < length; at += MIB) fs.writeSync(fd, chunk, 0, Math.min(MIB, length - at));
  fs.closeSync(fd);
  return file;
}

/** Whether `length` bytes of a file are those of `denseFile()`. */
export function isDense(file: string, length: number): boolean {
  const fd = fs.openSync(file, 'r');
  const chunk = pattern(MIB, 7);
  const buffer = Buffer.alloc(MIB);
  let right = true;
  for (let at = 0; at < length && right; at += MIB) {
    const count = Math.min(MIB, length - at);
    right = fs.readSync(fd, buffer, 0, count, at) === count;
    right &&= buffer.compare(chunk, 0, count, 0, count) === 0;
  }
  fs.closeSync(fd);
  return right;
}

export interface SparseFile {
  path: string;
  size: number;
  /** Start and content of what is no hole. */
  data: [at: number, bytes: Buffer][];
}

/** A file of `size` bytes, with data at the ranges given and holes between them. */
export function sparseFile(
  size: number,
  ranges: [at: number, length: number][],
  folder = scratchFolder(),
): SparseFile {
  const file = path.join(folder, `sparse-${size}`);
  const fd = fs.openSync(file, 'w');
  fs.ftruncateSync(fd, size);
  const data = ranges.map(([at, length], i): [number, Buffer] => {
    const bytes = pattern(length, i + 1);
    fs.writeSync(fd, bytes, 0, length, at);
    return [at, bytes];
  });
  fs.closeSync(fd);
  return { path: file, size, data };
}

/**
 * A file has the size of a sparse file, its data, and zeros round about them. Holes of GiBs are not
 * read: what takes few blocks has nothing there.
 */
export function expectSparseContent(file: string, { size, data }: SparseFile): void {
  expect(fs.statSync(file).size).toBe(size);
  const fd = fs.openSync(file, 'r');
  const bytesAt = (at: number, length: number) => {
    const bytes = Buffer.alloc(length);
    return bytes.subarray(0, fs.readSync(fd, bytes, 0, length, at));
  };
  const wrong: string[] = [];
  const check = (right: boolean, what: string) => {
    if (!right) wrong.push(what);
  };
  const checkZeros = (from: number, to: number) => {
    const bytes = bytesAt(from, Math.max(0, to - from));
    check(
      bytes.every((byte) => byte === 0),
      `zeros at ${from}`,
    );
  };
  let end = 0;
  for (const [at, bytes] of data) {
    const gap = Math.min(at - end, MIB);
    checkZeros(end, end + gap);
    checkZeros(at - gap, at);
    check(bytesAt(at, bytes.length).equals(bytes), `data at ${at}`);
    end = at + bytes.length;
  }
  const gap = Math.min(size - end, MIB);
  checkZeros(end, end + gap);
  checkZeros(size - gap, size);
  fs.closeSync(fd);
  expect(wrong).toEqual([]);
}

/** A file of /proc with more than a MiB that stays as it is: what a process was given to know. */
export async function procFile(): Promise<TestFile> {
  const names = Array.from({ length: 11 }, (_, i) => `V${i}`);
  const env = Object.fromEntries(
    names.map((name, i) => [name, pattern(50_000 + i, i).toString('hex')]),
  );
  const child = spawn('/bin/cat', { env, stdio: ['pipe', 'pipe', 'ignore'] });
  onTestFinished(() => {
    child.kill('SIGKILL');
  });
  // When it answers it has been loaded: what /proc tells of it changes no more.
  child.stdin.write('.');
  await once(child.stdout, 'data');
  const content = Buffer.from(names.map((name) => `${name}=${env[name]}\0`).join(''));
  const file = `/proc/${child.pid}/environ`;
  expectContent(file, content); // or else this kernel does not do what the tests rest upon
  return { path: file, content };
}

/** CPU time, in ns, that threads have used so far, by the beginning of their names. */
export function cpuOf(name: string): number {
  let sum = 0;
  for (const id of fs.readdirSync('/proc/self/task')) {
    try {
      if (!fs.readFileSync(`/proc/self/task/${id}/comm`, 'utf8').startsWith(name)) continue;
      sum += Number(fs.readFileSync(`/proc/self/task/${id}/schedstat`, 'utf8').split(' ')[0]);
    } catch {
      // gone since
    }
  }
  return sum;
}

/** CPU time, in ns, that the thread of JavaScript has used so far. */
export function cpuOfJavaScript(): number {
  const text = fs.readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'utf8');
  return Number(text.split(' ')[0]);
}

/** What test/programs/copy.mjs prints. */
export interface CopyReport {
  result?: TransferResult;
  error?: { name: string; code: string; syscall?: string; transferred: number; backend: Backend };
}

/** Copies in a process of its own: under limits, or as another user. */
export async function copyInChild(
  name: string,
  source: string,
  sink: string,
  options: object,
  wrapper: string[],
): Promise<CopyReport> {
  const args = [name, source, sink, JSON.stringify(options)];
  const { code, stdout, stderr } = await runNode('copy.mjs', args, { wrapper });
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  return JSON.parse(stdout);
}

/** Whether a file shares every extent that it has with another one. */
export function isShared(file: string): boolean {
  const report = execFileSync('filefrag', ['-s', '-v', file], { encoding: 'utf8' });
  const extents = report.split('\n').filter((line) => /^\s*\d+:/.test(line));
  return extents.length > 0 && extents.every((line) => line.includes('shared'));
}
