// The addon, but with system calls that fail on demand. For tests alone: they load it in the place
// of the other (test/helpers/seam.ts).
#include <napi.h>

#pragma push_macro("NODE_API_MODULE")
#undef NODE_API_MODULE
#define NODE_API_MODULE(name, initialize)
#include "../../native/binding.cc"
#pragma pop_macro("NODE_API_MODULE")

#include <algorithm>
#include <limits>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <type_traits>

#include "../native/faults.h"

namespace zerocopy {
namespace {

using sys::Calls;
using test::CallKind;
using test::kCallKinds;

// What is asked for in the place of an errno.
constexpr int kZero = 0;
constexpr int kShort = -1;

struct Seam {
  std::mutex mutex;
  int counts[kCallKinds] = {};
  // The call that fails, by its number from 1; 0: each.
  CallKind call = CallKind::sendfile;
  int number = -1;
  int fault = 0;
  int fired = 0;
  // Bytes that sinks have taken, and the pipes that are none.
  double moved = 0;
  std::set<int> pipes;
};

Seam& seam() {
  static Seam& only = *new Seam;  // leaked: threads outlive static destructors
  return only;
}

// Whether this call fails.
bool fires(CallKind kind, int* fault) {
  Seam& s = seam();
  std::lock_guard<std::mutex> lock(s.mutex);
  const int number = ++s.counts[static_cast<size_t>(kind)];
  if (s.call != kind || s.number < 0 || (s.number > 0 && s.number != number)) return false;
  ++s.fired;
  *fault = s.fault;
  return true;
}

size_t a_third(size_t count) {
  return count / 3 + 1;
}

template <typename Argument>
Argument shortened(Argument argument) {
  if constexpr (std::is_same_v<Argument, size_t>) return a_third(argument);
  return argument;
}

template <auto entry, CallKind kind>
struct Tap;

template <typename Value, typename... Arguments, Value (*Calls::*entry)(Arguments...),
          CallKind kind>
struct Tap<entry, kind> {
  static Value call(Arguments... arguments) {
    int fault;
    const auto kernel = sys::kKernelCalls.*entry;
    if (!fires(kind, &fault)) return kernel(arguments...);
    // The number is free, however it answers; and pthread_create(3) returns its errno.
    if constexpr (kind == CallKind::close) kernel(arguments...);
    if constexpr (kind == CallKind::thread_create) return fault;
    if (fault == kZero) return 0;
    if (fault == kShort) return shorten(arguments...);
    errno = fault;
    return -1;
  }

 private:
  static Value shorten(Arguments... arguments) {
    return (sys::kKernelCalls.*entry)(shortened(arguments)...);
  }
};

// Those that take parts get the first one's beginning.
ssize_t short_send(int fd, const iovec* parts, size_t count, int flags) {
  int fault;
  if (!fires(CallKind::send, &fault)) return sys::kKernelCalls.send(fd, parts, count, flags);
  const iovec some{parts->iov_base, a_third(parts->iov_len)};
  if (fault == kShort) return sys::kKernelCalls.send(fd, &some, 1, flags);
  errno = fault;
  return fault == kZero ? 0 : -1;
}

ssize_t short_write(int fd, const iovec* parts, int count) {
  int fault;
  if (!fires(CallKind::write, &fault)) return sys::kKernelCalls.write(fd, parts, count);
  const iovec some{parts->iov_base, a_third(parts->iov_len)};
  if (fault == kShort) return sys::kKernelCalls.write(fd, &some, 1);
  errno = fault;
  return fault == kZero ? 0 : -1;
}

// Counts what sinks take.
template <auto call>
struct Counted;

template <typename... Arguments, ssize_t (*call)(Arguments...)>
struct Counted<call> {
  static ssize_t counted(Arguments... arguments) {
    const ssize_t value = call(arguments...);
    const int error = errno;
    {
      std::lock_guard<std::mutex> lock(seam().mutex);
      if (value > 0) seam().moved += static_cast<double>(value);
    }
    errno = error;
    return value;
  }
};

ssize_t counted_splice(int in, loff_t* from, int out, loff_t* to, size_t count, unsigned flags) {
  const ssize_t value =
      Tap<&Calls::splice, CallKind::splice>::call(in, from, out, to, count, flags);
  const int error = errno;
  {
    std::lock_guard<std::mutex> lock(seam().mutex);
    if (value > 0 && seam().pipes.count(out) == 0) seam().moved += static_cast<double>(value);
  }
  errno = error;
  return value;
}

int noted_pipe(int fds[2]) {
  const int value = Tap<&Calls::pipe, CallKind::pipe>::call(fds);
  const int error = errno;
  {
    std::lock_guard<std::mutex> lock(seam().mutex);
    if (value == 0) seam().pipes.insert(fds[1]);
  }
  errno = error;
  return value;
}

// Of a descriptor with a number that one of those pipes had.
int noted_duplicate(int fd) {
  const int value = Tap<&Calls::duplicate, CallKind::duplicate>::call(fd);
  const int error = errno;
  {
    std::lock_guard<std::mutex> lock(seam().mutex);
    seam().pipes.erase(value);
  }
  errno = error;
  return value;
}

void install() {
  Calls& calls = sys::calls;
#define TAP(name) Tap<&Calls::name, CallKind::name>::call
  calls.sendfile = Counted<TAP(sendfile)>::counted;
  calls.splice = counted_splice;
  calls.copy_file_range = Counted<TAP(copy_file_range)>::counted;
  calls.send = Counted<short_send>::counted;
  calls.read_nowait = TAP(read_nowait);
  calls.read = TAP(read);
  calls.read_stream = TAP(read_stream);
  calls.write = Counted<short_write>::counted;
  calls.write_at = Counted<TAP(write_at)>::counted;
  calls.peek = TAP(peek);
  calls.readahead = TAP(readahead);
  calls.cached_pages = TAP(cached_pages);
  calls.open_cached = TAP(open_cached);
  calls.duplicate = noted_duplicate;
  calls.close = TAP(close);
  calls.status_flags = TAP(status_flags);
  calls.status = TAP(status);
  calls.seek = TAP(seek);
  calls.pipe = noted_pipe;
  calls.set_pipe_size = TAP(set_pipe_size);
  calls.poll = TAP(poll);
  calls.epoll_create = TAP(epoll_create);
  calls.epoll_control = TAP(epoll_control);
  calls.epoll_wait = TAP(epoll_wait);
  calls.event_create = TAP(event_create);
  calls.event_signal = TAP(event_signal);
  calls.thread_create = TAP(thread_create);
#undef TAP
}

// inject(call, number, fault): an errno, 0 (the call answers 0) or -1 (it moves less than it could)
// at one call, counted from now on; number 0: at each. False: there is no such call.
Napi::Value inject(const Napi::CallbackInfo& info) {
  const auto kind = test::call_named(info[0].As<Napi::String>().Utf8Value());
  Seam& s = seam();
  std::lock_guard<std::mutex> lock(s.mutex);
  std::fill(std::begin(s.counts), std::end(s.counts), 0);
  s.fired = 0;
  s.moved = 0;
  s.number = -1;
  if (kind) {
    s.call = *kind;
    s.number = int_argument(info, 1);
    s.fault = int_argument(info, 2);
  }
  return Napi::Boolean::New(info.Env(), kind.has_value());
}

// counts(): how often each call has been made since.
Napi::Value counts(const Napi::CallbackInfo& info) {
  Napi::Object all = Napi::Object::New(info.Env());
  std::lock_guard<std::mutex> lock(seam().mutex);
  for (size_t i = 0; i < kCallKinds; ++i)
    all[test::name_of(static_cast<CallKind>(i))] = seam().counts[i];
  return all;
}

// fired(): how many of them went wrong.
Napi::Value fired(const Napi::CallbackInfo& info) {
  std::lock_guard<std::mutex> lock(seam().mutex);
  return number(info.Env(), seam().fired);
}

// moved(): how many bytes sinks have taken by native calls.
Napi::Value moved(const Napi::CallbackInfo& info) {
  std::lock_guard<std::mutex> lock(seam().mutex);
  return number(info.Env(), seam().moved);
}

// err(how): a mistake that sanitizers must find (test/sanitizers/mistakes.mjs).
void err(const Napi::CallbackInfo& info) {
  const std::string how = info[0].As<Napi::String>().Utf8Value();
  volatile int one = 1;  // what the compiler can't see through
  if (how == "beyond") {
    const std::unique_ptr<char[]> bytes(new char[one]);
    one = bytes[one];
  }
  if (how == "overflow") one = std::numeric_limits<int>::max() + one;
  if (how == "lost") {
    char* volatile last = nullptr;
    for (int i = 0; i < 100; ++i) last = new char[one];
    if (last != nullptr) last = nullptr;
  }
}

Napi::Object initialize_with_seam(Napi::Env env, Napi::Object exports) {
  static std::once_flag installed;  // one table for all environments
  std::call_once(installed, install);
  exports["inject"] = Napi::Function::New<inject>(env);
  exports["counts"] = Napi::Function::New<counts>(env);
  exports["fired"] = Napi::Function::New<fired>(env);
  exports["moved"] = Napi::Function::New<moved>(env);
  exports["err"] = Napi::Function::New<err>(env);
  return initialize(env, exports);
}

}  // namespace

NODE_API_MODULE(zerocopy_seam, initialize_with_seam)

}  // namespace zerocopy
