// Copies of whole files.
import * as fs from 'node:fs';
import { lstat, realpath, statfs, unlink } from 'node:fs/promises';
import * as os from 'node:os';
import { promisify } from 'node:util';
import { systemError, TransferError } from './errors';
import { fstat, OPEN_FLAGS, openPath, parseFile } from './file';
import type { OwnFile } from './file-sink';
import { observe, unobserved } from './observe';
import type { Backend, Fallback, Progress, TransferOptions, TransferResult } from './options';
import { parseArguments } from './options';
import { move, whyNoNativeCode } from './transfer';
import { isBoolean, optional, optionsObject, typeError, valueError } from './validate';

export interface CopyFileOptions {
  /** Whether a sink that is there already is an error, `EEXIST`. @default false */
  exclusive?: boolean | undefined;
  /** Whether holes of the source are holes in the copy; if not, they are written out. @default true */
  holes?: boolean | undefined;
  /** Aborts the copy. */
  signal?: AbortSignal | undefined;
  /** Called while bytes move, at most every 100 ms, and once at the end. Holes count. */
  onProgress?: ((progress: Progress) => void) | undefined;
  /** `'native'` rejects where `'auto'` would fall back to streams. @default 'auto' */
  backend?: 'auto' | 'native' | 'stream' | undefined;
}

const OPTIONS = ['exclusive', 'holes', 'signal', 'onProgress', 'backend'] as const;
const { O_WRONLY, O_CREAT, O_EXCL, O_NONBLOCK = 0, O_NOCTTY = 0 } = fs.constants;
const MODE_BITS = 0o7777;
// Not the FileHandles of fs/promises: of a worker that ends while it opens one, Node leaves it open.
const [ftruncate, fchmod, close] = [
  promisify(fs.ftruncate),
  promisify(fs.fchmod),
  promisify(fs.close),
];
/** CIFS_SUPER_MAGIC and SMB2_SUPER_MAGIC, of statfs(2). */
const CIFS = new Set([0xff534d42, 0xfe534d42]);

/**
 * Copies a file, by reference where the file system can (btrfs, xfs), else inside the kernel: what
 * copy_file_range(2) does. Holes stay holes, and the mode is the source's, as with `fs.copyFile()`. An
 * existing sink is emptied first. One that this call has made is removed when it fails or is aborted.
 *
 * Resolves with the file's size as `transferred`.
 *
 * @throws (as a rejection) `ERR_INVALID_ARG_TYPE` or `ERR_INVALID_ARG_VALUE` for a bad argument, also
 * where both paths name the same file, with nothing touched; a {@link TransferError} for everything
 * else
 */
export async function copyFile(
  source: string | URL,
  sink: string | URL,
  options?: CopyFileOptions,
): Promise<TransferResult> {
  const { exclusive, holes, ...rest } = optionsObject(options, OPTIONS);
  const from = pathOf('source', source);
  const to = pathOf('sink', sink);
  const isExclusive = optional('options.exclusive', exclusive, 'a boolean', isBoolean) ?? false;
  const keepHoles = optional('options.holes', holes, 'a boolean', isBoolean) ?? true;
  const { signal, backend } = parseArguments(from, to, rest as TransferOptions);
  const copy = new Copy(from, to, isExclusive, keepHoles, rest as TransferOptions);
  const fallback = whyNoNativeCode(backend);
  const way: Way = { backend: fallback ? 'stream' : 'copy_file_range', fallback };
  const throwIfAborted = () => {
    if (!signal?.aborted) return;
    const details = { code: 'ABORT_ERR', cause: signal.reason, transferred: 0, ...way };
    throw new TransferError('The operation was aborted', details);
  };
  const observation = observe(source, sink);
  let result: TransferResult;
  try {
    result = await observation.begin({ begin: () => copy.run(throwIfAborted) });
  } catch (caught) {
    await copy.cleanUp();
    const error = asTransferError(caught as NodeJS.ErrnoException, way);
    const went = error instanceof TransferError ? error : { transferred: 0, ...way };
    observation.ended(went.transferred, went.backend, went.fallback, error);
    throw error;
  }
  await copy.close();
  observation.ended(result.transferred, result.backend, result.fallback);
  return result;
}

/** The way that a copy is to go. */
interface Way {
  backend: Backend;
  fallback: Fallback | undefined;
}

/** Of the copies to disks that don't answer, which nobody waits for. */
let lastCleanUp: Promise<void> = Promise.resolve();

class Copy {
  readonly #from: string;
  readonly #to: string;
  readonly #exclusive: boolean;
  readonly #keepHoles: boolean;
  readonly #options: TransferOptions;
  #source: number | undefined;
  #sink: number | undefined;
  /** The sink's path, if this call has made it. */
  #made: string | undefined;
  #target: OwnFile | undefined;

  constructor(
    from: string,
    to: string,
    exclusive: boolean,
    keepHoles: boolean,
    options: TransferOptions,
  ) {
    this.#from = from;
    this.#to = to;
    this.#exclusive = exclusive;
    this.#keepHoles = keepHoles;
    this.#options = options;
  }

  async run(throwIfAborted: () => void): Promise<TransferResult> {
    throwIfAborted();
    const source = await openPath(this.#from, OPEN_FLAGS);
    this.#source = source;
    const facts = await fstat(source, { bigint: true });
    if (facts.isDirectory()) throw systemError(os.constants.errno.EISDIR, 'copyfile');
    if (!facts.isFile()) throw systemError(os.constants.errno.EINVAL, 'copyfile');
    const mode = Number(facts.mode) & MODE_BITS;
    const sink = await this.#openSink(mode);
    this.#sink = sink;
    const target = await fstat(sink, { bigint: true });
    if (target.ino === facts.ino && target.dev === facts.dev) {
      throw valueError('sink', 'is the source itself', this.#to);
    }
    throwIfAborted();
    const isFile = target.isFile();
    // Not one just made (unless somebody has written to it since): what was ever truncated to nothing
    // ext4 writes out at close(2).
    if (isFile && (this.#made === undefined || target.size > 0n)) await ftruncate(sink, 0);

    const args = parseArguments(source, sink, this.#options);
    // A size that means nothing (/proc) says nothing of holes either.
    if (isFile) this.#target = { holes: this.#keepHoles && facts.size > 0n ? 'kept' : 'filled' };
    args.sink = {
      kind: 'file',
      file: sink,
      offset: isFile ? 0 : undefined,
      flags: 'w',
      ...(this.#target && { ours: this.#target }),
    };
    const result = await move(args, unobserved);
    if (isFile) {
      // A hole at the end has left it shorter. No more than that: xfs would copy a shared last block.
      const { size } = await fstat(sink);
      if (size < result.transferred) await ftruncate(sink, result.transferred);
      await fchmod(sink, mode).catch((error) => this.#unlessCifs(error));
    }
    return result;
  }

  /** A share that knows nothing of modes refuses them: no failure, as with fs.copyFile(). */
  async #unlessCifs(error: NodeJS.ErrnoException): Promise<void> {
    const { type } = await statfs(this.#to);
    if (error.code !== 'EPERM' || !CIFS.has(type)) throw error;
  }

  async #openSink(mode: number): Promise<number> {
    try {
      const made = await openPath(this.#to, O_WRONLY | O_CREAT | O_EXCL, mode);
      this.#made = this.#to;
      return made;
    } catch (error) {
      if (this.#exclusive || (error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    try {
      return await openPath(this.#to, O_WRONLY | O_NONBLOCK | O_NOCTTY);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      // A link to nowhere is there, and its target isn't.
      const made = await openPath(this.#to, O_WRONLY | O_CREAT, mode);
      this.#sink = made; // to be closed, should its name be gone again
      this.#made = await realpath(this.#to);
      return made;
    }
  }

  /** After a failure. */
  async cleanUp(): Promise<void> {
    // The failure before it is the one to tell.
    const clean = () =>
      this.#undo()
        .catch(() => {})
        .finally(() => this.close());
    if (!this.#target?.abandoned) return await clean();
    // One after the other: each takes one of the few threads that Node has, for as long as the disk
    // doesn't answer.
    lastCleanUp = lastCleanUp.then(clean);
  }

  /** No half a file is left where there was none. */
  async #undo(): Promise<void> {
    if (this.#made === undefined) return;
    // Whatever somebody has put in its place meanwhile stays.
    const ours = this.#sink !== undefined && (await fstat(this.#sink, { bigint: true }));
    const there = await lstat(this.#made, { bigint: true }).catch(() => undefined);
    if (there && ours && there.ino === ours.ino && there.dev === ours.dev) {
      await unlink(this.#made).catch(() => {});
    }
  }

  async close(): Promise<void> {
    const opened = [this.#source, this.#sink].filter((fd) => fd !== undefined);
    await Promise.allSettled(opened.map((fd) => close(fd)));
  }
}

function pathOf(name: string, path: unknown): string {
  const expected = 'a path or a file URL';
  const file = parseFile(name, path, expected);
  if (typeof file !== 'string') throw typeError(name, expected, path);
  return file;
}

/** Of something around the transfer; what is an error of an argument stays one. */
function asTransferError(error: NodeJS.ErrnoException, way: Way): Error {
  const { message, code, errno, syscall } = error;
  const isOurs = error instanceof TransferError || code === undefined || errno === undefined;
  if (isOurs) return error;
  const details = { code, errno, syscall, transferred: 0, ...way };
  return new TransferError(message, { ...details, cause: error });
}
