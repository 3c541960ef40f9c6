// Files: what names one, and how it is opened, held and described.
import * as fs from 'node:fs';
import { type FileHandle, statfs } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { addon, type Native, type OpenFile } from './native';
import { descriptor, typeError, valueError } from './validate';

/** A file: its path, a descriptor, or a FileHandle. */
export type FileSource = string | URL | number | FileHandle;

/** A path or a descriptor. */
export function parseFile(name: string, file: unknown, expected: string): string | number {
  if (typeof file === 'number') return descriptor(name, file);
  if (isFileHandle(file)) return file.fd;
  let path = file;
  if (file instanceof URL) {
    try {
      path = fileURLToPath(file);
    } catch (error) {
      throw valueError(name, `must be a file URL: ${(error as Error).message}`, file.href);
    }
  }
  if (typeof path !== 'string') throw typeError(name, expected, file);
  if (path.includes('\0')) throw valueError(name, 'must be a path without null bytes', path);
  return path;
}

export function isFileHandle(value: unknown): value is FileHandle {
  return (
    typeof value === 'object' &&
    value !== null &&
    'fd' in value &&
    typeof value.fd === 'number' &&
    'createReadStream' in value
  );
}

/**
 * An open file that nobody else closes: that native code holds, that Node's fs has opened, or that stays
 * the caller's.
 */
export class HeldFile implements OpenFile {
  readonly fd: number;
  readonly kind: OpenFile['kind'];
  readonly size: number;
  sizeKnown: boolean;
  #holder: Native | 'fs' | undefined;

  constructor({ fd, kind, size, sizeKnown }: OpenFile, holder: Native | 'fs' | undefined) {
    this.fd = fd;
    this.kind = kind;
    this.size = size;
    this.sizeKnown = sizeKnown;
    this.#holder = holder;
  }

  close(): void {
    const holder = this.#holder;
    this.#holder = undefined;
    if (holder === 'fs') fs.closeSync(this.fd);
    else holder?.release(this.fd);
  }

  /** Its descriptor, or one in its place, for whoever closes it. */
  surrender(): number {
    const holder = this.#holder;
    const plain = typeof holder === 'object' ? holder.surrender(this.fd) : this.fd;
    this.#holder = undefined;
    return plain;
  }
}

/**
 * Opens a path, or holds a descriptor: at once where no disk is needed for that, which is the rule.
 * What fails at once throws.
 */
export function openFile(file: string | number): HeldFile | Promise<HeldFile> {
  const opened = typeof file === 'number' ? holdDescriptor(file) : openNow(file);
  if (opened?.sizeKnown || (opened && opened.kind !== 'file')) return opened;
  return completed(opened ?? openLater(file as string));
}

async function completed(opening: HeldFile | Promise<HeldFile>): Promise<HeldFile> {
  const file = await opening;
  if (file.kind === 'file' && !file.sizeKnown) await learnWhetherSizeIsKnown(file);
  return file;
}

export const fstat = promisify(fs.fstat);

const { O_RDONLY, O_NONBLOCK = 0, O_NOCTTY = 0 } = fs.constants; // Windows lacks the last two
/** For reading: neither waits for a FIFO's writer nor takes a terminal for our own. */
export const OPEN_FLAGS = O_RDONLY | O_NONBLOCK | O_NOCTTY;

/** ENOSYS, EINVAL: Linux before 5.12. EPERM: seccomp. Then it is not tried again. */
const NO_CACHED_OPEN = new Set([-38, -22, -1]);
let opensCached = true;

/** Under Node's permission model only Node's own fs may open, since it asks for leave. */
function mayOpenHere(): boolean {
  return !('permission' in process);
}

/**
 * Opens a path whose way is in the kernel's caches, as the one or the other of `Native`; undefined
 * where it isn't, or isn't all, and where only Node may open.
 */
export function openIfCached(path: string, how: 'openCached' | 'openPlain'): OpenFile | undefined {
  const { native } = addon;
  if (!native || !opensCached || !mayOpenHere()) return undefined;
  const opened = native[how](path);
  if (opened.fd >= 0) return opened;
  opensCached = !NO_CACHED_OPEN.has(opened.fd);
  return undefined; // whatever the error was: Node's open tells it, with its message
}

function openNow(path: string): HeldFile | undefined {
  const opened = openIfCached(path, 'openCached');
  if (opened?.kind === 'character device') {
    addon.native?.release(opened.fd);
    return undefined;
  }
  return opened && new HeldFile(opened, addon.native);
}

async function openLater(path: string): Promise<HeldFile> {
  const opened = await openOnWarmer(path);
  if (opened) return opened;
  let file = await holdOpened(await openPath(path, OPEN_FLAGS));
  if (file.kind === 'character device') {
    // A terminal in non-blocking mode would give EAGAIN and not what is typed.
    file.close();
    file = await holdOpened(await openPath(path, O_RDONLY | O_NOCTTY));
  }
  return file;
}

/**
 * Not on one of the threads that Node has for all it does, four as a rule: a disk that doesn't answer
 * would soon have them all.
 */
async function openOnWarmer(path: string): Promise<HeldFile | undefined> {
  const { native } = addon;
  if (!native || !mayOpenHere()) return undefined;
  const opened = await native.open(path).catch(() => undefined); // no thread to be had
  if (!opened || opened.fd < 0) return undefined; // Node's open tells the error, with its message
  if (opened.kind !== 'character device') return new HeldFile(opened, native);
  native.release(opened.fd);
  return undefined;
}

async function holdOpened(fd: number): Promise<HeldFile> {
  const { native } = addon;
  if (native) {
    try {
      return new HeldFile(native.adopt(fd), native);
    } finally {
      fs.closeSync(fd);
    }
  }
  try {
    return new HeldFile({ fd, ...factsOf(await fstat(fd)) }, 'fs');
  } catch (error) {
    fs.closeSync(fd);
    throw error;
  }
}

/** Of tmpfs, ramfs and overlayfs, from statfs(2): their files have the size that they say. */
const HONEST_FILE_SYSTEMS = new Set([0x01021994, 0x858458f6, 0x794c7630]);

/** Not on this thread: a network's file system asks its server. */
async function learnWhetherSizeIsKnown(file: HeldFile): Promise<void> {
  if (process.platform !== 'linux') return;
  const { type } = await statfs(`/proc/self/fd/${file.fd}`).catch(() => ({ type: 0 }));
  file.sizeKnown = HONEST_FILE_SYSTEMS.has(type);
}

/** By whatever fs.open is by now. */
export function openPath(path: string, flags: string | number, mode = 0o666): Promise<number> {
  return new Promise((resolve, reject) => {
    fs.open(path, flags, mode, (error, fd) => (error ? reject(error) : resolve(fd)));
  });
}

/** Holds the open file behind the caller's descriptor, which may name another one a moment later. */
function holdDescriptor(fd: number): HeldFile {
  const { native } = addon;
  if (native) return new HeldFile(native.duplicate(fd), native);
  const facts = factsOf(fs.fstatSync(fd));
  if (facts.kind === 'file' && process.platform === 'linux') {
    try {
      const reopened = fs.openSync(`/proc/self/fd/${fd}`, OPEN_FLAGS);
      return new HeldFile({ fd: reopened, ...facts }, 'fs');
    } catch {
      // No /proc, or no leave to open the file anew: the caller has to keep it open.
    }
  }
  return new HeldFile({ fd, ...facts }, undefined);
}

/** As `inspect` of native/file.cc, from what Node tells. */
function factsOf(stats: fs.Stats): Omit<OpenFile, 'fd'> {
  const sizeKnown = stats.isFile() && (stats.blocks > 0 || stats.size > 64 * 1024);
  return { kind: kindOf(stats), size: stats.size, sizeKnown };
}

function kindOf(stats: fs.Stats): OpenFile['kind'] {
  if (stats.isDirectory()) return 'directory';
  if (stats.isFIFO()) return 'fifo';
  if (stats.isSocket()) return 'socket';
  if (stats.isCharacterDevice()) return 'character device';
  if (stats.isBlockDevice()) return 'block device';
  return 'file';
}
