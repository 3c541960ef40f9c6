import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { onTestFinished } from './scope';

/** On the disk that the repository is on: the temporary folder may be a tmpfs. */
export const scratchRoot = path.resolve(process.env.ZEROCOPY_TEST_SCRATCH ?? 'build/test-scratch');

/** A folder that goes with the test. */
export function scratchFolder(): string {
  const folder = fs.mkdtempSync(path.join(scratchRoot, 'test-'));
  onTestFinished(() => removeFolder(folder));
  return folder;
}

function removeFolder(folder: string): void {
  const options = { recursive: true, force: true, maxRetries: 5 };
  try {
    fs.rmSync(folder, options);
  } catch {
    fs.rmSync(folder, options); // a transfer that was aborted has made its file meanwhile
  }
}

/** Bytes that differ at every offset of interest: a counter, mixed. */
export function pattern(length: number, seed = 1): Buffer {
  const words = new Uint32Array(Math.ceil(length / 4));
  let state = seed >>> 0;
  for (let i = 0; i < words.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    words[i] = state;
  }
  return Buffer.from(words.buffer, 0, length);
}

export interface TestFile {
  path: string;
  content: Buffer;
}

/** A file of `length` bytes that goes with the test. */
export function testFile(length: number, folder = scratchFolder()): TestFile {
  const content = pattern(length);
  const file = path.join(folder, `${length}-bytes`);
  fs.writeFileSync(file, content);
  return { path: file, content };
}

/** A descriptor that goes with the test. */
export function openFor(file: string, flags: string): number {
  const fd = fs.openSync(file, flags);
  onTestFinished(() => fs.closeSync(fd));
  return fd;
}

/** The same, as a FileHandle. */
export async function handleFor(file: string, flags: string): Promise<fs.promises.FileHandle> {
  const handle = await fs.promises.open(file, flags);
  onTestFinished(() => handle.close());
  return handle;
}

export const sha256 = (content: Uint8Array) => createHash('sha256').update(content).digest('hex');

/** As under Node's permission model, where Node's own fs opens all files: none is open at once. */
export function openingLater<T>(begin: () => T): T {
  Object.defineProperty(process, 'permission', { configurable: true, value: {} });
  try {
    return begin();
  } finally {
    Reflect.deleteProperty(process, 'permission');
  }
}
