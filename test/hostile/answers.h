// What is asked for, and what comes back: heads of answers, HTTP's chunks, and bodies of which
// every byte is checked.
#pragma once
#include "marks.h"
#include "options.h"

#define MOST_HEAD_BYTES 2048

typedef struct {
  uint32_t mark;
  uint64_t offset, length;
  uint32_t name;  // of a file that is made of it
} Range;

typedef enum { HEAD, BODY, CHUNK_HEAD, CHUNK_END } Part;

// An answer on its way.
typedef struct {
  Part part;
  char head[MOST_HEAD_BYTES];
  size_t head_size;
  int chunked, refused;
  uint64_t at;    // of the body, which is whole at the range's length
  uint64_t left;  // in the body, or in its chunk
} Answer;

// Says where bytes that are wrong belong, if that can be told.
static inline void whose(char* text, size_t size, const unsigned char* bytes, size_t length,
                         uint64_t offset, const Options* options) {
  size_t skip = (4 - offset % 4) % 4;
  snprintf(text, size, "nobody's that is known");
  if (length < skip + 4) return;
  uint32_t word;
  memcpy(&word, bytes + skip, 4);
  for (int i = 0; i < options->file_count; ++i) {
    uint64_t place = place_of(word, options->files[i].mark);
    if (place >= options->files[i].size) continue;
    snprintf(text, size, "of file %u, at %llu", options->files[i].mark, (unsigned long long)place);
    return;
  }
  uint32_t zero = 0;
  if (memcmp(&word, &zero, 4) == 0) snprintf(text, size, "zeros");
}

// NULL if these are the bytes of a file at that offset; else what is wrong.
static inline const char* check_bytes(const unsigned char* bytes, size_t length, uint32_t mark,
                                      uint64_t offset, const Options* options) {
  static unsigned char wanted[1 << 16];
  static char complaint[300];
  for (size_t at = 0; at < length;) {
    size_t size = length - at < sizeof wanted ? length - at : sizeof wanted;
    fill(wanted, size, mark, offset + at);
    if (memcmp(wanted, bytes + at, size) == 0) {
      at += size;
      continue;
    }
    size_t first = 0;
    while (wanted[first] == bytes[at + first]) ++first;
    char owner[100];
    whose(owner, sizeof owner, bytes + at + first, length - at - first, offset + at + first,
          options);
    snprintf(complaint, sizeof complaint, "WRONG BYTES in file %u at %llu: %s", mark,
             (unsigned long long)(offset + at + first), owner);
    return complaint;
  }
  return NULL;
}

static inline const char* header_of(const char* head, const char* name) {
  size_t size = strlen(name);
  for (const char* line = strstr(head, "\r\n"); line; line = strstr(line + 2, "\r\n"))
    if (strncasecmp(line + 2, name, size) == 0) return line + 2 + size;
  return NULL;
}

// A head that has come whole. NULL, or what is wrong with it.
static inline const char* read_http_head(Answer* answer, Range range, const Options* options) {
  int status;
  if (sscanf(answer->head, "HTTP/1.1 %d ", &status) != 1) return "NO ANSWER where one begins";
  const char* length = header_of(answer->head, "Content-Length: ");
  answer->chunked = header_of(answer->head, "Transfer-Encoding: chunked") != NULL;
  answer->refused = status / 100 != 2;
  answer->left = length ? strtoull(length, NULL, 10) : 0;
  answer->part = answer->chunked ? CHUNK_HEAD : BODY;
  if (answer->refused) return NULL;
  if (options->kind == GET && !answer->chunked && answer->left != range.length)
    return "ANOTHER LENGTH than that of what was asked for";
  return NULL;
}

// Of the other services: mark, offset and length, or why there are none.
static inline const char* read_raw_head(Answer* answer, Range range) {
  unsigned mark;
  unsigned long long offset, length;
  answer->part = BODY;
  answer->refused = strncmp(answer->head, "error ", 6) == 0;
  if (answer->refused) return NULL;
  if (sscanf(answer->head, "%u %llu %llu\n", &mark, &offset, &length) != 3)
    return "NO ANSWER where one begins";
  if (mark != range.mark || offset != range.offset || length != range.length)
    return "ANOTHER ANSWER than that to what was asked";
  answer->left = length;
  return NULL;
}

// Takes bytes of an answer, and says how many; 0, with a complaint, if they are wrong. The answer
// is whole when `*whole` says so.
static inline size_t take(Answer* answer, const unsigned char* bytes, size_t length, Range range,
                          const Options* options, int* whole, const char** complaint) {
  int http = options->kind == GET || options->kind == PUT;
  *whole = 0;
  if (answer->part == BODY) {
    size_t size = length < answer->left ? length : answer->left;
    if (!answer->refused && answer->at + size > range.length) {
      *complaint = "MORE BYTES than were asked for";
      return 0;
    }
    if (!answer->refused)
      *complaint = check_bytes(bytes, size, range.mark, range.offset + answer->at, options);
    if (*complaint) return 0;
    answer->at += size;
    answer->left -= size;
    if (answer->left > 0) return size;
    if (answer->chunked)
      answer->part = CHUNK_END;
    else
      *whole = 1;
    return size;
  }
  // A line, or the lines of a head, byte by byte: they are few.
  for (size_t taken = 0; taken < length;) {
    if (answer->head_size + 1 >= sizeof answer->head) {
      *complaint = "NO END to a head";
      return 0;
    }
    answer->head[answer->head_size++] = bytes[taken++];
    answer->head[answer->head_size] = '\0';
    const char* end = answer->part == HEAD && http ? "\r\n\r\n" : http ? "\r\n" : "\n";
    size_t end_size = strlen(end);
    if (answer->head_size < end_size ||
        strcmp(answer->head + answer->head_size - end_size, end) != 0)
      continue;
    if (answer->part == HEAD) {
      *complaint = http ? read_http_head(answer, range, options) : read_raw_head(answer, range);
    } else if (answer->part == CHUNK_END) {
      if (answer->head_size != 2) *complaint = "NO END to a chunk";
      answer->part = CHUNK_HEAD;
      *whole = answer->chunked == 2;
      if (*whole && !answer->refused && answer->at != range.length)
        *complaint = "FEWER BYTES than were asked for";
    } else {
      char* after;
      answer->left = strtoull(answer->head, &after, 16);
      if (after == answer->head || *after != '\r') *complaint = "NO SIZE of a chunk";
      // The last one's end is the end of the trailer, of which there is none.
      if (answer->left == 0) answer->chunked = 2;
      answer->part = answer->left == 0 ? CHUNK_END : BODY;
    }
    answer->head_size = 0;
    if (*complaint) return 0;
    if (answer->part == BODY && answer->left == 0) *whole = 1;
    return taken;
  }
  return length;
}
