#include "splice_transfer.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>

#include <algorithm>
#include <utility>

namespace zerocopy {
namespace {

// SPLICE_F_NONBLOCK is about pipes; sockets are in non-blocking mode.
constexpr unsigned kFlags = SPLICE_F_NONBLOCK | SPLICE_F_MOVE;

bool is_ready(int fd, short event) {
  const sys::Result ready = sys::poll(fd, event);
  return ready.ok() && (ready.value & event) != 0;
}

}  // namespace

bool hides_reset(int fd) {
  // In this order: the kernel sets the error of a reset before the state, so that one which comes
  // in between can't be taken for one that somebody has been told of.
  if (sys::tcp_state(fd).value != TCP_CLOSE) return false;
  const sys::Result pending = sys::poll(fd, POLLERR);
  return pending.ok() && (pending.value & POLLERR) == 0;
}

SpliceTransfer::SpliceTransfer(End source, End sink, std::vector<uint8_t> head, uint64_t length)
    : source_(source), sink_(sink), head_(std::move(head)), left_(length) {}

int SpliceTransfer::own() {
  const int error = duplicate(&source_.fd, &own_source_);
  if (error) return error;
  return sink_.kind == Endpoint::file ? duplicate(&sink_.fd, &own_file_)
                                      : duplicate(&sink_.fd, &own_sink_);
}

Outcome SpliceTransfer::step(uint64_t budget) {
  const Outcome outcome = move(budget);
  const bool has_written = outcome == Outcome::done && sink_.kind == Endpoint::file;
  return has_written ? close_file(own_file_.get()) : outcome;
}

Outcome SpliceTransfer::move(uint64_t budget) {
  Outcome outcome = Outcome::done;
  any_in_step_ = false;
  for (;;) {
    bool moved;
    if (is_stopped()) {
      return Outcome::again;
    } else if (has_head()) {
      moved = send_head(&outcome);
    } else if (in_pipe_ > 0) {
      moved = drain(&outcome);
    } else if (left_ == 0) {
      return Outcome::done;
    } else if (budget == 0) {
      return Outcome::again;
    } else {
      moved = is_direct() ? pass(&budget, &outcome) : fill(&budget, &outcome);
    }
    if (!moved) return outcome;
    any_in_step_ = true;
  }
}

// What is spliced to the sink directly may block there with the source in hand: that it keeps.
void SpliceTransfer::abandon() {
  Transfer::abandon();
  if (is_direct()) return;
  std::lock_guard<std::mutex> lock(source_mutex_);
  own_source_.reset();
}

bool SpliceTransfer::send_head(Outcome* outcome) {
  iovec part{head_.data() + head_gone_, head_.size() - head_gone_};
  sys::Result sent;
  if (sink_.kind == Endpoint::socket) {
    sent = sys::send(sink_.fd, &part, 1, false);
  } else if (sink_.offset < 0) {
    sent = sys::write(sink_.fd, &part, 1);
  } else {
    sent =
        sys::write_at(sink_.fd, part.iov_base, part.iov_len, static_cast<uint64_t>(sink_.offset));
  }
  sent = sys::accepted(sent);
  if (!sent.ok()) {
    const Call call = sink_.kind == Endpoint::socket ? Call::sendmsg : Call::write;
    *outcome = is_full(sent.error) ? Outcome::wait_writable : fail(call, sent.error);
    return false;
  }
  head_gone_ += static_cast<size_t>(sent.value);
  if (sink_.offset >= 0) sink_.offset += sent.value;
  count(static_cast<uint64_t>(sent.value));
  return true;
}

// From the source to the pipe, which is empty.
bool SpliceTransfer::fill(uint64_t* budget, Outcome* outcome) {
  if (!pipe_) {
    if (const int error = PipePool::instance().take(&pipe_)) {
      // EPERM, ENOSYS: seccomp. Nothing has been taken for it.
      *outcome = fail_or_unsupported(Call::pipe, error, !any_taken_);
      return false;
    }
  }
  std::lock_guard<std::mutex> lock(source_mutex_);
  if (is_stopped()) return true;
  const uint64_t wanted = std::min(left_, *budget);
  sys::Result taken = sys::splice(source_.fd, nullptr, pipe_.write.get(), nullptr, wanted, kFlags);
  if (taken.error == EAGAIN && may_be_stuck()) {
    taken = sys::splice(source_.fd, nullptr, pipe_.write.get(), nullptr, wanted, kFlags);
    if (taken.error == EAGAIN) taken = {0, 0};
  }
  if (taken.ok() && taken.value > 0) {
    in_pipe_ = static_cast<uint64_t>(taken.value);
    left_ -= in_pipe_;
    *budget -= in_pipe_;
    any_taken_ = true;
    return true;
  }
  PipePool::instance().give_back(std::move(pipe_));
  pipe_ = Pipe();
  if (taken.ok()) {
    *outcome = ended();
  } else if (taken.error == EAGAIN) {
    *outcome = Outcome::wait_readable;
  } else {
    blame_source();
    *outcome = fail_or_unsupported(Call::splice, taken.error, !any_taken_);
  }
  return false;
}

// From the pipe to the sink.
bool SpliceTransfer::drain(Outcome* outcome) {
  const sys::Result sent = splice_to_sink(pipe_.read.get(), in_pipe_);
  if (!sent.ok()) {
    *outcome = is_full(sent.error) ? Outcome::wait_writable
                                   : fail_or_unsupported(Call::splice, sent.error, !any_spliced_);
    return false;
  }
  if (sent.value == 0) {
    // The pipe has bytes, so this is a sink that takes none and says nothing.
    *outcome = fail(Call::splice, EIO);
    return false;
  }
  in_pipe_ -= static_cast<uint64_t>(sent.value);
  return true;
}

// From one end to the other, one of which is a pipe.
bool SpliceTransfer::pass(uint64_t* budget, Outcome* outcome) {
  // A FIFO that nobody has opened for writing yet looks as if it were at its end.
  if (source_.kind == Endpoint::pipe && !any_taken_ && sys::poll(source_.fd, POLLIN).value == 0) {
    *outcome = Outcome::wait_readable;
    return false;
  }
  sys::Result moved = splice_to_sink(source_.fd, std::min(left_, *budget));
  if (moved.error == EAGAIN && may_be_stuck() && is_ready(sink_.fd, POLLOUT)) {
    moved = splice_to_sink(source_.fd, std::min(left_, *budget));
    if (moved.error == EAGAIN && is_ready(sink_.fd, POLLOUT)) moved = {0, 0};
  }
  // Neither an empty pipe nor its end, if there are bytes: it is the file that takes none; or they
  // have come since, from a FIFO's next writer maybe.
  const bool refused = moved.value == 0 || moved.error == EAGAIN;
  const bool asked_again = refused && sink_.kind == Endpoint::file && is_ready(source_.fd, POLLIN);
  if (asked_again) moved = sys::accepted(splice_to_sink(source_.fd, std::min(left_, *budget)));
  if (moved.ok() && moved.value > 0) {
    const auto bytes = static_cast<uint64_t>(moved.value);
    left_ -= bytes;
    *budget -= bytes;
    any_taken_ = true;
    return true;
  }
  if (moved.ok()) {
    *outcome = ended();
  } else if (moved.error == EAGAIN && !asked_again) {
    *outcome = wait_for_source();
  } else {
    // A pipe as source has no errors of its own, a pipe as sink just this one.
    if (source_.kind == Endpoint::socket && moved.error != EPIPE) blame_source();
    *outcome = fail_or_unsupported(Call::splice, moved.error, !any_taken_);
  }
  return false;
}

// EAGAIN, though the source has bytes: they have come since, or they are behind urgent data. There
// splice(2) stops, and poll(2) says for ever that there is something to read. Not looked for in a
// step that has moved anything: the next one doesn't.
bool SpliceTransfer::may_be_stuck() const {
  return source_.kind == Endpoint::socket && !any_in_step_ && sys::peek(source_.fd).value == 1;
}

// A file is never full for now, whatever it says, and can't be waited for.
bool SpliceTransfer::is_full(int error) const {
  return error == EAGAIN && sink_.kind != Endpoint::file;
}

// Either end may be meant by EAGAIN. Should the other one have changed by now, then what is waited
// for holds already.
Outcome SpliceTransfer::wait_for_source() {
  if (sink_.kind == Endpoint::file) return Outcome::wait_readable;
  const sys::Result ready = sys::poll(source_.fd, POLLIN);
  return ready.ok() && ready.value != 0 ? Outcome::wait_writable : Outcome::wait_readable;
}

sys::Result SpliceTransfer::splice_to_sink(int from, uint64_t count) {
  const int64_t* offset = sink_.offset < 0 ? nullptr : &sink_.offset;
  const sys::Result moved = sys::splice(from, nullptr, sink_.fd, offset, count, kFlags);
  if (!moved.ok()) return moved;
  if (offset) sink_.offset += moved.value;
  any_spliced_ = any_spliced_ || moved.value > 0;
  this->count(static_cast<uint64_t>(moved.value));
  return moved;
}

// splice(2) came to an end. Of TCP that may also be urgent data, which it doesn't pass: reading
// does.
Outcome SpliceTransfer::ended() {
  if (source_.kind != Endpoint::socket) return Outcome::done;
  const sys::Result peeked = sys::peek(source_.fd);
  if (peeked.ok() && peeked.value == 0) return Outcome::done;
  if (!peeked.ok() && peeked.error != EAGAIN) {
    blame_source();
    return fail(Call::splice, peeked.error);
  }
  fail(Call::splice, EINVAL);
  return Outcome::unsupported;
}

std::vector<uint8_t> SpliceTransfer::residual() {
  if (!has_head() && in_pipe_ == 0) return {};
  if (!sys::has_memory(head_.size() - head_gone_ + in_pipe_)) {
    fail(Call::malloc, ENOMEM);
    return {};
  }
  std::vector<uint8_t> bytes;
  bytes.reserve(head_.size() - head_gone_ + in_pipe_);
  bytes.assign(head_.begin() + static_cast<ptrdiff_t>(head_gone_), head_.end());
  const size_t in_head = bytes.size();
  bytes.resize(in_head + in_pipe_);
  for (size_t at = in_head; in_pipe_ > 0;) {
    const sys::Result read = sys::read_stream(pipe_.read.get(), bytes.data() + at, in_pipe_);
    if (!read.ok() || read.value == 0) break;  // a pipe that has bytes gives them
    at += static_cast<size_t>(read.value);
    in_pipe_ -= static_cast<uint64_t>(read.value);
  }
  bytes.resize(bytes.size() - in_pipe_);
  if (pipe_ && in_pipe_ == 0) PipePool::instance().give_back(std::move(pipe_));
  return bytes;
}

}  // namespace zerocopy
