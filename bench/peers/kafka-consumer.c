// Consumers of a Kafka log, as cheap as can be, so that the broker is what is measured.
//
//   kafka-consumer poll|sleep ADDRESS PORT TOPIC CONSUMERS BYTES FETCH_BYTES
//
// Each consumer has a connection of its own, and fetches partition 0 of TOPIC from its beginning,
// at most FETCH_BYTES at a time, until it has BYTES of record batches. Of these it copies the
// headers, and checks that each batch begins at the offset where the last one ended; the records
// are dropped without being copied (MSG_TRUNC). Prints as JSON the bytes of batches and the fetches
// of all consumers, and the seconds from before the first one connects until the last one is done.
//
// With `poll` it never sleeps, so that the broker does not pay for waking it up (see receiver.c).
#include "kafka.h"

#include <sys/epoll.h>

#define MOST_CONSUMERS 64
#define MOST_BYTES 52428800   // fetch.max.bytes, as clients have it
#define MOST_WAIT_MS 500      // fetch.max.wait.ms
#define ANSWER_HEAD_BYTES 52  // of Fetch 4 with one partition, and its topic's name
#define BATCH_START_BYTES 27  // up to lastOffsetDelta

// What comes next on a connection.
typedef enum { ANSWER_HEAD, BATCH_START, REST_OF_BATCH } Part;

typedef struct {
  int fd;
  Part part;
  size_t have;           // bytes of this part that are there, or dropped
  size_t size;           // of this part
  int64_t records_left;  // bytes of this answer's record batches that follow this part
  int64_t next_offset;
  int64_t received;  // bytes of record batches in answers that are complete
  int64_t records;   // bytes of record batches in this answer
  int64_t fetches;
  unsigned char bytes[ANSWER_HEAD_BYTES + MOST_TOPIC_BYTES];
} Consumer;

static const char* topic;
static int64_t wanted;
static int fetch_bytes;

static void expect(Consumer* consumer, Part part, size_t size) {
  consumer->part = part;
  consumer->have = 0;
  consumer->size = size;
}

static void fetch(Consumer* consumer) {
  unsigned char request[MOST_REQUEST_HEAD_BYTES];
  unsigned char* at = request;
  put_request_head(&at, FETCH, 4);
  put32(&at, -1);  // not a replica
  put32(&at, MOST_WAIT_MS);
  put32(&at, 1);  // fetch.min.bytes
  put32(&at, MOST_BYTES);
  put8(&at, 0);   // isolation level
  put32(&at, 1);  // topics
  put_string(&at, topic);
  put32(&at, 1);  // partitions
  put32(&at, 0);
  put64(&at, consumer->next_offset);
  put32(&at, fetch_bytes);
  set_frame_size(request, at);
  must(send(consumer->fd, request, at - request, 0) == at - request, "a request did not fit");
  expect(consumer, ANSWER_HEAD, ANSWER_HEAD_BYTES + strlen(topic));
}

static void take_answer_head(Consumer* consumer) {
  const unsigned char* at = consumer->bytes;
  int32_t frame = get32(&at);
  at += 8;  // correlation id, throttle time
  must(get32(&at) == 1, "not one topic");
  at += 2 + strlen(topic);
  must(get32(&at) == 1, "not one partition");
  at += 4;
  must(get16(&at) == 0, "the broker answers with an error");
  at += 8 + 8;  // high watermark, last stable offset
  must(get32(&at) <= 0, "aborted transactions");
  consumer->records = get32(&at);
  must(consumer->records > 0, "the log ended early");
  must(frame + 4 == at - consumer->bytes + consumer->records, "the frame has another size");
  consumer->records_left = consumer->records;
}

static void take_batch_start(Consumer* consumer) {
  const unsigned char* at = consumer->bytes;
  must(get64(&at) == consumer->next_offset, "offsets don't continue");
  int32_t size = get32(&at) + BATCH_LENGTH_FOLLOWS;
  at += 4 + 1 + 4 + 2;  // leader epoch, magic, CRC, attributes
  consumer->next_offset += get32(&at) + 1;
  must(size >= BATCH_HEADER_BYTES && size <= consumer->records_left, "a batch was cut short");
  consumer->records_left -= size;
  expect(consumer, REST_OF_BATCH, size - BATCH_START_BYTES);
}

// The part is complete. False when the consumer has all it wants.
static int take_part(Consumer* consumer) {
  if (consumer->part == BATCH_START) {
    take_batch_start(consumer);
    return 1;
  }
  if (consumer->part == ANSWER_HEAD) take_answer_head(consumer);
  if (consumer->records_left > 0) {
    must(consumer->records_left >= BATCH_START_BYTES, "a batch was cut short");
    expect(consumer, BATCH_START, BATCH_START_BYTES);
    return 1;
  }
  consumer->received += consumer->records;
  ++consumer->fetches;
  if (consumer->received >= wanted) return 0;
  fetch(consumer);
  return 1;
}

// Takes all that is there. False when the consumer has all it wants.
static int receive(Consumer* consumer) {
  for (;;) {
    size_t left = consumer->size - consumer->have;
    ssize_t got = consumer->part == REST_OF_BATCH
                      ? recv(consumer->fd, NULL, left, MSG_TRUNC)
                      : recv(consumer->fd, consumer->bytes + consumer->have, left, 0);
    must(got != 0, "the broker hung up");
    got = moved_by(got, "recv");
    if (got == 0) return 1;
    consumer->have += got;
    if (consumer->have == consumer->size && !take_part(consumer)) return 0;
  }
}

static void open_consumer(Consumer* consumer, const char* address, int port, int epoll) {
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = consumer};
  consumer->fd = connect_to_broker(address, port);
  set_nonblocking(consumer->fd);
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, consumer->fd, &event) != 0) fail("epoll_ctl");
  fetch(consumer);
}

int main(int argc, char** argv) {
  static Consumer consumers[MOST_CONSUMERS];
  int sleeps = argc == 8 && strcmp(argv[1], "sleep") == 0;
  int count = argc == 8 ? atoi(argv[5]) : 0;
  if (count < 1 || count > MOST_CONSUMERS || (!sleeps && strcmp(argv[1], "poll") != 0)) {
    fprintf(stderr,
            "usage: kafka-consumer poll|sleep ADDRESS PORT TOPIC CONSUMERS BYTES FETCH_BYTES\n");
    return 2;
  }
  topic = argv[4];
  must(strlen(topic) <= MOST_TOPIC_BYTES, "the topic's name is too long");
  wanted = atoll(argv[6]);
  fetch_bytes = atoi(argv[7]);
  alarm(TRIAL_SECONDS);
  int epoll = epoll_create1(0);
  if (epoll < 0) fail("epoll_create1");

  double began = seconds_of(CLOCK_MONOTONIC);
  for (int i = 0; i < count; ++i) open_consumer(&consumers[i], argv[2], atoi(argv[3]), epoll);
  for (int open = count; open > 0;) {
    struct epoll_event events[MOST_CONSUMERS];
    int ready = epoll_wait(epoll, events, MOST_CONSUMERS, sleeps ? -1 : 0);
    for (int i = 0; i < ready; ++i) {
      Consumer* consumer = events[i].data.ptr;
      if (receive(consumer)) continue;
      close(consumer->fd);
      --open;
    }
  }
  double ended = seconds_of(CLOCK_MONOTONIC);

  int64_t bytes = 0, fetches = 0;
  for (int i = 0; i < count; ++i) {
    bytes += consumers[i].received;
    fetches += consumers[i].fetches;
  }
  printf("{\"bytes\":%lld,\"fetches\":%lld,\"seconds\":%.6f}\n", (long long)bytes,
         (long long)fetches, ended - began);
  return 0;
}
