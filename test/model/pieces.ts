// What a reader must have got: byte strings in order, of some of which only bounds are known.

/** Of `bytes` the first `least` to `most` have been sent. */
export interface Piece {
  what: string;
  bytes: Buffer;
  least: number;
  most: number;
  /** From here on each byte may be 0: the kernel wipes what it cuts off a file. */
  wipedFrom?: number | undefined;
}

export const exactly = (what: string, bytes: Buffer): Piece => ({
  what,
  bytes,
  least: bytes.length,
  most: bytes.length,
});

const BLOCK = 4096;

/** How many of the first `most` bytes of a piece are those that have been received from `at` on. */
export function common(received: Buffer, at: number, { bytes, most, wipedFrom }: Piece): number {
  const end = Math.min(most, received.length - at);
  const sameUntil = Math.min(end, wipedFrom ?? end);
  let n = 0;
  if (sameUntil > 0 && received[at] !== bytes[0]) return 0;
  while (
    n + BLOCK <= sameUntil &&
    received.compare(bytes, n, n + BLOCK, at + n, at + n + BLOCK) === 0
  ) {
    n += BLOCK;
  }
  while (n < sameUntil && received[at + n] === bytes[n]) n += 1;
  if (n < sameUntil) return n;
  while (n < end && (received[at + n] === bytes[n] || received[at + n] === 0)) n += 1;
  return n;
}

/**
 * What is wrong with the bytes that were received; undefined when they are the pieces in order, or,
 * unless they must be `whole`, a beginning of that.
 */
export function mismatch(received: Buffer, pieces: Piece[], whole: boolean): string | undefined {
  // Where the next piece may begin: more than one place, behind a piece of uncertain length.
  let starts = new Set([0]);
  for (const piece of pieces) {
    const ends = new Set<number>();
    let furthest = { at: 0, same: -1 };
    for (const at of starts) {
      const same = common(received, at, piece);
      if (!whole && at + same === received.length) return undefined;
      for (let end = piece.least; end <= same; end++) ends.add(at + end);
      if (at + same > furthest.at + furthest.same) furthest = { at, same };
    }
    if (ends.size === 0) {
      const { at, same } = furthest;
      return `${piece.what}: ${piece.least} to ${piece.most} bytes should come from ${at} on, ${same} did, of ${received.length} in all`;
    }
    starts = ends;
  }
  if (starts.has(received.length)) return undefined;
  return `${received.length} bytes came, and not ${[...starts].slice(0, 5).join(' or ')}`;
}
