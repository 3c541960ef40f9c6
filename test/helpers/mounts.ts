// File systems of a test's own: small, so that they fill; of a type that has what is tested.
import { execFileSync, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { scratchFolder } from './files';
import { sleep } from './process';
import { onTestFinished } from './scope';
import { isRoot, whyNotRoot } from './skips';

export type FileSystem = 'ext4' | 'xfs' | 'btrfs';

/** Least that mkfs makes of each, in MiB. */
const LEAST_MEBIBYTES: Record<FileSystem, number> = { ext4: 1, xfs: 300, btrfs: 109 };

const MKFS: Record<FileSystem, string[]> = {
  // No blocks kept for root, no journal, nothing left to be set up while the test runs.
  ext4: ['-q', '-F', '-m', '0', '-O', '^has_journal', '-E', 'lazy_itable_init=0'],
  xfs: ['-q', '-f'],
  btrfs: ['-q', '-f'],
};

const MOUNT_WAIT_MS = 2000;

/** Why images of a type can't be mounted here: to be put into the name of a test that is skipped. */
export function whyNoMount(type: FileSystem = 'ext4'): string {
  if (!isRoot) return whyNotRoot('to mount');
  if (!fs.existsSync('/dev/loop-control')) return ' (SKIPPED: needs loop devices)';
  if (spawnSync(`mkfs.${type}`, ['-V']).error) return ` (SKIPPED: needs mkfs.${type})`;
  return '';
}

/** Mounts what needs no image, for the time of the test, and returns where. */
export function mounted(type: string, options: string): string {
  const target = path.join(scratchFolder(), 'mounted');
  fs.mkdirSync(target);
  execFileSync('mount', ['-t', type, '-o', options, type, target]);
  onTestFinished(() => {
    execFileSync('umount', ['-l', target]);
  });
  return target;
}

/**
 * Makes an image of `mebibytes` MiB, mounts it below the test's scratch folder, and returns where.
 * Both go with the test, which fails if it has left a file of it open. Near its end an ext4 may
 * refuse a write (ENOSPC) of which it had room for a part.
 */
export function mountedImage(mebibytes: number, type: FileSystem = 'ext4'): string {
  if (mebibytes < LEAST_MEBIBYTES[type]) {
    throw new Error(`The least ${type} has ${LEAST_MEBIBYTES[type]} MiB`);
  }
  const folder = scratchFolder();
  const image = path.join(folder, 'image');
  const target = path.join(folder, 'mounted');
  fs.writeFileSync(image, '');
  fs.truncateSync(image, mebibytes * 1024 * 1024);
  fs.mkdirSync(target);
  execFileSync(`mkfs.${type}`, [...MKFS[type], image], { stdio: 'pipe' });
  // The loop device detaches itself when the last user is gone.
  execFileSync('mount', ['-t', type, '-o', 'loop,nodev,nosuid', image, target], { stdio: 'pipe' });
  onTestFinished(() => unmount(target));
  return target;
}

/** Bytes that are free in the file system of a folder. */
export function freeBytes(folder: string): number {
  const { bavail, bsize } = fs.statfsSync(folder);
  return bavail * bsize;
}

/**
 * Fills an ext4 up to `left` bytes, to a block (the others are less exact about what is free), and
 * returns the file that does.
 */
export function fill(folder: string, left: number): string {
  const file = path.join(folder, 'filler');
  const fd = fs.openSync(file, 'w');
  const block = fs.statfsSync(folder).bsize;
  // Not by fallocate: some file systems take from others what it has promised.
  let chunk = Buffer.alloc(1024 * 1024, 1);
  try {
    while (chunk.length >= block) {
      const free = freeBytes(folder) - left;
      if (free < block) break;
      try {
        fs.writeSync(fd, chunk, 0, Math.min(chunk.length, free - (free % block)));
        fs.fsyncSync(fd); // free blocks are counted when they are allocated, not when promised
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
        chunk = chunk.subarray(chunk.length >> 1); // some blocks go into the file's own tree
      }
    }
  } finally {
    fs.closeSync(fd);
  }
  return file;
}

async function unmount(target: string): Promise<void> {
  const end = Date.now() + MOUNT_WAIT_MS;
  // Busy for as long as a descriptor is being closed on a thread.
  while (spawnSync('umount', [target]).status !== 0) {
    if (Date.now() > end) {
      execFileSync('umount', ['-l', target]);
      throw new Error(`Something was left open below ${target}`);
    }
    await sleep(20);
  }
}
