// What a client sends, in exact numbers of bytes.
import { ProtocolError } from './codec.mjs';

const MAX_FRAME_BYTES = 100 * 1024 * 1024;
/** Of a frame without its records: what has to be in memory. */
const MAX_FIELDS_BYTES = 1024 * 1024;
const NOTHING = Buffer.alloc(0);

/** The client has gone. */
export class ConnectionClosed extends Error {}

export class Connection {
  /** @type {import('node:net').Socket} */
  socket;
  #wake = () => {};

  constructor(socket) {
    this.socket = socket;
    const wake = () => this.#wake();
    socket.on('readable', wake).on('end', wake).on('close', wake);
    socket.on('error', () => {}); // 'close' follows
  }

  get peer() {
    return `${this.socket.remoteAddress}:${this.socket.remotePort}`;
  }

  /** The next frame; undefined where the client has ended instead. */
  async nextFrame() {
    const length = this.#read(4) ?? (await this.#whenReadable(4));
    return length && new Frame(this, length.readInt32BE());
  }

  /** @returns {Buffer | Promise<Buffer>} */
  take(count) {
    if (count === 0) return NOTHING;
    return this.#read(count) ?? this.#whenReadable(count).then(mustBe);
  }

  /**
   * The same in pieces: who asks a socket for more than its highWaterMark raises that, and it reads
   * ahead as much from then on, of what may be meant for the kernel.
   */
  async *pieces(count) {
    const { socket } = this;
    for (let left = count; left > 0; ) {
      const there = socket.readableLength || left;
      const piece = await this.take(Math.min(left, there, socket.readableHighWaterMark));
      left -= piece.length;
      yield piece;
    }
  }

  /** Drops as many bytes. */
  async skip(count) {
    for await (const _piece of this.pieces(count));
  }

  #read(count) {
    const bytes = this.socket.read(count) ?? undefined;
    // At its end a stream gives what it has.
    if (bytes && bytes.length < count) mustBe(undefined);
    return bytes;
  }

  /** Undefined where the client has ended, or closed. */
  async #whenReadable(count) {
    const { socket } = this;
    let bytes;
    while (!bytes && !socket.readableEnded && !socket.destroyed) {
      await new Promise((resolve) => {
        this.#wake = resolve;
      });
      bytes = this.#read(count);
    }
    return bytes;
  }
}

function mustBe(bytes) {
  if (!bytes) throw new ConnectionClosed('the client has gone in mid-frame');
  return bytes;
}

/** A request: a number of bytes, some of which may not have come yet. */
export class Frame {
  #connection;
  #left;
  #fieldsLeft = MAX_FIELDS_BYTES;
  #loaded = NOTHING;

  constructor(connection, length) {
    if (length < 0 || length > MAX_FRAME_BYTES) {
      throw new ProtocolError(`a frame of ${length} bytes`);
    }
    this.#connection = connection;
    this.#left = length;
  }

  /** Takes all the rest of it into memory. */
  async load() {
    this.#loaded = await this.take(this.#left);
    this.#left = this.#loaded.length;
  }

  /** Takes bytes of a field into memory. @returns {Buffer | Promise<Buffer>} */
  take(count) {
    if (count <= this.#loaded.length) {
      const bytes = this.#loaded.subarray(0, count);
      this.#loaded = this.#loaded.subarray(count);
      this.#left -= count;
      return bytes;
    }
    this.#fieldsLeft -= count;
    if (this.#fieldsLeft < 0) throw new ProtocolError('fields without end');
    this.claim(count);
    return this.#connection.take(count);
  }

  /** Counts bytes as taken that the caller takes from the connection. */
  claim(count) {
    if (count > this.#left) throw new ProtocolError('a field beyond the end of its frame');
    this.#left -= count;
  }

  /** The rest of it is of no interest. */
  async skipRest() {
    const left = this.#left;
    this.#left = 0;
    await this.#connection.skip(left);
  }

  mustBeOver() {
    if (this.#left > 0) throw new ProtocolError(`${this.#left} bytes behind the last field`);
  }
}
