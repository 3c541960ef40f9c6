// A record batch, version 2: https://kafka.apache.org/documentation/#recordbatch
// A client makes it, the log keeps it, a client reads it. Nothing here looks beyond its header.
import { crc32c } from '@node-rs/crc32';
import { ErrorCode } from './protocol.mjs';

export const HEADER_BYTES = 61;

const MAGIC = 2;
const PREFIX_BYTES = 12; // base offset and length, which the length doesn't count
const CHECKED_FROM = 21; // what the CRC covers goes from here to the end

/** @param {Buffer} head whose first HEADER_BYTES are a header */
export function readHeader(head) {
  return {
    baseOffset: Number(head.readBigInt64BE(0)),
    size: head.readInt32BE(8) + PREFIX_BYTES,
    magic: head.readInt8(16), // in versions 0 and 1 too
    crc: head.readUInt32BE(17),
    lastOffsetDelta: head.readInt32BE(23),
    maxTimestamp: Number(head.readBigInt64BE(35)),
    count: head.readInt32BE(57),
  };
}

/** What is wrong with a batch that should have `size` bytes, as far as its header tells. */
export function faultOf({ magic, size: own, lastOffsetDelta, count }, size) {
  if (magic !== MAGIC) return ErrorCode.UNSUPPORTED_FOR_MESSAGE_FORMAT;
  const agrees = own === size && count > 0 && lastOffsetDelta === count - 1;
  return agrees ? ErrorCode.NONE : ErrorCode.INVALID_RECORD;
}

/** The one thing that is changed in a batch, and that its CRC doesn't cover. */
export function setBaseOffset(header, baseOffset) {
  header.writeBigInt64BE(BigInt(baseOffset));
}

/** CRC-32C of a batch in pieces, of which the first has its header. */
export function crcOf([head, ...rest]) {
  return rest.reduce((crc, piece) => crc32c(piece, crc), crc32c(head.subarray(CHECKED_FROM)));
}

const WINDOW_BYTES = 1024 * 1024;
const windows = [];

/** CRC-32C of a batch in a file, `size` bytes from `position`. */
export async function crcInFile(file, position, size) {
  const window = windows.pop() ?? Buffer.allocUnsafeSlow(WINDOW_BYTES);
  try {
    let crc = 0;
    const end = position + size;
    for (let at = position + CHECKED_FROM; at < end; ) {
      const { bytesRead } = await file.read(window, 0, Math.min(end - at, WINDOW_BYTES), at);
      if (bytesRead === 0) return undefined;
      crc = crc32c(window.subarray(0, bytesRead), crc);
      at += bytesRead;
    }
    return crc;
  } finally {
    windows.push(window);
  }
}
