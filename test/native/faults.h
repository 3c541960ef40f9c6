#pragma once

#include <optional>
#include <string>
#include <vector>

namespace zerocopy::test {

// The entries of sys::Calls.
enum class CallKind {
  sendfile,
  splice,
  copy_file_range,
  send,
  read_nowait,
  read,
  read_stream,
  write,
  write_at,
  peek,
  readahead,
  cached_pages,
  open_cached,
  duplicate,
  close,
  status_flags,
  status,
  seek,
  pipe,
  set_pipe_size,
  poll,
  epoll_create,
  epoll_control,
  epoll_wait,
  event_create,
  event_signal,
  thread_create,
};

inline constexpr size_t kCallKinds = static_cast<size_t>(CallKind::thread_create) + 1;

// What a call comes to in the place of what the kernel would have made of it.
struct Fault {
  enum class Kind {
    error,      // it fails
    shortened,  // it moves a third of what it would have, and a byte
    zero,       // it answers 0, and moves nothing
    cancel,     // it does its work, but before that the transfer is cancelled
  };
  Kind kind;
  int error = 0;
};

// Every way in which a call may go wrong.
const std::vector<Fault>& faults_of(CallKind call);

std::string name_of(CallKind call);
std::string name_of(const Fault& fault);
std::optional<CallKind> call_named(const std::string& name);
std::optional<Fault> fault_named(CallKind call, const std::string& name);

}  // namespace zerocopy::test
