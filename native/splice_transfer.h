#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "pipe_pool.h"
#include "syscalls.h"
#include "transfer.h"
#include "unique_fd.h"

namespace zerocopy {

// Whether a socket that has been read to its end, and whose own side has not been shut down, was
// reset: TCP has closed it, and the error has gone to another call, which wrote. It goes to the
// first that asks, and all others read an end (tcp_reset(), sock_error() in the kernel). As long as
// nobody has asked, an end that was read is one: it came before the reset.
bool hides_reset(int fd);

// Bytes of a socket or a pipe on their way to a socket, a pipe or a file: by splice(2), directly
// where one end is a pipe, else through a pipe of our own. Ends when `length` bytes have gone, or
// before that at the source's end.
//
// A pipe of our own is filled only when it is empty, and then emptied: so EAGAIN always means the
// end that the call was about. Nor does it matter how much such a pipe holds.
class SpliceTransfer : public Transfer {
 public:
  struct End {
    int fd;  // borrowed until own()
    Endpoint kind;
    int64_t offset = -1;  // in a file; less than 0: at its own position
    uint64_t device = 0;  // of a file
  };

  // `head`: the first bytes, which somebody has taken from the source already. `length` goes
  // without them.
  SpliceTransfer(End source, End sink, std::vector<uint8_t> head, uint64_t length);

  Outcome step(uint64_t budget = kStepBytes) override;
  int own() override;
  int source_fd() const override { return source_.fd; }
  int sink_fd() const override { return sink_.fd; }
  bool may_block() const override { return sink_.kind == Endpoint::file; }
  uint64_t device() const override { return sink_.device; }
  void abandon() override;
  Backend backend() const override { return Backend::splice; }
  std::vector<uint8_t> residual() override;

 private:
  bool is_direct() const { return source_.kind == Endpoint::pipe || sink_.kind == Endpoint::pipe; }
  bool has_head() const { return head_gone_ < head_.size(); }
  Outcome move(uint64_t budget);
  bool send_head(Outcome* outcome);
  bool fill(uint64_t* budget, Outcome* outcome);
  bool drain(Outcome* outcome);
  bool pass(uint64_t* budget, Outcome* outcome);
  Outcome ended();
  bool may_be_stuck() const;
  bool is_full(int error) const;
  Outcome wait_for_source();
  sys::Result splice_to_sink(int from, uint64_t count);

  End source_;
  End sink_;
  UniqueFd own_source_;
  std::mutex source_mutex_;  // between abandon() and the calls that use it, which don't block
  UniqueFd own_sink_;
  std::shared_ptr<File> own_file_;  // the same of a file
  std::vector<uint8_t> head_;
  size_t head_gone_ = 0;
  uint64_t left_;  // to be taken from the source
  bool any_taken_ = false;
  bool any_spliced_ = false;  // to the sink
  bool any_in_step_ = false;

  PipePool::User pool_;
  Pipe pipe_;  // only while it has bytes, or is about to
  uint64_t in_pipe_ = 0;
};

}  // namespace zerocopy
