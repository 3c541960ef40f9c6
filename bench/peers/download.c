// Clients that take what a server sends, and drop it without copying it: recv(2) with MSG_TRUNC.
//
//   download PORT CONNECTIONS            until the server ends each connection
//   download PORT CONNECTIONS PATH       GETs PATH over kept-alive connections, again and again
//
// Connects to 127.0.0.1:PORT when a line comes on its standard input, after it has printed
// {"port":PORT}. The first prints {"bytes":…,"seconds":…} when all connections have ended; the other
// prints {"bytes":…} of bodies for each further line. Ends with its standard input.
#define _GNU_SOURCE
#include "loopback.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>

#define MOST_CONNECTIONS 1024
#define HEAD_BYTES 4096

struct client {
  int fd;
  long long left;  // of the body
};

static struct client clients[MOST_CONNECTIONS];
static char request[HEAD_BYTES];
static long long bytes;

static void give_up(const char* why) {
  fprintf(stderr, "download: %s\n", why);
  exit(1);
}

static void ask(struct client* client) {
  size_t length = strlen(request);
  if (length > 0 && send(client->fd, request, length, 0) != (ssize_t)length) fail("send");
}

// The head of an answer, which is short enough to come in one piece.
static void take_head(struct client* client) {
  char head[HEAD_BYTES];
  ssize_t peeked = recv(client->fd, head, sizeof head - 1, MSG_PEEK | MSG_DONTWAIT);
  if (peeked < 0 && errno == EAGAIN) return;
  if (peeked <= 0) give_up("the server has gone");
  head[peeked] = '\0';
  const char* end = strstr(head, "\r\n\r\n");
  if (!end) return;
  const char* length = strcasestr(head, "\r\ncontent-length:");
  if (!length || strncmp(head, "HTTP/1.1 200", 12) != 0) give_up("an answer without a length");
  if (recv(client->fd, head, (size_t)(end + 4 - head), 0) < 0) fail("recv");
  client->left = atoll(length + strlen("\r\ncontent-length:"));
}

// False at the end of the connection.
static int discard(struct client* client) {
  if (request[0] && client->left == 0) {
    take_head(client);
    if (client->left == 0) return 1;
  }
  size_t most = request[0] ? (size_t)client->left : (size_t)1 << 30;
  ssize_t taken = recv(client->fd, NULL, most, MSG_TRUNC | MSG_DONTWAIT);
  if (taken < 0 && (errno == EAGAIN || errno == EINTR)) return 1;
  if (taken < 0) fail("recv");
  if (taken == 0) return 0;
  bytes += taken;
  if (request[0] && (client->left -= taken) == 0) ask(client);
  return 1;
}

static int read_line(void) {
  char line[64];
  return read(STDIN_FILENO, line, sizeof line) > 0;
}

int main(int argc, char** argv) {
  int count = argc > 2 ? atoi(argv[2]) : 0;
  if (argc < 3 || argc > 4 || count < 1 || count > MOST_CONNECTIONS) {
    fprintf(stderr, "usage: download PORT CONNECTIONS [PATH]\n");
    return 2;
  }
  if (argc == 4)
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", argv[3]);
  printf("{\"port\":%s}\n", argv[1]);
  fflush(stdout);
  if (!read_line()) return 0;

  int epoll = epoll_create1(0);
  if (epoll < 0) fail("epoll_create1");
  double began = seconds_of(CLOCK_MONOTONIC);
  for (int i = 0; i < count; ++i) {
    clients[i].fd = connect_to(atoi(argv[1]));
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &clients[i]};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, clients[i].fd, &event) != 0) fail("epoll_ctl");
    ask(&clients[i]);
  }
  struct epoll_event input = {.events = EPOLLIN, .data.ptr = NULL};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &input) != 0) fail("epoll_ctl");
  if (request[0]) printf("{\"bytes\":0}\n"), fflush(stdout);
  for (int open = count;;) {
    struct epoll_event events[128];
    int ready = epoll_wait(epoll, events, 128, -1);
    for (int i = 0; i < ready; ++i) {
      struct client* client = events[i].data.ptr;
      if (!client) {
        if (!read_line()) return 0;
        printf("{\"bytes\":%lld}\n", bytes);
        fflush(stdout);
      } else if (!discard(client)) {
        if (request[0]) give_up("the server has ended a connection");
        close(client->fd);
        if (--open > 0) continue;
        double seconds = seconds_of(CLOCK_MONOTONIC) - began;
        printf("{\"bytes\":%lld,\"seconds\":%.6f}\n", bytes, seconds);
        fflush(stdout);
      }
    }
  }
}
