// The limit: what sending a file costs with nothing around it.
//
//   sendfile PORT FILE [WARM_UP_FILE]
//
// Connects to 127.0.0.1:PORT, sends FILE by sendfile(2) on a blocking socket, and prints as JSON the
// seconds that took and the CPU seconds (user and system) of this process over just that stretch.
// WARM_UP_FILE goes over a connection of its own before, as in the Node.js trials.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MOST_PER_CALL 0x7ffff000  // sendfile(2)

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static int connect_to(int port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0) fail("socket");
  if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) fail("connect");
  return fd;
}

static int open_file(const char *path, off_t *size) {
  struct stat status;
  int fd = open(path, O_RDONLY);
  if (fd < 0 || fstat(fd, &status) != 0) fail(path);
  *size = status.st_size;
  return fd;
}

static void send_all(int socket, int file, off_t size) {
  off_t offset = 0;
  while (offset < size) {
    off_t left = size - offset;
    ssize_t sent = sendfile(socket, file, &offset, left < MOST_PER_CALL ? left : MOST_PER_CALL);
    if (sent < 0 && errno != EINTR) fail("sendfile");
    if (sent == 0) {
      fprintf(stderr, "the file was truncated\n");
      exit(1);
    }
  }
}

static double cpu_seconds(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec +
         (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec + now.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: sendfile PORT FILE [WARM_UP_FILE]\n");
    return 2;
  }
  int port = atoi(argv[1]);
  off_t size;
  if (argc > 3) {
    int file = open_file(argv[3], &size);
    int socket = connect_to(port);
    send_all(socket, file, size);
    close(socket);
    close(file);
  }
  int socket = connect_to(port);
  double began = seconds();
  double cpu_before = cpu_seconds();
  // Within the measure, since the Node.js ways open the file by its path there too.
  int file = open_file(argv[2], &size);
  send_all(socket, file, size);
  shutdown(socket, SHUT_WR);
  double cpu_after = cpu_seconds();
  double ended = seconds();
  printf("{\"bytes\":%lld,\"seconds\":%.6f,\"cpuSeconds\":%.6f}\n", (long long)size, ended - began,
         cpu_after - cpu_before);
  return 0;
}
