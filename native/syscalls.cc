#include "syscalls.h"

#include <errno.h>
#include <limits.h>
#include <linux/openat2.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>

#ifndef __NR_cachestat
#define __NR_cachestat 451
#endif
#ifndef __NR_openat2
#define __NR_openat2 437
#endif
#ifndef RESOLVE_CACHED
#define RESOLVE_CACHED 0x20  // Linux 5.12
#endif
#ifndef RWF_NOWAIT
#define RWF_NOWAIT 0x8
#endif

namespace zerocopy::sys {
namespace {

// What a mover's or a warmer's deepest call needs, with room: steps use no large frames.
constexpr size_t kThreadStackBytes = 256 * 1024;

// A quarter of the weight of the event loop (sched(7)): still gigabytes a second of a busy core,
// and where they share one the loop's p99 delay is about half of what it is without.
constexpr int kYieldingNice = 5;

// Most that readahead(2) begins to read, whatever it is asked for, where a device has the default
// read_ahead_kb; FUSE has the same.
constexpr off_t kReadaheadBytes = 128 * 1024;

ssize_t kernel_copy_file_range(int in_fd, loff_t* in_offset, int out_fd, loff_t* out_offset,
                               size_t count) {
  // Not glibc's wrapper: before 2.30 it copied through user space where the kernel refused.
  return ::syscall(SYS_copy_file_range, in_fd, in_offset, out_fd, out_offset, count, 0);
}

ssize_t kernel_send(int fd, const iovec* parts, size_t part_count, int flags) {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(parts);
  message.msg_iovlen = part_count;
  return ::sendmsg(fd, &message, flags);
}

ssize_t kernel_read_nowait(int fd, void* buffer, size_t count, off_t offset) {
  iovec part{buffer, count};
  // Through syscall(2): musl before 1.2.5 has no preadv2. The offset is split in two words.
  return ::syscall(SYS_preadv2, fd, &part, 1UL, static_cast<unsigned long>(offset),
                   static_cast<unsigned long>(static_cast<uint64_t>(offset) >> 32), RWF_NOWAIT);
}

ssize_t kernel_readahead(int fd, off_t offset, size_t count) {
  const off_t end = offset + static_cast<off_t>(count);
  ssize_t result = 0;
  for (; offset < end && result == 0; offset += kReadaheadBytes)
    result = ::readahead(fd, offset, static_cast<size_t>(std::min(end - offset, kReadaheadBytes)));
  return result;
}

ssize_t kernel_cached_pages(int fd, uint64_t offset, uint64_t length) {
  struct {
    uint64_t offset, length;
  } range{offset, length};
  struct {
    uint64_t cached, dirty, writeback, evicted, recently_evicted;
  } pages{};
  if (::syscall(__NR_cachestat, fd, &range, &pages, 0) != 0) return -1;
  return static_cast<ssize_t>(pages.cached);
}

int kernel_open_cached(const char* path, int flags) {
  open_how how{};
  how.flags = static_cast<unsigned>(flags) | O_CLOEXEC;
  how.resolve = RESOLVE_CACHED;
  return static_cast<int>(::syscall(__NR_openat2, AT_FDCWD, path, &how, sizeof how));
}

int kernel_open(const char* path, int flags, unsigned mode) {
  return ::open(path, flags | O_CLOEXEC, mode);
}

int kernel_duplicate(int fd) {
  return ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
}
int kernel_status_flags(int fd) {
  return ::fcntl(fd, F_GETFL);
}
int kernel_tcp_state(int fd) {
  tcp_info info{};
  socklen_t length = sizeof info;
  return ::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0 ? info.tcpi_state : -1;
}

// As statx(2), where a seccomp profile knows only what came before it. A server may be asked.
int kernel_status_by_fstat(int fd, struct statx* status) {
  struct stat old;
  if (::fstat(fd, &old) != 0) return -1;
  *status = {};
  status->stx_mode = static_cast<uint16_t>(old.st_mode);
  status->stx_size = static_cast<uint64_t>(old.st_size);
  status->stx_blocks = static_cast<uint64_t>(old.st_blocks);
  status->stx_ino = old.st_ino;
  status->stx_dev_major = major(old.st_dev);
  status->stx_dev_minor = minor(old.st_dev);
  return 0;
}

int kernel_status(int fd, struct statx* status) {
  constexpr unsigned kWanted = STATX_TYPE | STATX_SIZE | STATX_BLOCKS | STATX_INO;
  // Not glibc's wrapper: what it does on ENOSYS refuses a descriptor without a path.
  const auto result = static_cast<int>(
      ::syscall(SYS_statx, fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, kWanted, status));
  // EPERM, ENOSYS: seccomp, of container engines older than the call.
  if (result == 0 || (errno != EPERM && errno != ENOSYS)) return result;
  return kernel_status_by_fstat(fd, status);
}

int kernel_pipe(int fds[2]) {
  return ::pipe2(fds, O_CLOEXEC);
}
int kernel_set_pipe_size(int fd, int bytes) {
  return ::fcntl(fd, F_SETPIPE_SZ, bytes);
}
int kernel_epoll_create() {
  return ::epoll_create1(EPOLL_CLOEXEC);
}
int kernel_event_create() {
  return ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

ssize_t kernel_event_signal(int fd) {
  const uint64_t one = 1;
  return ::write(fd, &one, sizeof one);
}

int kernel_thread_create(void* (*body)(void*), void* argument) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, kThreadStackBytes);
  pthread_t thread;
  const int error = pthread_create(&thread, &attributes, body, argument);
  pthread_attr_destroy(&attributes);
  return error;
}

// Not inlined: compilers take for granted that what is only freed again could be had.
[[gnu::noinline]] void* kernel_allocate(size_t bytes) {
  return std::malloc(bytes);
}

template <typename Call>
Result retry(Call call) {
  for (;;) {
    const int64_t value = call();
    const int error = errno;
    if (value >= 0) return {value, 0};
    if (error != EINTR) return {-1, error};
  }
}

size_t clamp(uint64_t count) {
  return std::min<uint64_t>(count, kMaxBytesPerCall);
}

// The kernel writes the new position to where an offset is passed; ours stay as they were.
struct OffsetCopy {
  explicit OffsetCopy(const int64_t* offset) : value(offset ? *offset : 0), present(offset) {}
  loff_t* pointer() { return present ? &value : nullptr; }
  loff_t value;
  bool present;
};

}  // namespace

const Calls kKernelCalls = {
    ::sendfile,
    ::splice,
    kernel_copy_file_range,
    kernel_send,
    kernel_read_nowait,
    ::pread,
    ::read,
    ::writev,
    ::pwrite,
    ::recv,
    kernel_readahead,
    kernel_cached_pages,
    kernel_open_cached,
    kernel_open,
    kernel_duplicate,
    ::close,
    kernel_status_flags,
    kernel_tcp_state,
    kernel_status,
    ::lseek,
    kernel_pipe,
    kernel_set_pipe_size,
    ::poll,
    kernel_epoll_create,
    ::epoll_ctl,
    ::epoll_wait,
    kernel_event_create,
    kernel_event_signal,
    kernel_thread_create,
    kernel_allocate,
};

#ifdef ZEROCOPY_SEAM
Calls calls = kKernelCalls;
#else
static const Calls& calls = kKernelCalls;
#endif

Result sendfile(int out_fd, int in_fd, uint64_t offset, uint64_t count) {
  return retry([&] {
    off_t position = static_cast<off_t>(offset);
    return calls.sendfile(out_fd, in_fd, &position, clamp(count));
  });
}

Result sendfile_at_position(int out_fd, int in_fd, uint64_t count) {
  return retry([&] { return calls.sendfile(out_fd, in_fd, nullptr, clamp(count)); });
}

Result splice(int in_fd, const int64_t* in_offset, int out_fd, const int64_t* out_offset,
              uint64_t count, unsigned flags) {
  return retry([&] {
    OffsetCopy in(in_offset), out(out_offset);
    return calls.splice(in_fd, in.pointer(), out_fd, out.pointer(), clamp(count), flags);
  });
}

Result copy_file_range(int in_fd, const int64_t* in_offset, int out_fd, const int64_t* out_offset,
                       uint64_t count) {
  return retry([&] {
    OffsetCopy in(in_offset), out(out_offset);
    return calls.copy_file_range(in_fd, in.pointer(), out_fd, out.pointer(), clamp(count));
  });
}

Result send(int fd, const iovec* parts, size_t part_count, bool more) {
  const int flags = MSG_DONTWAIT | MSG_NOSIGNAL | (more ? MSG_MORE : 0);
  return retry([&] { return calls.send(fd, parts, part_count, flags); });
}

Result read_nowait(int fd, void* buffer, size_t count, uint64_t offset) {
  return retry([&] { return calls.read_nowait(fd, buffer, count, static_cast<off_t>(offset)); });
}

Result read(int fd, void* buffer, size_t count, uint64_t offset) {
  return retry([&] { return calls.read(fd, buffer, count, static_cast<off_t>(offset)); });
}

Result read_stream(int fd, void* buffer, size_t count) {
  return retry([&] { return calls.read_stream(fd, buffer, count); });
}

Result write(int fd, const iovec* parts, size_t part_count) {
  return retry([&] { return calls.write(fd, parts, static_cast<int>(part_count)); });
}

Result write_at(int fd, const void* data, size_t count, uint64_t offset) {
  return retry([&] { return calls.write_at(fd, data, count, static_cast<off_t>(offset)); });
}

Result peek(int fd) {
  char byte;
  return retry([&] { return calls.peek(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT); });
}

Result readahead(int fd, uint64_t offset, uint64_t count) {
  return retry([&] { return calls.readahead(fd, static_cast<off_t>(offset), count); });
}

Result cached_pages(int fd, uint64_t offset, uint64_t length) {
  return retry([&] { return calls.cached_pages(fd, offset, length); });
}

Result open_cached(const char* path, int flags) {
  return retry([&] { return calls.open_cached(path, flags); });
}

Result open(const char* path, int flags, unsigned mode) {
  return retry([&] { return calls.open(path, flags, mode); });
}

Result duplicate(int fd) {
  return retry([&] { return calls.duplicate(fd); });
}

Result close(int fd) {
  const bool failed = calls.close(fd) != 0 && errno != EINTR;
  return failed ? Result{-1, errno} : Result{0, 0};
}

Result status_flags(int fd) {
  return retry([&] { return calls.status_flags(fd); });
}

Result tcp_state(int fd) {
  return retry([&] { return calls.tcp_state(fd); });
}

Result status(int fd, struct statx* status) {
  return retry([&] { return calls.status(fd, status); });
}

Result seek(int fd, int64_t offset) {
  return retry([&] {
    return calls.seek(fd, static_cast<off_t>(std::max<int64_t>(offset, 0)),
                      offset < 0 ? SEEK_CUR : SEEK_SET);
  });
}

Result find_data(int fd, uint64_t offset) {
  return retry([&] { return calls.seek(fd, static_cast<off_t>(offset), SEEK_DATA); });
}

Result find_hole(int fd, uint64_t offset) {
  return retry([&] { return calls.seek(fd, static_cast<off_t>(offset), SEEK_HOLE); });
}

Result pipe(int fds[2]) {
  return retry([&] { return calls.pipe(fds); });
}

Result set_pipe_size(int fd, int bytes) {
  return retry([&] { return calls.set_pipe_size(fd, bytes); });
}

Result poll(int fd, short events) {
  pollfd polled{fd, events, 0};
  const Result result = retry([&] { return calls.poll(&polled, 1, 0); });
  return {result.ok() ? polled.revents : -1, result.error};
}

Result epoll_create() {
  return retry([&] { return calls.epoll_create(); });
}

Result epoll_control(int epoll_fd, int operation, int fd, uint32_t events, uint64_t data) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = data;
  return retry([&] { return calls.epoll_control(epoll_fd, operation, fd, &event); });
}

Result epoll_wait(int epoll_fd, epoll_event* events, int max_events, int timeout_ms) {
  return retry([&] { return calls.epoll_wait(epoll_fd, events, max_events, timeout_ms); });
}

Result event_create() {
  return retry([&] { return calls.event_create(); });
}

Result event_signal(int fd) {
  return retry([&] { return calls.event_signal(fd); });
}

Result start_thread(void* (*body)(void*), void* argument) {
  // A thread inherits its maker's mask: with everything blocked no signal of the process, whose
  // handlers belong to Node, is ever delivered on it, not even for an instant.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const int error = calls.thread_create(body, argument);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return {error == 0 ? 0 : -1, error};
}

Memory allocate(size_t bytes) {
  // Never 0, for which null is no failure.
  return Memory(static_cast<uint8_t*>(calls.allocate(std::max<size_t>(bytes, 1))));
}

bool has_memory(size_t bytes) {
  return allocate(bytes) != nullptr;
}

void yield_to_others() {
  // Someone who runs the process under a real-time policy has decided for themselves.
  if (::sched_getscheduler(0) != SCHED_OTHER) return;
  const sched_param none{};
  ::sched_setscheduler(0, SCHED_BATCH, &none);
  ::setpriority(PRIO_PROCESS, 0, ::getpriority(PRIO_PROCESS, 0) + kYieldingNice);
}

void yield() {
  ::sched_yield();
}

uint64_t now(clockid_t clock) {
  timespec time;
  ::clock_gettime(clock, &time);
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_nsec);
}

void name_thread(const char* name) {
  ::prctl(PR_SET_NAME, name);
}

}  // namespace zerocopy::sys
