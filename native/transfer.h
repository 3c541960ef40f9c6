#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "file.h"
#include "unique_fd.h"

namespace zerocopy {

// What a step came to.
enum class Outcome {
  done,           // every byte has been accepted
  wait_readable,  // the source has nothing by now
  wait_writable,  // the sink is full
  cold,           // the next range is on disk: warm it, then call warmed()
  again,          // the step's budget is used up
  truncated,      // the file ended before its range did
  unsupported,    // the kernel can't move these bytes this way; residual() tells which it has taken
  failed,
  cancelled,  // by the engine, never by a step
};

// The call that failed, for the error's `syscall`.
enum class Call {
  none,
  sendfile,
  sendmsg,
  dup,
  epoll_ctl,
  pthread_create,
  splice,
  copy_file_range,
  read,
  write,
  pipe,
  lseek,
  epoll_create,
  event_create,
  malloc,
  close,
  statx,
};

// How the bytes went that were not in memory.
enum class Backend { sendfile, read, splice, copy_file_range };

// What a descriptor is of.
enum class Endpoint { socket, pipe, file };

// Most that one step moves, so that no fast client holds a thread for long; and the same when
// nobody else waits for one, which saves 3 % of the CPU of a large file.
inline constexpr uint64_t kStepBytes = 1024 * 1024;
inline constexpr uint64_t kStepBytesAlone = 8 * 1024 * 1024;

// A length: to the end of the source, wherever reading finds that.
inline constexpr uint64_t kToTheEnd = ~uint64_t{0};

struct FileRange {
  std::shared_ptr<const File> file;
  uint64_t offset;
  uint64_t length;
};

// One movement of bytes from a source to a sink, and how far it has come. One thread at a time
// steps it; transferred() may be read from any.
class Transfer {
 public:
  virtual ~Transfer() = default;
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  // Moves at most about `budget` bytes. Never blocks, unless may_block() says so.
  virtual Outcome step(uint64_t budget = kStepBytes) = 0;

  // Before the transfer leaves the thread that made it: keeps its own copies of what is in memory,
  // and its own descriptors. An errno if there are none to be had.
  virtual int own() = 0;

  // What to wait for after wait_readable and wait_writable.
  virtual int source_fd() const { return -1; }
  virtual int sink_fd() const = 0;

  // Whether it writes to a file, and on which device that is: steps that do may block.
  virtual bool may_block() const { return false; }
  virtual uint64_t device() const { return 0; }

  // From another thread, while step() runs: it begins no call after the one on its way.
  void stop() { stopped_.store(true, std::memory_order_relaxed); }
  // The same while step() blocks, and nobody waits for that any more: the call on its way may still
  // move bytes. Lets go of a source that is a stream.
  virtual void abandon() { stop(); }

  // After Outcome::cold.
  virtual FileRange cold_range() const { return {}; }
  virtual void warmed() {}

  virtual Backend backend() const = 0;

  // Once, when it is over: bytes taken from the source that the sink has not accepted. Where there
  // is no memory for them they are lost, and fail() has been called.
  virtual std::vector<uint8_t> residual() { return {}; }

  uint64_t transferred() const { return transferred_.load(std::memory_order_relaxed); }
  Call failed_call() const { return failed_call_; }
  int error() const { return error_; }
  // Whether it was the source that failed: its connection, say.
  bool source_failed() const { return source_failed_; }
  // Records what failed, a step or something around it.
  Outcome fail(Call call, int error);

 protected:
  Transfer() = default;

  void count(uint64_t bytes) {
    transferred_.store(transferred() + bytes, std::memory_order_relaxed);
  }
  // For own(): puts a duplicate of our own in the place of a descriptor. An errno on failure.
  int duplicate(int* fd, UniqueFd* owner);
  int duplicate(int* fd, std::shared_ptr<File>* owner);
  // For the last step of what has written to a file: closes our descriptor of it, and tells.
  Outcome close_file(File* file);
  void blame_source() { source_failed_ = true; }
  bool is_stopped() const { return stopped_.load(std::memory_order_relaxed); }
  // As fail(), and tells whether that may mean that the kernel can't serve this pair at all.
  Outcome fail_or_unsupported(Call call, int error, bool nothing_moved);

 private:
  std::atomic<uint64_t> transferred_{0};
  std::atomic<bool> stopped_{false};
  Call failed_call_ = Call::none;
  int error_ = 0;
  bool source_failed_ = false;
};

}  // namespace zerocopy
