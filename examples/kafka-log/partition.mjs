// The log of a partition: segments, of which the last one grows.
import { mkdir, readdir } from 'node:fs/promises';
import { setBaseOffset } from './batch.mjs';
import { Segment } from './segment.mjs';

export class Partition {
  #folder;
  #segmentBytes;
  /** @type {Segment[]} */
  #segments;
  #lastAppend = Promise.resolve();
  #broken;
  #watchers = new Set();

  constructor(folder, segments, { segmentBytes }) {
    this.#folder = folder;
    this.#segments = segments;
    this.#segmentBytes = segmentBytes;
  }

  /** Opens a partition, or makes it. */
  static async open(folder, options) {
    await mkdir(folder, { recursive: true });
    const names = await readdir(folder);
    const offsets = names.map(Segment.baseOffsetOf).filter((offset) => offset !== undefined);
    offsets.sort((a, b) => a - b);
    const last = offsets.pop();
    if (last === undefined)
      return new Partition(folder, [await Segment.create(folder, 0)], options);
    const segments = [];
    for (const [i, offset] of offsets.entries()) {
      segments.push(await Segment.openSealed(folder, offset, offsets[i + 1] ?? last));
    }
    segments.push(await Segment.openLast(folder, last));
    return new Partition(folder, segments, options);
  }

  /** The offset that the next message gets. */
  get end() {
    return this.#last.nextOffset;
  }

  get #last() {
    return this.#segments.at(-1);
  }

  /**
   * Appends a batch, when those before it are there.
   * @param {ReturnType<import('./batch.mjs').readHeader>} batch
   * @param {Buffer} head its first bytes, in which it gets its base offset
   * @param {(file: import('node:fs/promises').FileHandle, position: number) => Promise<void>} write
   * brings the batch into the file, and rejects if it isn't as it should be
   * @returns {Promise<number>} its base offset
   */
  append(batch, head, write) {
    const append = this.#lastAppend.then(() => this.#append(batch, head, write));
    this.#lastAppend = append.catch(() => {});
    return append;
  }

  async #append(batch, head, write) {
    if (this.#broken) throw this.#broken;
    const { size } = this.#last;
    if (size > 0 && size + batch.size > this.#segmentBytes) await this.#roll();
    const segment = this.#last;
    const baseOffset = segment.nextOffset;
    setBaseOffset(head, baseOffset);
    try {
      await write(segment.file, segment.size);
    } catch (error) {
      // What is there in part must not stay under what comes next.
      await segment.cut().catch((reason) => {
        this.#broken = reason;
      });
      throw error;
    }
    segment.add(batch);
    for (const tell of this.#watchers) tell();
    return baseOffset;
  }

  async #roll() {
    await this.#last.seal();
    this.#segments.push(await Segment.create(this.#folder, this.end));
  }

  /** Calls `tell` at each append. @returns a function that ends it */
  watch(tell) {
    this.#watchers.add(tell);
    return () => this.#watchers.delete(tell);
  }

  has(offset) {
    return offset >= 0 && offset <= this.end;
  }

  /** As Segment's; `offset` may be the end. */
  async find(offset, maxBytes, atLeastOne) {
    if (offset === this.end) return undefined;
    const segment = this.#segments.findLast(({ baseOffset }) => baseOffset <= offset);
    return segment.find(offset, maxBytes, atLeastOne);
  }

  /** The first batch with a message that is not older than `time`. */
  async findTime(time) {
    for (const segment of this.#segments) {
      const batch = await segment.findTime(time);
      if (batch) return batch;
    }
    return undefined;
  }

  /** No more appends are to come. */
  async close() {
    await this.#lastAppend;
    await Promise.all(this.#segments.map(({ file }) => file.close()));
  }
}
