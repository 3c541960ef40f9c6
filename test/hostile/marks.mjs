// What files are filled with, so that each of their bytes tells whose it is. The same as marks.h.

/** @param {number} word */
function mix(word) {
  let mixed = Math.imul(word ^ (word >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return mixed ^ (mixed >>> 16);
}

/**
 * What a file of that mark has from `offset` on.
 * @param {number} mark
 * @param {number} length
 */
export function contentOf(mark, length, offset = 0) {
  const first = Math.floor(offset / 4);
  const words = new Uint32Array(Math.ceil((offset + length) / 4) - first);
  const own = mix(mark);
  for (let i = 0; i < words.length; i++) words[i] = mix((first + i) ^ own);
  return Buffer.from(words.buffer, offset % 4, length);
}
