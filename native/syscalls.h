#pragma once

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#ifndef STATX_TYPE  // musl before 1.2.5
#include <linux/stat.h>
#endif

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

// The system calls that the library makes, each retried on EINTR and each returning its errno
// beside its value. All whose failure makes a difference go through one table, which test builds
// (ZEROCOPY_SEAM) may replace to inject faults.
namespace zerocopy::sys {

struct Result {
  int64_t value;  // what the call returned, -1 on failure
  int error;      // errno on failure, otherwise 0
  bool ok() const { return error == 0; }
};

// Most that one call moves (sendfile(2), splice(2), copy_file_range(2)).
inline constexpr uint64_t kMaxBytesPerCall = 0x7ffff000;

// What a sink has taken of bytes that there certainly are. One that takes none and says nothing has
// failed: who offered them again and again would never come to an end. (What FUSE servers answer
// to a write is passed on to the writer with FOPEN_DIRECT_IO, 0 too.)
inline Result accepted(Result result) {
  return result.value == 0 ? Result{-1, EIO} : result;
}

struct Calls {
  ssize_t (*sendfile)(int out_fd, int in_fd, off_t* offset, size_t count);
  ssize_t (*splice)(int in_fd, loff_t* in_offset, int out_fd, loff_t* out_offset, size_t count,
                    unsigned flags);
  ssize_t (*copy_file_range)(int in_fd, loff_t* in_offset, int out_fd, loff_t* out_offset,
                             size_t count);
  ssize_t (*send)(int fd, const iovec* parts, size_t part_count, int flags);
  ssize_t (*read_nowait)(int fd, void* buffer, size_t count, off_t offset);
  ssize_t (*read)(int fd, void* buffer, size_t count, off_t offset);
  ssize_t (*read_stream)(int fd, void* buffer, size_t count);
  ssize_t (*write)(int fd, const iovec* parts, int part_count);
  ssize_t (*write_at)(int fd, const void* data, size_t count, off_t offset);
  ssize_t (*peek)(int fd, void* buffer, size_t count, int flags);
  ssize_t (*readahead)(int fd, off_t offset, size_t count);
  ssize_t (*cached_pages)(int fd, uint64_t offset, uint64_t length);
  int (*open_cached)(const char* path, int flags);
  int (*open)(const char* path, int flags, unsigned mode);
  int (*duplicate)(int fd);
  int (*close)(int fd);
  int (*status_flags)(int fd);
  int (*tcp_state)(int fd);
  int (*status)(int fd, struct statx* status);
  off_t (*seek)(int fd, off_t offset, int whence);
  int (*pipe)(int fds[2]);
  int (*set_pipe_size)(int fd, int bytes);
  int (*poll)(pollfd* fds, nfds_t count, int timeout_ms);
  int (*epoll_create)();
  int (*epoll_control)(int epoll_fd, int operation, int fd, epoll_event* event);
  int (*epoll_wait)(int epoll_fd, epoll_event* events, int max_events, int timeout_ms);
  int (*event_create)();
  ssize_t (*event_signal)(int fd);
  int (*thread_create)(void* (*body)(void*), void* argument);  // an errno, like pthread_create(3)
  void* (*allocate)(size_t bytes);                             // null where there is no memory
};

#ifdef ZEROCOPY_SEAM
extern Calls calls;
#endif
extern const Calls kKernelCalls;

// Sends up to `count` bytes of `in_fd` from `offset`; the descriptor's own position stays.
Result sendfile(int out_fd, int in_fd, uint64_t offset, uint64_t count);
// As sendfile(2) with a null offset: reads from, and moves, the descriptor's own position.
Result sendfile_at_position(int out_fd, int in_fd, uint64_t count);
// A null offset means the descriptor's own position (or a pipe).
Result splice(int in_fd, const int64_t* in_offset, int out_fd, const int64_t* out_offset,
              uint64_t count, unsigned flags);
Result copy_file_range(int in_fd, const int64_t* in_offset, int out_fd, const int64_t* out_offset,
                       uint64_t count);
// Sends bytes from memory without blocking and without SIGPIPE. `more`: further bytes certainly
// follow, so a last packet that isn't full may wait for them (MSG_MORE).
Result send(int fd, const iovec* parts, size_t part_count, bool more);
// preadv2(RWF_NOWAIT): reads only what is in the page cache; EAGAIN where nothing is.
Result read_nowait(int fd, void* buffer, size_t count, uint64_t offset);
Result read(int fd, void* buffer, size_t count, uint64_t offset);
// As read(2), from a pipe.
Result read_stream(int fd, void* buffer, size_t count);
// As writev(2), to a pipe or at a file's own position.
Result write(int fd, const iovec* parts, size_t part_count);
Result write_at(int fd, const void* data, size_t count, uint64_t offset);
// How many bytes a socket has, of at most one, without taking it and without blocking: 0 at its
// end.
Result peek(int fd);
// Starts reading a range into the page cache.
Result readahead(int fd, uint64_t offset, uint64_t count);
// How many pages of a range are in the page cache, or on their way there (cachestat(2)).
Result cached_pages(int fd, uint64_t offset, uint64_t length);
// Opens only what needs no disk and no network to be found (RESOLVE_CACHED), else EAGAIN.
Result open_cached(const char* path, int flags);
// As open(2), CLOEXEC.
Result open(const char* path, int flags, unsigned mode = 0);
// A second descriptor of the same open file, CLOEXEC.
Result duplicate(int fd);
// Of a file that was written to, whose file system may tell only now what became of that (close(2):
// NFS, quotas). Not made again after EINTR: Linux has freed the number by then.
Result close(int fd);
Result status_flags(int fd);
// As netinet/tcp.h numbers them (TCP_CLOSE); what is no TCP socket fails.
Result tcp_state(int fd);
// What the kernel knows without asking a server (AT_STATX_DONT_SYNC): it can't block.
Result status(int fd, struct statx* status);
// The descriptor's position, after it has been set to `offset`, if that isn't below 0.
Result seek(int fd, int64_t offset);
// Where the next data, or the next hole, begins; ENXIO beyond the last. Both move the position.
Result find_data(int fd, uint64_t offset);
Result find_hole(int fd, uint64_t offset);
Result pipe(int fds[2]);
Result set_pipe_size(int fd, int bytes);
// Which of `events` (poll(2)) hold by now.
Result poll(int fd, short events);
Result epoll_create();
Result epoll_control(int epoll_fd, int operation, int fd, uint32_t events, uint64_t data);
Result epoll_wait(int epoll_fd, epoll_event* events, int max_events, int timeout_ms);
// An eventfd(2).
Result event_create();
// Adds one to it, for whoever waits for it in an epoll.
Result event_signal(int fd);
// A detached thread that takes no signals.
Result start_thread(void* (*body)(void*), void* argument);
// Memory whose size a caller picks, so that there may be none: then null. A `new` that fails ends
// the process, there being no exceptions.
struct FreeMemory {
  void operator()(uint8_t* memory) const { std::free(memory); }
};
using Memory = std::unique_ptr<uint8_t[], FreeMemory>;
Memory allocate(size_t bytes);
// Whether there is as much, for a container that is to take it a moment later.
bool has_memory(size_t bytes);
// The calling thread's name in `top -H` and gdb; the kernel keeps 15 characters of it.
void name_thread(const char* name);
// Lets other threads run before the calling one: it never preempts them (SCHED_BATCH), and weighs
// less (nice).
void yield_to_others();
// The same at once, whatever is left of its time slice: a thread that has woken up since would wait
// for the scheduler's next tick.
void yield();
// A clock of clock_gettime(2), in nanoseconds.
uint64_t now(clockid_t clock);

}  // namespace zerocopy::sys
