// Kafka's encoding by table (https://kafka.apache.org/protocol), without its "flexible" versions.
//
// A type reads and writes a value. A reader yields how many bytes it needs next, and is given them: a
// frame is decoded while it comes, and what stands between the fields need never be in memory.

/** What came isn't what the protocol says. The connection is of no more use. */
export class ProtocolError extends Error {}

const number = (size, name) => {
  const { [`read${name}`]: read, [`write${name}`]: write } = Buffer.prototype;
  return {
    *read() {
      return read.call(yield size);
    },
    write(to, value) {
      const at = to.grow(size);
      write.call(to.bytes, value, at);
    },
  };
};

export const int8 = number(1, 'Int8');
export const int16 = number(2, 'Int16BE');
export const int32 = number(4, 'Int32BE');

/** Offsets and times: far from 2 ** 53. */
export const int64 = {
  *read() {
    return Number((yield 8).readBigInt64BE());
  },
  write(to, value) {
    const at = to.grow(8);
    to.bytes.writeBigInt64BE(BigInt(value), at);
  },
};

export const boolean = {
  *read() {
    return (yield* int8.read()) !== 0;
  },
  write: (to, value) => int8.write(to, value ? 1 : 0),
};

export const nullableString = {
  *read() {
    const length = yield* int16.read();
    return length < 0 ? null : (yield length).toString();
  },
  write(to, value) {
    if (value === null) return int16.write(to, -1);
    const length = Buffer.byteLength(value);
    int16.write(to, length);
    const at = to.grow(length);
    to.bytes.write(value, at);
  },
};

export const string = {
  *read() {
    const value = yield* nullableString.read();
    if (value === null) throw new ProtocolError('a string is null');
    return value;
  },
  write: nullableString.write,
};

export const nullableArray = (type) => ({
  *read(version, within) {
    const count = yield* int32.read();
    if (count < 0) return null;
    const values = [];
    while (values.length < count) values.push(yield* type.read(version, within));
    return values;
  },
  write(to, values, version) {
    int32.write(to, values === null ? -1 : values.length);
    for (const value of values ?? []) type.write(to, value, version);
  },
});

export const array = (type) => {
  const { read, write } = nullableArray(type);
  return {
    *read(version, within) {
      return (yield* read(version, within)) ?? [];
    },
    write,
  };
};

/**
 * Record batches. Whoever decodes is asked to take them where they are, and is told within what, from
 * the outermost structure inwards; in an answer they are a range of a file.
 */
export const records = {
  *read(_version, within) {
    const size = yield* int32.read();
    return yield { size, within };
  },
  write(to, range) {
    int32.write(to, range?.length ?? 0);
    if (range) to.append(range);
  },
};

/** A field that came with a version of the API. */
export const since = (version, type) => ({ ...type, since: version });

/** @param {Record<string, { read, write, since?: number }>} fields in their order */
export const struct = (fields) => {
  const named = Object.entries(fields);
  return {
    *read(version, outside = []) {
      const value = {};
      const within = [...outside, value];
      for (const [name, type] of named) {
        if (version >= (type.since ?? 0)) value[name] = yield* type.read(version, within);
      }
      return value;
    },
    write(to, value, version) {
      for (const [name, type] of named) {
        if (version >= (type.since ?? 0)) type.write(to, value[name], version);
      }
    },
  };
};

/**
 * Decodes what a frame holds.
 * @param {import('./connection.mjs').Frame} frame
 * @param {(records: { size: number, within: object[] }) => unknown} [takeRecords]
 */
export async function decode(frame, type, version, takeRecords) {
  const reading = type.read(version);
  let { done, value } = reading.next();
  while (!done) {
    const answer = typeof value === 'number' ? frame.take(value) : takeRecords(value);
    // Most often the bytes are there.
    ({ done, value } = reading.next(answer instanceof Promise ? await answer : answer));
  }
  return value;
}

const FIRST_BYTES = 512;
const LENGTH_BYTES = 4;

/** A frame in the making: a gather list of memory and ranges of files. */
class Writer {
  bytes = Buffer.allocUnsafe(FIRST_BYTES);
  #used = 0;
  #segments = [];
  #appended = 0;

  /** Where the next `count` bytes of `bytes` are, which are there from now on. */
  grow(count) {
    const at = this.#used;
    this.#used += count;
    if (this.#used > this.bytes.length) {
      const larger = Buffer.allocUnsafe(2 * this.#used);
      this.bytes.copy(larger, 0, 0, at);
      this.bytes = larger;
    }
    return at;
  }

  append(range) {
    this.#cut();
    this.#segments.push(range);
    this.#appended += range.length;
  }

  /** The gather list, its first four bytes telling the length of the rest. */
  finish() {
    this.#cut();
    const [first] = this.#segments;
    first.writeInt32BE(this.#appended - LENGTH_BYTES);
    return this.#segments;
  }

  #cut() {
    if (this.#used === 0) return;
    this.#segments.push(this.bytes.subarray(0, this.#used));
    this.#appended += this.#used;
    this.bytes = this.bytes.subarray(this.#used);
    this.#used = 0;
  }
}

/** Encodes a frame. @returns a gather list */
export function encode(correlationId, type, version, value) {
  const to = new Writer();
  to.grow(LENGTH_BYTES);
  int32.write(to, correlationId);
  type.write(to, value, version);
  return to.finish();
}
