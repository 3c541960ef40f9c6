// The files that programs read: made once for all of them, and never changed.
import * as fs from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import * as path from 'node:path';
import { pathToFileURL } from 'node:url';
import { pattern } from '../helpers/files';
import type { Range } from './program';

const KIB = 1024;
const MIB = 1024 * KIB;

export const corpusSizes = [
  128 * KIB + 16,
  0,
  1,
  4095,
  4097,
  24 * KIB,
  24 * KIB + 1,
  64 * KIB,
  64 * KIB + 1,
  80 * KIB,
  3 * MIB + 3,
];

export interface CorpusFile {
  path: string;
  content: Buffer;
  fd: number;
  handle: FileHandle;
}

export interface Corpus {
  files: CorpusFile[];
  /** Of /proc: its size means nothing. */
  proc: { path: string; content: Buffer };
}

export async function makeCorpus(folder: string): Promise<Corpus> {
  const files = await makeFiles(folder, corpusSizes, 1);
  const proc = '/proc/version';
  return { files, proc: { path: proc, content: fs.readFileSync(proc) } };
}

export async function makeFiles(
  folder: string,
  sizes: number[],
  seed: number,
): Promise<CorpusFile[]> {
  const files: CorpusFile[] = [];
  for (const [i, size] of sizes.entries()) {
    const file = path.join(folder, `${size}-bytes`);
    const content = pattern(size, seed + i);
    fs.writeFileSync(file, content);
    files.push({ path: file, content, fd: fs.openSync(file, 'r'), handle: await open(file, 'r') });
  }
  return files;
}

export async function closeFile({ fd, handle }: CorpusFile): Promise<void> {
  fs.closeSync(fd);
  await handle.close();
}

/** A file as one names it, and what is to be done when the call that names it has returned. */
export interface Named {
  file: string | URL | number | FileHandle;
  afterCall?: () => void;
}

export function nameOf(file: CorpusFile, as: Range['as']): Named {
  if (as === 'path') return { file: file.path };
  if (as === 'URL') return { file: pathToFileURL(file.path) };
  if (as === 'fd') return { file: file.fd };
  if (as === 'FileHandle') return { file: file.handle };
  const fd = fs.openSync(file.path, 'r');
  return { file: fd, afterCall: () => fs.closeSync(fd) };
}
