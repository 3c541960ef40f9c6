#define _GNU_SOURCE
#include "refuse.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

// Newer than the headers that this may be compiled with.
#ifndef SYS_openat2
#define SYS_openat2 437
#endif
#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

#define NAMED(name) {#name, SYS_##name}

static const struct {
  const char* name;
  int number;
} kCalls[] = {
    NAMED(cachestat), NAMED(copy_file_range), NAMED(epoll_create1), NAMED(epoll_ctl),
    NAMED(eventfd2),  NAMED(openat2),         NAMED(pipe2),         NAMED(preadv2),
    NAMED(readahead), NAMED(sendfile),        NAMED(splice),        NAMED(statx),
};

static const struct {
  const char* name;
  int number;
} kErrors[] = {{"EPERM", EPERM}, {"ENOSYS", ENOSYS}, {"EAGAIN", EAGAIN}, {"EACCES", EACCES}};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum { kMaxInstructions = 128 };

struct Program {
  struct sock_filter code[kMaxInstructions];
  unsigned short length;
};

static void put(struct Program* program, uint16_t code, uint32_t value, uint8_t yes, uint8_t no) {
  program->code[program->length++] = (struct sock_filter){code, yes, no, value};
}

static void load(struct Program* program, size_t offset) {
  put(program, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

static void end(struct Program* program, int error) {
  const uint32_t result = error == 0 ? SECCOMP_RET_ALLOW : SECCOMP_RET_ERRNO | (uint32_t)error;
  put(program, BPF_RET | BPF_K, result, 0, 0);
}

static size_t argument(int index) {
  return offsetof(struct seccomp_data, args) + (size_t)index * sizeof(uint64_t);
}

static void refuse_call(struct Program* program, int number, int error) {
  put(program, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 1);
  end(program, error);
}

// Where the call isn't that, what follows finds the call's number loaded again.
static void refuse_argument(struct Program* program, int number, int index, uint16_t test,
                            uint32_t value, int error) {
  put(program, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 4);
  load(program, argument(index));
  put(program, BPF_JMP | test | BPF_K, value, 0, 1);
  end(program, error);
  load(program, offsetof(struct seccomp_data, nr));
}

static const char* add(struct Program* program, const char* name, int error) {
  if (program->length + 8 > kMaxInstructions) return "too many names";
  if (strcmp(name, "thread") == 0) {
    refuse_call(program, SYS_clone3, ENOSYS);
    refuse_argument(program, SYS_clone, 0, BPF_JSET, CLONE_THREAD, error);
    return NULL;
  }
  if (strcmp(name, "setpipesize") == 0) {
    refuse_argument(program, SYS_fcntl, 1, BPF_JEQ, F_SETPIPE_SZ, error);
    return NULL;
  }
  for (size_t i = 0; i < COUNT(kCalls); ++i) {
    if (strcmp(kCalls[i].name, name) != 0) continue;
    refuse_call(program, kCalls[i].number, error);
    return NULL;
  }
  return "an unknown name of a system call";
}

static int error_number(const char* name) {
  for (size_t i = 0; i < COUNT(kErrors); ++i)
    if (strcmp(kErrors[i].name, name) == 0) return kErrors[i].number;
  return 0;
}

const char* refuse(const char* names, const char* error) {
  struct Program program = {.length = 0};
  const int number = error_number(error);
  char list[512], *rest = list;
  if (number == 0) return "an unknown name of an errno";
  if (strlen(names) >= sizeof list) return "too many names";
  strcpy(list, names);
  // The numbers are those of one architecture: this process's own.
  load(&program, offsetof(struct seccomp_data, nr));
  for (char* name; (name = strsep(&rest, ",")) != NULL;) {
    const char* complaint = add(&program, name, number);
    if (complaint) return complaint;
  }
  end(&program, 0);
  const struct sock_fprog filter = {program.length, program.code};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return "PR_SET_NO_NEW_PRIVS failed";
  // Of all its threads: libuv's make calls too.
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &filter) != 0)
    return "seccomp failed";
  return NULL;
}

int errno_of(const char* name) {
  for (size_t i = 0; i < COUNT(kCalls); ++i)
    if (strcmp(kCalls[i].name, name) == 0)
      return syscall(kCalls[i].number, -1, -1, -1, -1, -1, -1) < 0 ? errno : 0;
  return -1;
}
