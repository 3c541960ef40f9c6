// What files are filled with, so that each of their bytes tells whose it is: words of 32 bits,
// little endian, each a mix of the file's mark and of the word's place. The same as marks.mjs.
#pragma once
#include <endian.h>
#include <stdint.h>
#include <string.h>

// The finalizer of MurmurHash3, and what undoes it.
static inline uint32_t mix(uint32_t word) {
  word = (word ^ word >> 16) * 0x85ebca6bu;
  word = (word ^ word >> 13) * 0xc2b2ae35u;
  return word ^ word >> 16;
}

static inline uint32_t unmix(uint32_t word) {
  word = (word ^ word >> 16) * 0x7ed1b41du;
  word = (word ^ word >> 13 ^ word >> 26) * 0xa5cb9243u;
  return word ^ word >> 16;
}

static inline uint32_t word_of(uint32_t mark, uint64_t index) {
  return mix((uint32_t)index ^ mix(mark));
}

// What a file of that mark has at `offset`.
static inline void fill(unsigned char* bytes, size_t length, uint32_t mark, uint64_t offset) {
  uint64_t index = offset / 4;
  size_t within = offset % 4;
  for (size_t at = 0; at < length; ++index, within = 0) {
    uint32_t word = htole32(word_of(mark, index));
    size_t size = 4 - within < length - at ? 4 - within : length - at;
    memcpy(bytes + at, (unsigned char*)&word + within, size);
    at += size;
  }
}

// Where a word of the file of a mark stands there; beyond any file, if it isn't one of its words.
static inline uint64_t place_of(uint32_t word, uint32_t mark) {
  return (uint64_t)(unmix(le32toh(word)) ^ mix(mark)) * 4;
}
