// A file of record batches, as they came, and what it takes to find one of them.
import { open, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { crcInFile, faultOf, HEADER_BYTES, readHeader } from './batch.mjs';

const INDEX_INTERVAL_BYTES = 4096;
const WINDOW_BYTES = 16 * 1024; // a few intervals, since a walk begins at an entry
const SUFFIX = '.log';

/**
 * Where some batches are: those that begin at least an interval behind the last one that is here.
 * An entry has the offset and the position of its batch, and the latest time of all batches before it.
 */
class Index {
  static #ENTRY_BYTES = 24;
  offsets = [];
  positions = [];
  #times = [];

  add(offset, position, time) {
    this.offsets.push(offset);
    this.positions.push(position);
    this.#times.push(time);
  }

  isDue(position) {
    return this.positions.length === 0 || position >= this.positions.at(-1) + INDEX_INTERVAL_BYTES;
  }

  /** The last entry that isn't behind `offset`. */
  find(offset) {
    const i = lastAtMost(this.offsets, offset);
    return { offset: this.offsets[i], position: this.positions[i] };
  }

  /** Where to begin to look for what is not older than a time. */
  positionByTime(time) {
    return this.positions[lastAtMost(this.#times, time - 1)] ?? 0;
  }

  boundaryAtOrBefore(position) {
    return this.positions[lastAtMost(this.positions, position)] ?? 0;
  }

  encode() {
    const numbers = this.offsets.flatMap((offset, i) => [
      offset,
      this.positions[i],
      this.#times[i],
    ]);
    return Buffer.from(BigInt64Array.from(numbers, BigInt).buffer);
  }

  /** Undefined where the bytes aren't an index of such offsets in a file of `size` bytes. */
  static decode(bytes, baseOffset, nextOffset, size) {
    if (bytes.length === 0 || bytes.length % Index.#ENTRY_BYTES > 0) return undefined;
    const index = new Index();
    const numbers = new BigInt64Array(bytes.length / BigInt64Array.BYTES_PER_ELEMENT);
    bytes.copy(new Uint8Array(numbers.buffer));
    for (let i = 0; i < numbers.length; i += 3) {
      const [offset, position, time] = Array.from(numbers.subarray(i, i + 3), Number);
      const follows =
        i === 0
          ? offset === baseOffset && position === 0
          : offset > index.offsets.at(-1) && position > index.positions.at(-1);
      if (!follows || offset >= nextOffset || position >= size) return undefined;
      index.add(offset, position, time);
    }
    return index;
  }
}

/** Where in a growing list the last number is that is at most `limit`; -1 for none. */
function lastAtMost(numbers, limit) {
  let low = 0;
  let high = numbers.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (numbers[middle] <= limit) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

export class Segment {
  baseOffset;
  nextOffset;
  /** @type {import('node:fs/promises').FileHandle} */
  file;
  /** Bytes of whole batches. */
  size = 0;
  #path;
  #index = new Index();
  #latest = -1;

  constructor(folder, baseOffset) {
    this.#path = path.join(folder, `${baseOffset}`.padStart(20, '0'));
    this.baseOffset = baseOffset;
    this.nextOffset = baseOffset;
  }

  /** The base offset in a file's name; undefined for other files. */
  static baseOffsetOf(name) {
    return /^\d{20}\.log$/.test(name) ? Number.parseInt(name, 10) : undefined;
  }

  static async create(folder, baseOffset) {
    const segment = new Segment(folder, baseOffset);
    segment.file = await open(segment.#path + SUFFIX, 'wx+');
    return segment;
  }

  /** Opens one that has a successor, which begins with `nextOffset`. */
  static async openSealed(folder, baseOffset, nextOffset) {
    const segment = await Segment.#open(folder, baseOffset);
    const { size } = await segment.file.stat();
    const bytes = await readIfThere(segment.#indexPath);
    const index = Index.decode(bytes, baseOffset, nextOffset, size);
    if (!index) {
      await segment.#scan(size);
      await segment.seal();
    } else {
      segment.#index = index;
      segment.size = size;
      segment.nextOffset = nextOffset;
    }
    return segment;
  }

  /** Opens the last one, and cuts off what isn't whole at its end. */
  static async openLast(folder, baseOffset) {
    const segment = await Segment.#open(folder, baseOffset);
    const { size } = await segment.file.stat();
    await segment.#scan(size);
    if (segment.size < size) await segment.cut();
    return segment;
  }

  static async #open(folder, baseOffset) {
    const segment = new Segment(folder, baseOffset);
    segment.file = await open(segment.#path + SUFFIX, 'r+');
    return segment;
  }

  get #indexPath() {
    return `${this.#path}.index`;
  }

  /** Takes up all batches that are whole and follow each other. */
  async #scan(size) {
    for await (const batch of this.#batches(0, size)) {
      if (batch.baseOffset !== this.nextOffset || faultOf(batch, batch.size)) return;
      if (batch.size < HEADER_BYTES || batch.size > size - this.size) return;
      if ((await crcInFile(this.file, this.size, batch.size)) !== batch.crc) return;
      this.add(batch);
    }
  }

  /** A batch that is in the file now, behind the others. */
  add({ size, count, maxTimestamp }) {
    if (this.#index.isDue(this.size)) {
      this.#index.add(this.nextOffset, this.size, this.#latest);
    }
    this.#latest = Math.max(this.#latest, maxTimestamp);
    this.size += size;
    this.nextOffset += count;
  }

  /** Forgets what was written behind the last whole batch. */
  cut() {
    return this.file.truncate(this.size);
  }

  /** No batch will follow. */
  async seal() {
    const temporary = `${this.#indexPath}.new`;
    await writeFile(temporary, this.#index.encode());
    await rename(temporary, this.#indexPath);
  }

  /**
   * A range of whole batches of which the first holds `offset`: at most `maxBytes`, but for a single
   * batch that has more where `atLeastOne`. Undefined if nothing fits.
   */
  async find(offset, maxBytes, atLeastOne) {
    const position = await this.#positionOf(offset);
    const limit = position + maxBytes;
    let end = limit < this.size ? this.#index.boundaryAtOrBefore(limit) : this.size;
    if (end <= position) end = await this.#endBefore(limit, position, atLeastOne);
    if (end === position) return undefined;
    return { file: this.file, offset: position, length: end - position };
  }

  async #positionOf(offset) {
    const entry = this.#index.find(offset);
    // Ranges end at entries, so whoever reads on begins at one.
    if (entry.offset === offset) return entry.position;
    for await (const { position, baseOffset, count } of this.#batches(entry.position)) {
      if (offset < baseOffset + count) return position;
    }
    throw new Error(`offset ${offset} is not in ${this.#path}`);
  }

  async #endBefore(limit, from, atLeastOne) {
    let end = from;
    for await (const { position, size } of this.#batches(from)) {
      if (position + size > limit && !(atLeastOne && position === from)) break;
      end = position + size;
    }
    return end;
  }

  /** The first batch with a message that is not older than `time`. */
  async findTime(time) {
    for await (const batch of this.#batches(this.#index.positionByTime(time))) {
      if (batch.maxTimestamp >= time) return batch;
    }
    return undefined;
  }

  async *#batches(from, size = this.size) {
    const window = Buffer.allocUnsafe(WINDOW_BYTES);
    let start = 0;
    let filled = 0;
    for (let position = from; position + HEADER_BYTES <= size; ) {
      if (position < start || position + HEADER_BYTES > start + filled) {
        start = position;
        filled = (await this.file.read(window, 0, WINDOW_BYTES, start)).bytesRead;
        if (filled < HEADER_BYTES) return;
      }
      const batch = readHeader(window.subarray(position - start));
      yield { position, ...batch };
      position += batch.size;
    }
  }
}

async function readIfThere(file) {
  try {
    const handle = await open(file);
    try {
      return await handle.readFile();
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (error.code === 'ENOENT') return Buffer.alloc(0);
    throw error;
  }
}
