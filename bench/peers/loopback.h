// What the programs in C share: connections over loopback, files, clocks.
#pragma once
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static inline void fail(const char* what) {
  perror(what);
  exit(1);
}

static inline struct sockaddr_in loopback_address(int port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

static inline int connect_to(int port) {
  struct sockaddr_in address = loopback_address(port);
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0) fail("socket");
  if (connect(fd, (struct sockaddr*)&address, sizeof address) != 0) fail("connect");
  return fd;
}

// Listens on a port that the kernel picks, and prints it.
static inline int listen_on_loopback(void) {
  struct sockaddr_in address = loopback_address(0);
  socklen_t size = sizeof address;
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0) fail("socket");
  if (bind(fd, (struct sockaddr*)&address, size) != 0) fail("bind");
  if (listen(fd, 16) != 0) fail("listen");
  if (getsockname(fd, (struct sockaddr*)&address, &size) != 0) fail("getsockname");
  printf("{\"port\":%d}\n", ntohs(address.sin_port));
  fflush(stdout);
  return fd;
}

static inline int open_file(const char* path, off_t* size) {
  struct stat status;
  int fd = open(path, O_RDONLY);
  if (fd < 0 || fstat(fd, &status) != 0) fail(path);
  *size = status.st_size;
  return fd;
}

static inline void set_nonblocking(int fd) {
  if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) != 0) fail("fcntl");
}

static inline double seconds_of(clockid_t clock) {
  struct timespec now;
  if (clock_gettime(clock, &now) != 0) fail("clock_gettime");
  return now.tv_sec + now.tv_nsec / 1e9;
}
