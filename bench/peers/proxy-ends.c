// Both ends of a proxy, in one process: the upstream server and the client, so that the proxy is
// what is measured.
//
//   proxy-ends poll|sleep
//
// Listens as the upstream server, prints {"port":PORT}, and does what the lines of its standard
// input ask for, until that ends. What each line's trial came to is printed as JSON.
//
//   stream PROXY_PORT PROXY_PID FILE WARM_UP_FILE
//     The server sends FILE by sendfile(2); the client drops it without copying it (MSG_TRUNC).
//     Prints the bytes, the seconds from before the client connects until it has seen the end, and
//     the CPU seconds that process PROXY_PID has used for them, all its threads together.
//     WARM_UP_FILE comes before, over a connection of its own, and each of its bytes is checked.
//   ping-pong PROXY_PORT COUNT WARM_UP_COUNT
//     The client sends 64 bytes, the server sends them back, COUNT times, one after the other.
//     Prints the median and the 99th percentile of the round trips, in microseconds.
//
// With `poll` it never sleeps during a trial, so that the proxy does not pay for waking the ends up
// (see receiver.c). That they are one process keeps them from waiting for each other on one core.
#include "loopback.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>

#define MOST_PER_SENDFILE (1 << 17)  // the client has its turn soon, and never waits for the server
#define MOST_PER_RECV (1 << 30)
#define CHECKED_PER_RECV (1 << 18)
#define PING_BYTES 64
#define SETTLE_MICROSECONDS 100000  // for what the end of a connection leaves a proxy to do
#define TRIAL_SECONDS 60            // a proxy that hangs must not hang the bench

static int listener;
static int sleeps;

typedef struct {
  int client;
  int server;
} Ends;

static void set_no_delay(int fd) {
  int on = 1;
  if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) fail("TCP_NODELAY");
}

static Ends connect_through(int proxy_port) {
  Ends ends = {.client = connect_to(proxy_port)};
  ends.server = accept(listener, NULL, NULL);
  if (ends.server < 0) fail("accept");
  set_no_delay(ends.client);
  set_no_delay(ends.server);
  set_nonblocking(ends.client);
  set_nonblocking(ends.server);
  return ends;
}

static void close_both(Ends ends) {
  close(ends.client);
  close(ends.server);
}

// Until an end can be read from, or `sending` to. Neither has anything to do when this is called.
static void wait_for(Ends ends, int sending) {
  if (!sleeps) return;
  struct pollfd fds[] = {{.fd = ends.client, .events = POLLIN},
                         {.fd = ends.server, .events = sending ? POLLOUT : POLLIN}};
  poll(fds, 2, -1);
}

// What a call on a non-blocking descriptor has moved: 0 if it would have blocked.
static ssize_t moved_by(ssize_t result, const char* call) {
  if (result < 0 && errno != EAGAIN && errno != EINTR) fail(call);
  return result < 0 ? 0 : result;
}

static void must(int condition, const char* message) {
  if (condition) return;
  fprintf(stderr, "proxy-ends: %s\n", message);
  exit(1);
}

// Sends a file through the proxy. What arrives is compared with `expected`, unless that is NULL.
static off_t stream(int proxy_port, int file, off_t size, const char* expected) {
  static char buffer[CHECKED_PER_RECV];
  Ends ends = connect_through(proxy_port);
  off_t sent = 0;
  off_t received = 0;
  for (;;) {
    ssize_t taken = 0;
    if (sent < size) {
      taken = moved_by(sendfile(ends.server, file, &sent, MOST_PER_SENDFILE), "sendfile");
      if (sent == size) shutdown(ends.server, SHUT_WR);
    }
    ssize_t got = expected ? recv(ends.client, buffer, sizeof buffer, 0)
                           : recv(ends.client, NULL, MOST_PER_RECV, MSG_TRUNC);
    if (got == 0) break;
    got = moved_by(got, "recv");
    must(received + got <= size, "more arrived than was sent");
    must(!expected || memcmp(buffer, expected + received, got) == 0, "other bytes arrived");
    received += got;
    if (taken == 0 && got == 0) wait_for(ends, sent < size);
  }
  close_both(ends);
  return received;
}

static void warm_up_and_check(int proxy_port, const char* path) {
  off_t size;
  int file = open_file(path, &size);
  char* content = mmap(NULL, size, PROT_READ, MAP_PRIVATE, file, 0);
  if (content == MAP_FAILED) fail("mmap");
  must(stream(proxy_port, file, size, content) == size, "the warm-up was cut short");
  munmap(content, size);
  close(file);
}

static void measure_stream(int proxy_port, pid_t proxy, const char* path, const char* warm_up) {
  clockid_t cpu_clock;
  off_t size;
  if (clock_getcpuclockid(proxy, &cpu_clock) != 0) fail("clock_getcpuclockid");
  warm_up_and_check(proxy_port, warm_up);
  usleep(SETTLE_MICROSECONDS);
  int file = open_file(path, &size);
  double cpu_before = seconds_of(cpu_clock);
  double began = seconds_of(CLOCK_MONOTONIC);
  off_t received = stream(proxy_port, file, size, NULL);
  double ended = seconds_of(CLOCK_MONOTONIC);
  usleep(SETTLE_MICROSECONDS);
  double cpu_after = seconds_of(cpu_clock);
  close(file);
  printf("{\"bytes\":%lld,\"seconds\":%.6f,\"cpuSeconds\":%.6f}\n", (long long)received,
         ended - began, cpu_after - cpu_before);
}

// Sends what it receives back. True if there was something.
static int echo(int fd) {
  char buffer[PING_BYTES];
  ssize_t got = recv(fd, buffer, sizeof buffer, 0);
  must(got != 0, "the proxy hung up");
  got = moved_by(got, "recv");
  if (got > 0) must(send(fd, buffer, got, 0) == got, "an echo did not fit");
  return got > 0;
}

// The seconds of one round trip; `number` makes its bytes differ from all others.
static double ping(Ends ends, int number) {
  char out[PING_BYTES] = {0};
  char in[PING_BYTES];
  size_t received = 0;
  memcpy(out, &number, sizeof number);
  double began = seconds_of(CLOCK_MONOTONIC);
  must(send(ends.client, out, sizeof out, 0) == sizeof out, "a ping did not fit");
  while (received < sizeof in) {
    int echoed = echo(ends.server);
    ssize_t got = recv(ends.client, in + received, sizeof in - received, 0);
    must(got != 0, "the proxy hung up");
    got = moved_by(got, "recv");
    received += got;
    if (!echoed && got == 0) wait_for(ends, 0);
  }
  double ended = seconds_of(CLOCK_MONOTONIC);
  must(memcmp(in, out, sizeof in) == 0, "other bytes came back");
  return ended - began;
}

static int ascending(const void* a, const void* b) {
  double left = *(const double*)a, right = *(const double*)b;
  return (left > right) - (left < right);
}

static void measure_ping_pong(int proxy_port, int count, int warm_up_count) {
  double* seconds = calloc(count, sizeof *seconds);
  if (!seconds) fail("calloc");
  Ends ends = connect_through(proxy_port);
  for (int i = 0; i < warm_up_count; ++i) ping(ends, -1 - i);
  for (int i = 0; i < count; ++i) seconds[i] = ping(ends, i);
  close_both(ends);
  qsort(seconds, count, sizeof *seconds, ascending);
  printf("{\"roundTripMicroseconds\":%.3f,\"roundTripP99Microseconds\":%.3f}\n",
         seconds[count / 2] * 1e6, seconds[(int)(count * 0.99)] * 1e6);
  free(seconds);
}

int main(int argc, char** argv) {
  const char* mode = argc == 2 ? argv[1] : "";
  sleeps = strcmp(mode, "sleep") == 0;
  if (!sleeps && strcmp(mode, "poll") != 0) {
    fprintf(stderr, "usage: proxy-ends poll|sleep\n");
    return 2;
  }
  listener = listen_on_loopback();
  char line[2 * 4096 + 64];
  while (fgets(line, sizeof line, stdin)) {
    char file[4096], warm_up[4096];
    int port, pid, count, warm_up_count;
    alarm(TRIAL_SECONDS);
    if (sscanf(line, "stream %d %d %4095s %4095s", &port, &pid, file, warm_up) == 4) {
      measure_stream(port, pid, file, warm_up);
    } else if (sscanf(line, "ping-pong %d %d %d", &port, &count, &warm_up_count) == 3) {
      measure_ping_pong(port, count, warm_up_count);
    } else {
      must(0, "a line that it does not know");
    }
    fflush(stdout);
    alarm(0);
  }
  return 0;
}
