// A file that a transfer writes to: how it is opened, and the transfer's turn there.
import * as fs from 'node:fs';
import * as os from 'node:os';
import { promisify } from 'node:util';
import { systemError } from './errors';
import { because } from './fallback';
import { fstat, openPath } from './file';
import type { Flow, Turn } from './lease';
import { addon, type Completion, type FileEndpoint, type NativeSegments } from './native';
import type { Fallback } from './options';
import { PATIENCE_MS } from './patience';
import type { OpenRange, OpenSource } from './source';
import { valueError } from './validate';

const truncate = promisify(fs.ftruncate);

/** A file as a sink, whose arguments have been found right, not yet opened. */
export interface ParsedFileSink {
  kind: 'file';
  file: string | number;
  offset: number | undefined;
  flags: string;
  /** Of a descriptor that is ours alone. */
  ours?: OwnFile;
}

export interface OwnFile {
  /** What becomes of holes in the source. */
  holes: FileEndpoint['holes'];
  /** Set where what is written to it has been abandoned: its disk doesn't answer. */
  abandoned?: boolean;
}

type Done = (error?: Error | null) => void;

const { O_WRONLY, O_RDWR, O_CREAT, O_EXCL } = fs.constants;
/** Flags that empty a file which is there, and the same without that. */
const EMPTYING: Record<string, number> = { w: O_WRONLY | O_CREAT, 'w+': O_RDWR | O_CREAT };
const RETRY_MS = 10;
const { EIO } = os.constants.errno;

export class FileSink implements Turn {
  readonly queued = false;
  readonly #sink: ParsedFileSink;
  /** What is written to: a descriptor of our own, but for one that can't be held. */
  #fd = -1;
  #opening = false;
  #isOpen = false;
  /** Why native code can't write to it. */
  #fallback: Fallback | undefined;
  #written = 0;
  #id = 0;
  #impatience: NodeJS.Timeout | undefined;
  #writing = false;
  #afterWrite: (() => void) | undefined;
  #abandoned = false;

  /** Holds what was given as a descriptor. Throws a system error where it can't. */
  constructor(sink: ParsedFileSink) {
    this.#sink = sink;
    if (typeof sink.file !== 'number') return;
    this.#fd = sink.file;
    if (!addon.native) return;
    this.#fd = addon.native.duplicate(sink.file).fd;
    this.#isOpen = true;
  }

  /** Opens it. Throws, with nothing written, where the source's own bytes would be overwritten. */
  async open(source: OpenSource): Promise<this> {
    this.#opening = true;
    try {
      await this.#open(source);
      if (this.#abandoned) throw new Error('abandoned');
      return this;
    } catch (error) {
      this.#opening = false;
      this.abandon();
      throw error;
    } finally {
      this.#opening = false;
    }
  }

  async #open(source: OpenSource): Promise<void> {
    const { file } = this.#sink;
    const empties = typeof file === 'string' && (await this.#openPath(file));
    await this.#refuseOverlap(source, empties);
    if (empties && !this.#abandoned) await this.#empty();
    this.#fallback = this.#whyNotNative();
  }

  /** Resolves with whether it is to be emptied yet. */
  async #openPath(path: string): Promise<boolean> {
    const { flags } = this.#sink;
    const emptying = EMPTYING[flags];
    let made: number | undefined;
    if (emptying !== undefined) {
      // Made anew if it isn't there: what was ever truncated to nothing ext4 writes out at close(2).
      // Whatever the error is: the next open tells it, if it stays.
      made = await openPath(path, emptying | O_EXCL).catch(() => undefined);
    }
    this.#fd = made ?? (await openPath(path, emptying ?? flags));
    this.#isOpen = true;
    return emptying !== undefined && made === undefined;
  }

  /** Only what is a file: a device or a pipe has nothing that could be cut off. */
  async #empty(): Promise<void> {
    if ((await fstat(this.#fd)).isFile()) await truncate(this.#fd, 0);
  }

  #whyNotNative(): Fallback | undefined {
    const { native } = addon;
    if (!native) return undefined;
    const { fd, kind } = native.inspect(this.#fd);
    if (fd < 0) return because('UNSUPPORTED', systemError(-fd, 'statx').message);
    if (kind !== 'file') return because('SINK_TYPE', `the sink is not a file but a ${kind}`);
    if (native.isAppending(this.#fd)) {
      return because('SINK_APPEND', 'the sink is opened for appending (O_APPEND)');
    }
    return undefined;
  }

  async #refuseOverlap({ ranges, total }: OpenSource, empties: boolean): Promise<void> {
    if (ranges.length === 0) return;
    const target = await fstat(this.#fd, { bigint: true });
    if (!target.isFile()) return;
    const start = await this.#start(Number(target.size));
    const end = start + (total ?? Number.POSITIVE_INFINITY);
    const overlaps = ({ offset, length = Number.POSITIVE_INFINITY }: OpenRange) =>
      empties || (offset < end && start < offset + length);
    for (const fd of new Set(ranges.map(({ fd }) => fd))) {
      const { ino, dev } = await fstat(fd, { bigint: true });
      if (ino !== target.ino || dev !== target.dev) continue;
      if (ranges.some((range) => range.fd === fd && overlaps(range))) {
        const complaint = empties
          ? 'is the source itself, and opening it would empty it'
          : 'would overwrite the very bytes of the source that are to be moved';
        throw valueError('sink', complaint, this.#sink.file);
      }
    }
  }

  /** Where the first byte will be written. */
  async #start(size: number): Promise<number> {
    const { native } = addon;
    const { offset, file } = this.#sink;
    if (native?.isAppending(this.#fd)) return size;
    return offset ?? (typeof file === 'number' ? (native?.seek(this.#fd) ?? 0) : 0);
  }

  // The turn.

  move(segments: NativeSegments, ended: (completion: Completion) => void): Fallback | undefined {
    return this.#move(ended, (native, sink, heard) => native.copy(segments, sink, heard));
  }

  splice(flow: Flow, ended: (completion: Completion) => void): Fallback | undefined {
    const { source, head, length } = flow;
    return this.#move(ended, (native, sink, heard) =>
      native.splice(source, sink, head, length, heard),
    );
  }

  #move(
    ended: (completion: Completion) => void,
    start: (
      native: NonNullable<typeof addon.native>,
      sink: FileEndpoint,
      heard: (completion: Completion) => void,
    ) => number,
  ): Fallback | undefined {
    const { native } = addon;
    if (this.#fallback) return this.#fallback;
    if (!native) return because('NO_ADDON', 'there is no addon');
    const { file, ours } = this.#sink;
    const sink: FileEndpoint = {
      kind: 'file',
      fd: this.#fd,
      offset: this.#position() ?? undefined,
      maySeek: typeof file === 'string' || ours !== undefined,
      holes: ours?.holes ?? 'any',
    };
    this.#id = start(native, sink, (completion) => {
      this.#id = 0;
      clearTimeout(this.#impatience);
      this.#written += completion.value;
      ended(completion);
    });
    return undefined;
  }

  /** Where the next byte goes; null: wherever the descriptor stands. */
  #position(): number | null {
    const { offset } = this.#sink;
    return offset === undefined ? null : offset + this.#written;
  }

  moved(): number {
    return this.#id === 0 ? 0 : (addon.native?.transferred(this.#id) ?? 0);
  }

  cancel(): void {
    const { native } = addon;
    const id = this.#id;
    if (id === 0) return;
    native?.cancel(id);
    this.#impatience ??= setTimeout(() => {
      if (this.#sink.ours) this.#sink.ours.abandoned = true;
      native?.abandon(id);
    }, PATIENCE_MS);
  }

  write(chunk: Uint8Array, done: Done): void {
    if (this.#abandoned) return; // and closed: the number may be another file's
    if (this.#sink.ours?.holes === 'kept' && isZero(chunk)) {
      this.#written += chunk.length;
      process.nextTick(done);
      return;
    }
    this.#writing = true;
    fs.write(this.#fd, chunk, 0, chunk.length, this.#position(), (error, bytes) => {
      this.#writing = false;
      if (!error) this.#written += bytes;
      this.#afterWrite?.();
      if (this.#abandoned) return;
      // A descriptor in non-blocking mode that is full, of a pipe say.
      if (error?.code === 'EAGAIN') return void setTimeout(() => this.write(chunk, done), RETRY_MS);
      if (error) return done(error);
      // Who takes nothing and says nothing has failed: FUSE servers can. It would go on for ever.
      if (bytes === 0 && chunk.length > 0) return done(systemError(EIO, 'write'));
      if (bytes === chunk.length) done();
      else this.write(chunk.subarray(bytes), done);
    });
  }

  release(): void {}

  /** Bytes that it has taken, of this transfer. */
  get written(): number {
    return this.#written;
  }

  /** Calls back when the disk has answered, or is not going to. */
  whenWritten(then: () => void): void {
    if (!this.#writing) return then();
    const impatience = setTimeout(then, PATIENCE_MS);
    this.#afterWrite = () => {
      clearTimeout(impatience);
      then();
    };
  }

  // The end.

  /** Closes what was opened, and only then has the disk's last word. */
  finish(done: Done): void {
    this.#close(done);
  }

  /** Leaves the file as it is. */
  abandon(): void {
    this.#abandoned = true;
    // Not under a call that is on its way: the number might be another file's when it is made.
    if (this.#opening) return;
    if (this.#writing) this.#afterWrite = () => this.#close(() => {});
    else this.#close(() => {});
  }

  #close(done: Done): void {
    const fd = this.#fd;
    if (!this.#isOpen) return done();
    this.#isOpen = false;
    if (typeof this.#sink.file === 'string') return fs.close(fd, done);
    addon.native?.release(fd);
    done();
  }
}

const zeros = Buffer.alloc(64 * 1024);

function isZero(chunk: Uint8Array): boolean {
  return zeros.subarray(0, chunk.length).equals(chunk);
}
