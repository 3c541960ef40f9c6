// The Node-API edge: unpacks arguments, hands over, settles. TypeScript (lib/native.ts) has
// validated what comes in here; the types of these functions stand there.

#include <napi.h>

#include <errno.h>
#include <fcntl.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine.h"
#include "environment.h"
#include "file.h"
#include "syscalls.h"
#include "transfer.h"

namespace zerocopy {
namespace {

// The warmers' name for the device of bare calls, so that those which block for ever (a pipe that
// nobody fills) can't take the warmers of any file system.
constexpr uint64_t kNoDevice = ~uint64_t{0};

int32_t int_argument(const Napi::CallbackInfo& info, size_t index) {
  return info[index].As<Napi::Number>().Int32Value();
}

int64_t offset_argument(const Napi::CallbackInfo& info, size_t index) {
  return info[index].As<Napi::Number>().Int64Value();
}

Napi::Value number(Napi::Env env, double value) {
  return Napi::Number::New(env, value);
}

// configure(callback, report, movers)
void configure(const Napi::CallbackInfo& info) {
  Environment::of(info.Env())
      .set_callback(info[0].As<Napi::Function>(), info[1].As<Napi::Float64Array>());
  if (const int movers = int_argument(info, 2)) Engine::instance().set_movers(movers);
}

Napi::Value movers(const Napi::CallbackInfo& info) {
  return number(info.Env(), Engine::instance().movers());
}

void write_facts(const FileFacts& facts, Napi::Float64Array out) {
  out[0] = static_cast<double>(facts.kind);
  out[1] = static_cast<double>(facts.size);
  out[2] = facts.size_known ? 1 : 0;
}

// Holds a file opened from a path, together with whatever else has it open from one, and writes its
// facts. What isn't a regular file stays a plain descriptor, JavaScript's to use and to close.
// A descriptor, or -errno.
Napi::Value hold_opened(const Napi::CallbackInfo& info, UniqueFd fd) {
  FileFacts facts;
  if (const int error = inspect(fd.get(), &facts)) return number(info.Env(), -error);
  write_facts(facts, info[1].As<Napi::Float64Array>());
  if (facts.kind != FileKind::regular) return number(info.Env(), fd.release());
  return number(info.Env(), Environment::of(info.Env()).hold(std::move(fd), facts, true));
}

// openCached(path, facts): -EAGAIN where opening would have to wait for a disk.
Napi::Value open_cached(const Napi::CallbackInfo& info) {
  const std::string path = info[0].As<Napi::String>().Utf8Value();
  // Without waiting for a FIFO's writer, and without taking a terminal for our own.
  const sys::Result opened = sys::open_cached(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY);
  if (!opened.ok()) return number(info.Env(), -opened.error);
  return hold_opened(info, UniqueFd(static_cast<int>(opened.value)));
}

// adopt(fd, facts): takes over a descriptor that Node has opened.
Napi::Value adopt(const Napi::CallbackInfo& info) {
  return hold_opened(info, UniqueFd(int_argument(info, 0)));
}

// duplicate(fd, facts): a descriptor of our own of a file that the caller may close.
Napi::Value duplicate(const Napi::CallbackInfo& info) {
  const sys::Result copy = sys::duplicate(int_argument(info, 0));
  if (!copy.ok()) return number(info.Env(), -copy.error);
  UniqueFd fd(static_cast<int>(copy.value));
  FileFacts facts;
  if (const int error = inspect(fd.get(), &facts)) return number(info.Env(), -error);
  write_facts(facts, info[1].As<Napi::Float64Array>());
  return number(info.Env(), Environment::of(info.Env()).hold(std::move(fd), facts, false));
}

void release(const Napi::CallbackInfo& info) {
  Environment::of(info.Env()).release(int_argument(info, 0));
}

// mayBlock(fd): whether a socket is in blocking mode, so that no thread of ours may write to it.
Napi::Value may_block(const Napi::CallbackInfo& info) {
  const sys::Result flags = sys::status_flags(int_argument(info, 0));
  return Napi::Boolean::New(info.Env(), !flags.ok() || (flags.value & O_NONBLOCK) == 0);
}

// A gather list: an array in which a piece of memory is a Uint8Array, and a range of a file three
// numbers: a held descriptor, offset, length.
// False where a descriptor isn't held.
bool segments_argument(const Napi::CallbackInfo& info, size_t index,
                       std::vector<Segment>* segments) {
  Environment& environment = Environment::of(info.Env());
  const Napi::Array list = info[index].As<Napi::Array>();
  const uint32_t length = list.Length();
  for (uint32_t i = 0; i < length; ++i) {
    const Napi::Value item = list.Get(i);
    if (item.IsNumber()) {
      const auto file_number = item.As<Napi::Number>().Int32Value();
      const auto offset = list.Get(++i).As<Napi::Number>().Int64Value();
      const auto count = list.Get(++i).As<Napi::Number>().Int64Value();
      std::shared_ptr<const File> file = environment.file(file_number);
      if (!file) return false;
      segments->push_back(Segment::of_file(std::move(file), static_cast<uint64_t>(offset),
                                           static_cast<uint64_t>(count)));
    } else {
      const auto bytes = item.As<Napi::Uint8Array>();
      segments->push_back(Segment::of_memory(bytes.Data(), bytes.ByteLength()));
    }
  }
  return true;
}

// start(socketFd, segments): the transfer's id; or 0 when it has ended already, as reported.
Napi::Value start(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  std::vector<Segment> segments;
  if (!segments_argument(info, 1, &segments)) {
    environment.report({0, Outcome::failed, 0, Backend::sendfile, Call::sendfile, EBADF});
    return number(info.Env(), 0);
  }
  auto transfer = std::make_unique<Transfer>(int_argument(info, 0), std::move(segments));

  Outcome outcome = Outcome::again;
  const bool ended = transfer->step_if_short(&outcome) && outcome != Outcome::again &&
                     outcome != Outcome::wait_writable && outcome != Outcome::cold;
  if (!ended) {
    outcome = Outcome::failed;
    int error = transfer->own_memory_and_socket();
    if (error == 0) {
      const TransferId id =
          Engine::instance().submit(&transfer, environment.shared_from_this(), &error);
      if (id != 0) {
        environment.expect_event();
        return number(info.Env(), static_cast<double>(id));
      }
      transfer->fail(Call::pthread_create, error);
      outcome = Outcome::unsupported;
    }
  }
  environment.report({0, outcome, static_cast<double>(transfer->transferred()), transfer->backend(),
                      transfer->failed_call(), transfer->error()});
  return number(info.Env(), 0);
}

void cancel(const Napi::CallbackInfo& info) {
  Engine::instance().cancel(static_cast<TransferId>(offset_argument(info, 0)));
}

Napi::Value transferred(const Napi::CallbackInfo& info) {
  const auto id = static_cast<TransferId>(offset_argument(info, 0));
  return number(info.Env(), static_cast<double>(Engine::instance().transferred(id)));
}

// A bare system call. The offsets are less than 0 where JavaScript gave null.
struct BareCall {
  enum Kind { kSendfile, kSplice, kCopyFileRange };

  int kind;
  int in_fd;
  int64_t in_offset;
  int out_fd;
  int64_t out_offset;
  uint64_t count;
  unsigned flags;

  sys::Result run() const {
    const int64_t* in = in_offset < 0 ? nullptr : &in_offset;
    const int64_t* out = out_offset < 0 ? nullptr : &out_offset;
    switch (kind) {
      case kSendfile:
        return in ? sys::sendfile(out_fd, in_fd, static_cast<uint64_t>(*in), count)
                  : sys::sendfile_at_position(out_fd, in_fd, count);
      case kSplice:
        return sys::splice(in_fd, in, out_fd, out, count, flags);
      default:
        return sys::copy_file_range(in_fd, in, out_fd, out, count);
    }
  }
};

// (kind, inFd, inOffset, outFd, outOffset, count, flags)
BareCall bare_call_argument(const Napi::CallbackInfo& info) {
  return {int_argument(info, 0),
          int_argument(info, 1),
          offset_argument(info, 2),
          int_argument(info, 3),
          offset_argument(info, 4),
          static_cast<uint64_t>(offset_argument(info, 5)),
          static_cast<unsigned>(int_argument(info, 6))};
}

// callSync(...call): what the call returned, or -errno.
Napi::Value call_sync(const Napi::CallbackInfo& info) {
  const sys::Result result = bare_call_argument(info).run();
  return number(info.Env(), static_cast<double>(result.ok() ? result.value : -result.error));
}

// call(...call, id): as callSync, on a warmer; completes with `id`, which is less than 0. Returns 0
// or, when it could not be started, -errno.
Napi::Value call(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  BareCall call = bare_call_argument(info);
  const double id = info[7].As<Napi::Number>().DoubleValue();
  // Descriptors of our own: the caller's numbers may name other files by the time of the call.
  const sys::Result in = sys::duplicate(call.in_fd);
  if (!in.ok()) return number(info.Env(), -in.error);
  auto in_owner = std::make_shared<UniqueFd>(static_cast<int>(in.value));
  const sys::Result out = sys::duplicate(call.out_fd);
  if (!out.ok()) return number(info.Env(), -out.error);
  auto out_owner = std::make_shared<UniqueFd>(static_cast<int>(out.value));
  call.in_fd = in_owner->get();
  call.out_fd = out_owner->get();
  const auto job = [call, id, in_owner, out_owner, client = environment.shared_from_this()] {
    const sys::Result result = call.run();
    in_owner->reset();
    out_owner->reset();
    client->post({id, result.ok() ? Outcome::done : Outcome::failed,
                  static_cast<double>(result.value), Backend::sendfile, Call::none, result.error});
  };
  if (!Engine::instance().run_blocking(kNoDevice, job)) return number(info.Env(), -EAGAIN);
  environment.expect_event();
  return number(info.Env(), 0);
}

// pipe(fds): fills an Int32Array with the ends of a new pipe. 0 or -errno.
Napi::Value make_pipe(const Napi::CallbackInfo& info) {
  int fds[2];
  const sys::Result result = sys::pipe(fds);
  if (!result.ok()) return number(info.Env(), -result.error);
  auto out = info[0].As<Napi::Int32Array>();
  out[0] = fds[0];
  out[1] = fds[1];
  return number(info.Env(), 0);
}

// supports(kind): whether the kernel knows a bare call, and a seccomp profile lets it pass.
Napi::Value supports(const Napi::CallbackInfo& info) {
  const sys::Result result = BareCall{int_argument(info, 0), -1, -1, -1, -1, 0, 0}.run();
  return Napi::Boolean::New(info.Env(), result.error != ENOSYS && result.error != EPERM);
}

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  if (!Environment::create(env)) {
    Napi::Error::New(env, "zerocopy: no thread-safe function").ThrowAsJavaScriptException();
    return exports;
  }
  exports["configure"] = Napi::Function::New<configure>(env);
  exports["movers"] = Napi::Function::New<movers>(env);
  exports["openCached"] = Napi::Function::New<open_cached>(env);
  exports["adopt"] = Napi::Function::New<adopt>(env);
  exports["duplicate"] = Napi::Function::New<duplicate>(env);
  exports["release"] = Napi::Function::New<release>(env);
  exports["mayBlock"] = Napi::Function::New<may_block>(env);
  exports["start"] = Napi::Function::New<start>(env);
  exports["cancel"] = Napi::Function::New<cancel>(env);
  exports["transferred"] = Napi::Function::New<transferred>(env);
  exports["call"] = Napi::Function::New<call>(env);
  exports["callSync"] = Napi::Function::New<call_sync>(env);
  exports["pipe"] = Napi::Function::New<make_pipe>(env);
  exports["supports"] = Napi::Function::New<supports>(env);
  return exports;
}

}  // namespace

NODE_API_MODULE(zerocopy, initialize)

}  // namespace zerocopy
