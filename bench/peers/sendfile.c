// The limit: what sending a file costs with nothing around it.
//
//   sendfile PORT FILE [WARM_UP_FILE]
//
// Connects to 127.0.0.1:PORT, sends FILE by sendfile(2) on a blocking socket, and prints as JSON
// the seconds that took and the CPU seconds (user and system) of this process over just that
// stretch. WARM_UP_FILE goes over a connection of its own before, as in the Node.js trials.
#include "loopback.h"

#include <errno.h>
#include <sys/resource.h>
#include <sys/sendfile.h>

#define MOST_PER_CALL 0x7ffff000  // sendfile(2)

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

int main(int argc, char** argv) {
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
  double began = seconds_of(CLOCK_MONOTONIC);
  double cpu_before = cpu_seconds();
  // Within the measure, since the Node.js ways open the file by its path there too.
  int file = open_file(argv[2], &size);
  send_all(socket, file, size);
  shutdown(socket, SHUT_WR);
  double cpu_after = cpu_seconds();
  double ended = seconds_of(CLOCK_MONOTONIC);
  printf("{\"bytes\":%lld,\"seconds\":%.6f,\"cpuSeconds\":%.6f}\n", (long long)size, ended - began,
         cpu_after - cpu_before);
  return 0;
}
