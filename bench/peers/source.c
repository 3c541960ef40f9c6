// Where a trial that receives has its bytes from, as cheap as can be.
//
//   source poll|sleep FILE
//
// Listens on a port of 127.0.0.1, prints {"port":PORT}, sends FILE by sendfile(2) over each
// connection, one after the other, and ends with its standard input. With `poll` it never sleeps
// while it sends, so that the one who receives does not pay for waking it up (see receiver.c).
#include "loopback.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/sendfile.h>

#define MOST_PER_CALL 0x7ffff000  // sendfile(2)

static void send_all(int socket, int file, off_t size) {
  off_t offset = 0;
  while (offset < size) {
    ssize_t sent = sendfile(socket, file, &offset, MOST_PER_CALL);
    if (sent < 0 && errno != EINTR && errno != EAGAIN) {
      perror("sendfile");  // the trial has died, which shows in its own exit code
      return;
    }
    if (sent == 0) {
      fprintf(stderr, "the file was truncated\n");
      exit(1);
    }
  }
}

int main(int argc, char** argv) {
  const char* mode = argc == 3 ? argv[1] : "";
  int sleeps = strcmp(mode, "sleep") == 0;
  if (!sleeps && strcmp(mode, "poll") != 0) {
    fprintf(stderr, "usage: source poll|sleep FILE\n");
    return 2;
  }
  off_t size;
  int file = open_file(argv[2], &size);
  int listener = listen_on_loopback();
  struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN},
                         {.fd = listener, .events = POLLIN}};
  for (;;) {
    if (poll(fds, 2, -1) < 0) fail("poll");
    if (fds[0].revents) return 0;
    int connection = accept(listener, NULL, NULL);
    if (connection < 0) fail("accept");
    if (!sleeps) set_nonblocking(connection);
    send_all(connection, file, size);
    close(connection);
  }
}
