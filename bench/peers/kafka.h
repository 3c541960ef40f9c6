// What the programs in C know of Kafka's protocol: big-endian numbers, the head of a request.
#pragma once
#include "loopback.h"

#include <endian.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

enum { PRODUCE = 0, FETCH = 1, METADATA = 3 };

#define MOST_TOPIC_BYTES 249         // of the broker
#define MOST_REQUEST_HEAD_BYTES 512  // of any request here, without records
#define BATCH_HEADER_BYTES 61        // a record batch's, magic 2
#define BATCH_LENGTH_FOLLOWS 12      // batchLength counts what comes after itself
#define TRIAL_SECONDS 100            // a broker that hangs must not hang the bench

// A cursor: each of these writes, or reads, at `*at`, and moves it on.
static inline void put(unsigned char** at, const void* bytes, size_t size) {
  memcpy(*at, bytes, size);
  *at += size;
}

static inline void put8(unsigned char** at, int8_t value) {
  put(at, &value, 1);
}

static inline void put16(unsigned char** at, int16_t value) {
  uint16_t bytes = htobe16(value);
  put(at, &bytes, 2);
}

static inline void put32(unsigned char** at, int32_t value) {
  uint32_t bytes = htobe32(value);
  put(at, &bytes, 4);
}

static inline void put64(unsigned char** at, int64_t value) {
  uint64_t bytes = htobe64(value);
  put(at, &bytes, 8);
}

static inline void put_string(unsigned char** at, const char* text) {
  put16(at, strlen(text));
  put(at, text, strlen(text));
}

static inline void get(const unsigned char** at, void* bytes, size_t size) {
  memcpy(bytes, *at, size);
  *at += size;
}

static inline int16_t get16(const unsigned char** at) {
  uint16_t bytes;
  get(at, &bytes, 2);
  return be16toh(bytes);
}

static inline int32_t get32(const unsigned char** at) {
  uint32_t bytes;
  get(at, &bytes, 4);
  return be32toh(bytes);
}

static inline int64_t get64(const unsigned char** at) {
  uint64_t bytes;
  get(at, &bytes, 8);
  return be64toh(bytes);
}

// The size is not known yet: set_frame_size.
static inline void put_request_head(unsigned char** at, int api, int version) {
  put32(at, 0);
  put16(at, api);
  put16(at, version);
  put32(at, 0);  // correlation id: answers come in the order of the requests
  put_string(at, "bench");
}

static inline void set_frame_size(unsigned char* frame, const unsigned char* end) {
  put32(&frame, end - frame - 4);
}

static inline void must(int condition, const char* message) {
  if (condition) return;
  fprintf(stderr, "%s: %s\n", program_invocation_short_name, message);
  exit(1);
}

// What a call on a non-blocking descriptor has moved: 0 if it would have blocked.
static inline ssize_t moved_by(ssize_t result, const char* call) {
  if (result < 0 && errno != EAGAIN && errno != EINTR) fail(call);
  return result < 0 ? 0 : result;
}

static inline int connect_to_broker(const char* address, int port) {
  struct sockaddr_in broker = {.sin_family = AF_INET, .sin_port = htons(port)};
  must(inet_pton(AF_INET, address, &broker.sin_addr) == 1, "no such address");
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0) fail("socket");
  if (connect(fd, (struct sockaddr*)&broker, sizeof broker) != 0) fail("connect");
  return fd;
}
