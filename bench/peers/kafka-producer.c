// A producer to a Kafka log, as cheap as can be, so that the broker is what is measured.
//
//   kafka-producer poll|sleep ADDRESS PORT TOPIC RECORDS BATCHES IN_FLIGHT
//
// Makes TOPIC if it isn't there, and sends a batch of RECORDS records of 1 KiB to its partition 0,
// BATCHES times, with acks=1 and at most IN_FLIGHT of them unanswered. Checks that each answer's
// offset continues. Prints as JSON the bytes of the batches and the seconds from the first byte
// sent to the last answer.
//
// With `poll` it never sleeps, so that the broker does not pay for waking it up (see receiver.c).
#include "kafka.h"

#include <netinet/tcp.h>
#include <poll.h>

#define RECORD_VALUE_BYTES 1024
#define MOST_RECORD_BYTES (RECORD_VALUE_BYTES + 16)
#define ANSWER_BYTES 44  // of Produce 3 with one partition, and its topic's name
#define TIMEOUT_MS 30000

static int sleeps;

typedef struct {
  unsigned char* frame;
  size_t size;
  size_t batch_size;
} Request;

// As Kafka has numbers in records: zigzag, seven bits a byte.
static void put_varint(unsigned char** at, int32_t value) {
  uint32_t left = ((uint32_t)value << 1) ^ (uint32_t)(value >> 31);
  for (; left >= 0x80; left >>= 7) put8(at, (left & 0x7f) | 0x80);
  put8(at, left);
}

static void put_record(unsigned char** at, int number) {
  unsigned char record[MOST_RECORD_BYTES];
  unsigned char* end = record;
  put8(&end, 0);        // attributes
  put_varint(&end, 0);  // timestamp delta
  put_varint(&end, number);
  put_varint(&end, -1);  // no key
  put_varint(&end, RECORD_VALUE_BYTES);
  for (int i = 0; i < RECORD_VALUE_BYTES; ++i) *end++ = (number * 31 + i * 7) >> 1;
  put_varint(&end, 0);  // no headers
  put_varint(at, end - record);
  put(at, record, end - record);
}

static uint32_t crc32c(const unsigned char* bytes, size_t size) {
  uint32_t crc = ~0u;
  for (size_t i = 0; i < size; ++i) {
    crc ^= bytes[i];
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (0x82f63b78 & -(crc & 1));
  }
  return ~crc;
}

static void put_batch(unsigned char** at, int records) {
  unsigned char* batch = *at;
  unsigned char* records_at = batch + BATCH_HEADER_BYTES;
  for (int i = 0; i < records; ++i) put_record(&records_at, i);
  put64(at, 0);  // base offset: the broker's to give
  put32(at, records_at - batch - BATCH_LENGTH_FOLLOWS);
  put32(at, -1);  // leader epoch
  put8(at, 2);    // magic
  unsigned char* crc_at = *at;
  put32(at, 0);
  unsigned char* checked = *at;
  put16(at, 0);  // attributes
  put32(at, records - 1);
  put64(at, 0);   // base timestamp
  put64(at, 0);   // max timestamp
  put64(at, -1);  // producer id
  put16(at, -1);  // producer epoch
  put32(at, -1);  // base sequence
  put32(at, records);
  put32(&crc_at, crc32c(checked, records_at - checked));
  *at = records_at;
}

static Request prepare_produce(const char* topic, int records) {
  size_t most = MOST_REQUEST_HEAD_BYTES + BATCH_HEADER_BYTES + (size_t)records * MOST_RECORD_BYTES;
  Request request = {.frame = malloc(most)};
  if (!request.frame) fail("malloc");
  unsigned char* at = request.frame;
  put_request_head(&at, PRODUCE, 3);
  put16(&at, -1);  // no transactional id
  put16(&at, 1);   // acks
  put32(&at, TIMEOUT_MS);
  put32(&at, 1);  // topics
  put_string(&at, topic);
  put32(&at, 1);  // partitions
  put32(&at, 0);
  unsigned char* batch_size_at = at;
  at += 4;
  unsigned char* batch = at;
  put_batch(&at, records);
  request.batch_size = at - batch;
  put32(&batch_size_at, request.batch_size);
  set_frame_size(request.frame, at);
  request.size = at - request.frame;
  return request;
}

static void receive_all(int fd, unsigned char* bytes, size_t size) {
  must(recv(fd, bytes, size, MSG_WAITALL) == (ssize_t)size, "the broker hung up");
}

// Asking for a topic makes it.
static void make_topic(int fd, const char* topic) {
  unsigned char request[MOST_REQUEST_HEAD_BYTES];
  unsigned char answer[4096];
  unsigned char* at = request;
  put_request_head(&at, METADATA, 1);
  put32(&at, 1);
  put_string(&at, topic);
  set_frame_size(request, at);
  must(send(fd, request, at - request, 0) == at - request, "a request did not fit");
  receive_all(fd, answer, 4);
  const unsigned char* size_at = answer;
  int32_t size = get32(&size_at);
  must(size > 0 && size <= (int)sizeof answer, "an answer of a strange size");
  receive_all(fd, answer, size);
}

// The base offset that an answer gives.
static int64_t offset_of(const unsigned char* answer, const char* topic) {
  const unsigned char* at = answer + 8;  // size, correlation id
  must(get32(&at) == 1, "not one topic");
  at += 2 + strlen(topic);
  must(get32(&at) == 1, "not one partition");
  at += 4;
  must(get16(&at) == 0, "the broker answers with an error");
  return get64(&at);
}

static void wait_for(int fd, int sending) {
  struct pollfd ready = {.fd = fd, .events = POLLIN | (sending ? POLLOUT : 0)};
  if (sleeps) poll(&ready, 1, -1);
}

static void produce(int fd, Request request, const char* topic, int records, int batches,
                    int in_flight) {
  unsigned char answer[ANSWER_BYTES + MOST_TOPIC_BYTES];
  size_t answer_size = ANSWER_BYTES + strlen(topic);
  size_t sent = 0, have = 0;  // of the frame, and of the answer, that are under way
  int64_t next_offset = -1;
  int begun = 0;
  for (int answered = 0; answered < batches;) {
    int may_send = begun < batches && begun - answered < in_flight;
    ssize_t taken = 0;
    if (may_send) {
      taken = moved_by(send(fd, request.frame + sent, request.size - sent, 0), "send");
      sent += taken;
      if (sent == request.size) {
        sent = 0;
        ++begun;
      }
    }
    ssize_t got = recv(fd, answer + have, answer_size - have, 0);
    must(got != 0, "the broker hung up");
    got = moved_by(got, "recv");
    have += got;
    if (have == answer_size) {
      int64_t offset = offset_of(answer, topic);
      must(next_offset < 0 || offset == next_offset, "offsets don't continue");
      next_offset = offset + records;
      have = 0;
      ++answered;
    }
    if (taken == 0 && got == 0) wait_for(fd, may_send);
  }
}

int main(int argc, char** argv) {
  sleeps = argc == 8 && strcmp(argv[1], "sleep") == 0;
  if (argc != 8 || (!sleeps && strcmp(argv[1], "poll") != 0)) {
    fprintf(stderr,
            "usage: kafka-producer poll|sleep ADDRESS PORT TOPIC RECORDS BATCHES IN_FLIGHT\n");
    return 2;
  }
  const char* topic = argv[4];
  must(strlen(topic) <= MOST_TOPIC_BYTES, "the topic's name is too long");
  int records = atoi(argv[5]), batches = atoi(argv[6]), in_flight = atoi(argv[7]);
  alarm(TRIAL_SECONDS);
  int on = 1;
  int fd = connect_to_broker(argv[2], atoi(argv[3]));
  if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) fail("TCP_NODELAY");
  make_topic(fd, topic);
  Request request = prepare_produce(topic, records);
  set_nonblocking(fd);
  double began = seconds_of(CLOCK_MONOTONIC);
  produce(fd, request, topic, records, batches, in_flight);
  double ended = seconds_of(CLOCK_MONOTONIC);
  printf("{\"bytes\":%lld,\"seconds\":%.6f}\n", (long long)batches * request.batch_size,
         ended - began);
  return 0;
}
