// The other end of a trial, as cheap as can be, so that the sender is what is measured.
//
//   receiver discard   takes what comes and drops it without copying it: recv(2) with MSG_TRUNC
//   receiver poll      the same, but never sleeps while a connection is open
//   receiver hold      accepts with a small receive buffer, and never reads
//
// Over loopback it is the sender that wakes a receiver up: on a virtual machine by an interrupt of
// the other core, which can cost more than the bytes, and as often as chance will have it. Where the
// receiver has a core to itself, `poll` leaves that out of the sender's figures.
//
// Listens on a port of 127.0.0.1, with `any` of every address, prints {"port":PORT}, and lives until its standard input ends.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define MOST_PER_RECV (1 << 30)
#define HELD_RECEIVE_BUFFER 4096
// Over loopback the sender's buffer would grow to megabytes, since it goes by the segment size.
// Ethernet's makes a slow reader look to the sender as one on a network does.
#define ETHERNET_SEGMENT 1448

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static void allow_most_descriptors(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

static void set(int fd, int level, int option, int value) {
  if (setsockopt(fd, level, option, &value, sizeof value) != 0) fail("setsockopt");
}

static int listen_anywhere(int hold, int any) {
  struct sockaddr_in address = {.sin_family = AF_INET};
  socklen_t size = sizeof address;
  address.sin_addr.s_addr = htonl(any ? INADDR_ANY : INADDR_LOOPBACK);
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0) fail("socket");
  if (hold) {
    // Accepted sockets inherit both.
    set(fd, SOL_SOCKET, SO_RCVBUF, HELD_RECEIVE_BUFFER);
    set(fd, IPPROTO_TCP, TCP_MAXSEG, ETHERNET_SEGMENT);
  }
  if (bind(fd, (struct sockaddr *)&address, size) != 0) fail("bind");
  if (listen(fd, 4096) != 0) fail("listen");
  if (getsockname(fd, (struct sockaddr *)&address, &size) != 0) fail("getsockname");
  printf("{\"port\":%d}\n", ntohs(address.sin_port));
  fflush(stdout);
  return fd;
}

static void watch(int epoll, int fd) {
  struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
  // EPERM: standard input is a file or /dev/null, which never ends.
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0 && errno != EPERM) fail("epoll_ctl");
}

// False when the connection has come to its end.
static int discard(int fd) {
  ssize_t received = recv(fd, NULL, MOST_PER_RECV, MSG_TRUNC | MSG_DONTWAIT);
  if (received > 0 || (received < 0 && (errno == EAGAIN || errno == EINTR))) return 1;
  close(fd);
  return 0;
}

int main(int argc, char **argv) {
  const char *mode = argc > 1 ? argv[1] : "";
  int any = argc == 3 && strcmp(argv[2], "any") == 0;
  int hold = strcmp(mode, "hold") == 0;
  int poll = strcmp(mode, "poll") == 0;
  int is_wrong = argc > 3 || (argc == 3 && !any);
  if (is_wrong || (!hold && !poll && strcmp(mode, "discard") != 0)) {
    fprintf(stderr, "usage: receiver discard|poll|hold [any]\n");
    return 2;
  }
  allow_most_descriptors();
  int listener = listen_anywhere(hold, any);
  int epoll = epoll_create1(0);
  if (epoll < 0) fail("epoll_create1");
  watch(epoll, STDIN_FILENO);
  watch(epoll, listener);
  int open = 0;
  for (;;) {
    struct epoll_event events[128];
    int count = epoll_wait(epoll, events, 128, poll && open > 0 ? 0 : -1);
    for (int i = 0; i < count; ++i) {
      int fd = events[i].data.fd;
      if (fd == STDIN_FILENO) return 0;
      if (fd != listener) {
        if (!discard(fd)) --open;
        continue;
      }
      int connection = accept(listener, NULL, NULL);
      if (connection < 0) {
        if (errno == ECONNABORTED || errno == EINTR) continue;
        fail("accept");
      }
      ++open;
      if (!hold) watch(epoll, connection);
    }
  }
}
