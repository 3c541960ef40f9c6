// Files to send and to write: on a disk, in the page cache, and gone at the end whatever happens.
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { buildDirectory } from './paths.mjs';

export const MiB = 1024 * 1024;
export const GiB = 1024 * MiB;

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
  fs.mkdirSync(path.dirname(file), { recursive: true });
  const fd = fs.openSync(file, 'wx+');
  try {
    for (let at = 0; at < size; at += block.length) {
      if (block.length >= 8) block.writeDoubleLE(at);
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

/**
 * Makes a file of holes, with pieces of data of 1 MiB spread evenly. They are resident.
 * @param {string} file
 * @param {number} size in bytes
 * @param {number} share of the data
 */
export function makeSparseFile(file, size, share) {
  const pieces = Math.floor((size * share) / MiB);
  const stride = Math.floor(size / pieces / MiB) * MiB;
  const block = randomBytes(MiB);
  const fd = fs.openSync(file, 'wx');
  try {
    fs.ftruncateSync(fd, size);
    for (let piece = 0; piece < pieces; piece++) {
      block.writeDoubleLE(piece);
      fs.writeSync(fd, block, 0, MiB, piece * stride);
    }
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
  return file;
}

/** What the file system of a directory has left. @param {string} directory */
export function freeBytes(directory) {
  const { bavail, bsize } = fs.statfsSync(directory);
  return bavail * bsize;
}

/**
 * Writes out what the file system of a directory still holds in memory, so that it is not written
 * while the next trial runs.
 * @param {string} directory
 */
export function writeOut(directory) {
  const { status, error } = spawnSync('sync', ['--file-system', directory]);
  if (status !== 0) throw error ?? new Error(`sync: ended with ${status}`);
}

/** @param {string} file @param {number} size in bytes */
export function mustHaveSize(file, size) {
  const { size: found } = fs.statSync(file);
  if (found !== size) throw new Error(`${file} has ${found} bytes, not ${size}`);
}

/** Byte for byte. @param {string} copy @param {string} original */
export function mustBeEqual(copy, original) {
  const fds = [copy, original].map((file) => fs.openSync(file));
  const buffers = fds.map(() => Buffer.allocUnsafe(MiB));
  for (let at = 0; ; at += MiB) {
    const [read, expected] = fds.map((fd, index) => fs.readSync(fd, buffers[index], 0, MiB, at));
    const same = buffers[0].subarray(0, read).equals(buffers[1].subarray(0, expected));
    if (!same) throw new Error(`${copy} differs from ${original} in the MiB at ${at}`);
    if (read < MiB) break;
  }
  for (const fd of fds) fs.closeSync(fd);
}
