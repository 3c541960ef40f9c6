// Files to send: on a disk, in the page cache, and gone at the end whatever happens.
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { buildDirectory } from './paths.mjs';

export const MiB = 1024 * 1024;

/** statfs(2): on these a file is memory, which is not what a file usually is. */
const MEMORY_FILE_SYSTEMS = new Set([0x01021994 /* tmpfs */, 0x858458f6 /* ramfs */]);

/** A directory that is removed when the process ends, also by SIGINT or SIGTERM. */
export function makeScratch() {
  const directory = fs.mkdtempSync(path.join(diskDirectory(), 'zerocopy-bench-'));
  process.on('exit', () => fs.rmSync(directory, { recursive: true, force: true }));
  process.on('SIGINT', () => process.exit(130));
  process.on('SIGTERM', () => process.exit(143));
  return directory;
}

function diskDirectory() {
  const temporary = os.tmpdir();
  if (!MEMORY_FILE_SYSTEMS.has(fs.statfsSync(temporary).type)) return temporary;
  fs.mkdirSync(buildDirectory, { recursive: true });
  return buildDirectory;
}

/**
 * Makes a file whose blocks all differ, and which is resident.
 * @param {string} file
 * @param {number} size in bytes
 */
export function makeFile(file, size) {
  const block = randomBytes(Math.min(size, MiB));
  const fd = fs.openSync(file, 'wx+');
  try {
    for (let at = 0; at < size; at += block.length) {
      block.writeDoubleLE(at);
      fs.writeSync(fd, block, 0, Math.min(block.length, size - at), at);
    }
    // Else the disk would still be written to while trials run.
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
  makeResident(file);
  return file;
}

/**
 * Reads a file to its end. Before every trial: there are kernels that give up pages which nobody
 * has mapped (DAMON), however much memory is free.
 * @param {string} file
 */
export function makeResident(file) {
  const buffer = Buffer.allocUnsafe(MiB);
  const fd = fs.openSync(file);
  while (fs.readSync(fd, buffer, 0, buffer.length, null) > 0);
  fs.closeSync(fd);
}
