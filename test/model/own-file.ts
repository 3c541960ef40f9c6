// A file of the program's own, which it may truncate while it is read.
import * as fs from 'node:fs';
import { scratchFolder } from '../helpers/files';
import { onTestFinished } from '../helpers/scope';
import { type CorpusFile, closeFile, makeFiles } from './corpus';
import type { Column } from './coverage';
import { type FileTarget, Outlet } from './ends';
import { OWN_BYTES } from './plan';

export class OwnFile implements CorpusFile {
  readonly path: string;
  readonly fd: number;
  readonly handle: CorpusFile['handle'];
  /** As long as the file is by now. */
  content: Buffer;
  readonly #sizes: number[] = [];
  readonly #readers: { outlet: Outlet | FileTarget; isOver: () => boolean }[] = [];

  static async make(): Promise<OwnFile> {
    const [file] = (await makeFiles(scratchFolder(), [OWN_BYTES], 100)) as [CorpusFile];
    onTestFinished(() => closeFile(file));
    return new OwnFile(file);
  }

  private constructor({ path, fd, handle, content }: CorpusFile) {
    this.path = path;
    this.fd = fd;
    this.handle = handle;
    this.content = content;
  }

  /** Somebody reads it. */
  readBy(outlet: Outlet | FileTarget, isOver: () => boolean): void {
    this.#readers.push({ outlet, isOver });
  }

  /** Tells to what kinds of sinks it was on its way. */
  truncate(size: number): Column[] {
    if (size >= this.content.length) return [];
    fs.truncateSync(this.path, size);
    this.content = this.content.subarray(0, size);
    this.#sizes.push(size);
    const readers = this.#readers.filter(({ isOver }) => !isOver()).map(({ outlet }) => outlet);
    // Of a message, or a chunk, whose length was promised; whoever ends the reading before that is known.
    for (const outlet of readers) {
      if (outlet instanceof Outlet && outlet.kind === 'http') outlet.breaksOff();
    }
    return readers.map(({ column }) => column);
  }

  /** Marks a moment: tells how short the file has become since, if it has. */
  watch(): () => number | undefined {
    const before = this.#sizes.length;
    return () => (this.#sizes.length > before ? this.content.length : undefined);
  }
}
