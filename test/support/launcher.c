// refuse ERRNO NAME[,NAME]... COMMAND [ARGUMENT]...: runs a command for which system calls fail
// (refuse.h).
#include <stdio.h>
#include <unistd.h>

#include "refuse.h"

int main(int count, char* arguments[]) {
  if (count < 4) {
    fputs("usage: refuse ERRNO NAME[,NAME]... COMMAND [ARGUMENT]...\n", stderr);
    return 125;
  }
  const char* complaint = refuse(arguments[2], arguments[1]);
  if (complaint) {
    fprintf(stderr, "refuse: %s\n", complaint);
    return 125;
  }
  execvp(arguments[3], arguments + 3);
  perror("refuse");
  return 127;
}
