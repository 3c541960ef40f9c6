#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "residency.h"
#include "unique_fd.h"

namespace zerocopy {

// What a step came to.
enum class Outcome {
  done,           // every byte has been accepted
  wait_writable,  // the socket is full
  cold,           // the next range is on disk: warm it, then call warmed()
  again,          // the step's budget is used up
  truncated,      // the file ended before its range did
  unsupported,    // the kernel can't move these bytes this way; none of the segment has moved
  failed,
  cancelled,  // by the engine, never by a step
};

// The call that failed, for the error's `syscall`.
enum class Call { none, sendfile, sendmsg, dup, epoll_ctl, pthread_create };

// How the bytes of files went.
enum class Backend { sendfile, read };

// Most that one step moves, so that no fast client holds a thread for long; and the same when
// nobody else waits for one, which saves 3 % of the CPU of a large file.
inline constexpr uint64_t kStepBytes = 2 * 1024 * 1024;
inline constexpr uint64_t kStepBytesAlone = 8 * 1024 * 1024;

// Most that a transfer may have in all to be tried on the caller's own thread: 1 MiB of a file and
// the headers before it. That is about 150 us of CPU, where a stream takes some 950 and the way
// over a mover 200 to 290 (HTTP over loopback, Linux 6.18).
inline constexpr uint64_t kShortWayBytes = 1024 * 1024 + 16 * 1024;

// Of such a transfer, which must not block, a page is looked at in each stretch of this length.
inline constexpr uint64_t kShortWayProbeBytes = 128 * 1024;

// Up to here one read that can't block and one sendmsg beat sendfile (the `read` backend).
inline constexpr uint64_t kReadWayBytes = 24 * 1024;

// A piece of a source: bytes in memory, or a range of a file.
struct Segment {
  static Segment of_memory(const uint8_t* data, uint64_t length);
  static Segment of_file(std::shared_ptr<const File> file, uint64_t offset, uint64_t length);

  std::shared_ptr<const File> file;  // null: memory
  uint64_t offset = 0;
  uint64_t length = 0;
  const uint8_t* data = nullptr;       // borrowed from the caller until own()
  std::unique_ptr<uint8_t[]> storage;  // set by own()
};

struct FileRange {
  std::shared_ptr<const File> file;
  uint64_t offset;
  uint64_t length;
};

// A gather list on its way to a socket, and how far it has come. One thread at a time steps it;
// transferred() may be read from any. Never blocks, as long as the socket is in non-blocking mode
// and what probe_residency() says is true.
class Transfer {
 public:
  // `socket` is borrowed until own().
  Transfer(int socket, std::vector<Segment> segments);

  // Moves at most about `budget` bytes.
  Outcome step(uint64_t budget = kStepBytes);

  // A step on the caller's thread, for a transfer that is short and resident. False if it isn't;
  // then nothing was done.
  bool step_if_short(Outcome* outcome);

  // Before the transfer leaves the thread that made it: keeps its own copies of the memory
  // segments and its own descriptors of the socket and of borrowed files. An errno if there are
  // none to be had.
  int own();

  int socket() const { return socket_; }
  uint64_t transferred() const { return transferred_.load(std::memory_order_relaxed); }
  Backend backend() const {
    return read_used_ && !sendfile_used_ ? Backend::read : Backend::sendfile;
  }
  // After done: whether the last byte was the last of its file, by then. A system call, maybe.
  bool is_at_file_end() const;
  Call failed_call() const { return failed_call_; }
  int error() const { return error_; }
  // Records what failed, a step or something around it.
  Outcome fail(Call call, int error);

  // After Outcome::cold.
  FileRange cold_range() const;
  void warmed();

 private:
  const Segment& current() const { return segments_[index_]; }
  void advance(uint64_t count);
  Outcome move(uint64_t budget);
  bool look_ahead(uint64_t budget);
  bool look(uint64_t window);
  bool everything_is_resident() const;
  bool send_by_reading(Outcome* outcome);
  bool send_memory(uint64_t* budget, Outcome* outcome);
  bool send_file(uint64_t* budget, Outcome* outcome);

  std::vector<Segment> segments_;  // none of them empty
  int socket_;
  UniqueFd own_socket_;
  uint64_t total_ = 0;
  size_t index_ = 0;           // the current segment
  uint64_t within_ = 0;        // bytes of it that have gone
  uint64_t probed_until_ = 0;  // up to here, within it, residency has been looked at
  bool residency_unknown_ = false;
  bool known_resident_ = false;  // the step in hand needs no probe
  std::atomic<uint64_t> transferred_{0};
  bool end_seen_ = false;  // a read that asked for more found the file's end
  bool read_used_ = false;
  bool sendfile_used_ = false;
  Call failed_call_ = Call::none;
  int error_ = 0;
};

}  // namespace zerocopy
