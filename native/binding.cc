// The Node-API edge: unpacks arguments, hands over, settles. TypeScript (lib/native.ts) has
// validated what comes in here; the types of these functions stand there.

#include <napi.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "copy_transfer.h"
#include "engine.h"
#include "environment.h"
#include "file.h"
#include "gather_transfer.h"
#include "mounts.h"
#include "opening.h"
#include "residency.h"
#include "splice_transfer.h"
#include "syscalls.h"

namespace zerocopy {
namespace {

// The warmers' name for the device of bare calls, so that those which block for ever (a pipe that
// nobody fills) can't take the warmers of any file system.
constexpr uint64_t kNoDevice = ~uint64_t{0};

// Of what send_now() sends before a file: the headers of an HTTP message.
constexpr size_t kMaxHeadBytes = 4096;

// Without waiting for a FIFO's writer, and without taking a terminal for our own.
constexpr int kOpenFlags = O_RDONLY | O_NONBLOCK | O_NOCTTY;

// What those that complete later return where no thread is to be had.
constexpr int kNoThread = 1;

int32_t int_argument(const Napi::CallbackInfo& info, size_t index) {
  return info[index].As<Napi::Number>().Int32Value();
}

int64_t offset_argument(const Napi::CallbackInfo& info, size_t index) {
  return info[index].As<Napi::Number>().Int64Value();
}

Napi::Value number(Napi::Env env, double value) {
  return Napi::Number::New(env, value);
}

// configure(callback, report, facts, movers)
void configure(const Napi::CallbackInfo& info) {
  Environment::of(info.Env())
      .set_callback(info[0].As<Napi::Function>(), info[1].As<Napi::Float64Array>(),
                    info[2].As<Napi::Float64Array>());
  if (const int movers = int_argument(info, 3)) Engine::instance().set_movers(movers);
}

// movers(): how many there are or will be; 0 where none could be started, for what is reported.
Napi::Value movers(const Napi::CallbackInfo& info) {
  StartFailure failure;
  const int count = Engine::instance().movers(&failure);
  if (count == 0) {
    Environment::of(info.Env())
        .report({0, Outcome::unsupported, 0, Backend::sendfile, failure.call, failure.error});
  }
  return number(info.Env(), count);
}

// -errno, and the call that failed, as reported.
Napi::Value refused(const Napi::CallbackInfo& info, Call call, int error) {
  Environment::of(info.Env()).report({0, Outcome::failed, 0, Backend::sendfile, call, error});
  return number(info.Env(), -error);
}

// Holds what has been opened from a path, and reports its facts. A descriptor, or -errno.
Napi::Value hold_opened(const Napi::CallbackInfo& info, UniqueFd fd) {
  Environment::OpenedFile opened{std::move(fd), {}};
  if (const int error = inspect(opened.fd.get(), &opened.facts))
    return refused(info, Call::statx, error);
  return number(info.Env(), Environment::of(info.Env()).hold(std::move(opened)));
}

// False where the path is too long for the kernel.
bool path_argument(const Napi::CallbackInfo& info, char (&path)[PATH_MAX]) {
  size_t length = 0;
  napi_get_value_string_utf8(info.Env(), info[0], path, sizeof path, &length);
  // It may have been cut off, and then before a character of up to four bytes.
  return length + 4 < sizeof path;
}

sys::Result open_path(const Napi::CallbackInfo& info) {
  char path[PATH_MAX];
  if (!path_argument(info, path)) return {-1, ENAMETOOLONG};
  return open_at_once(path, kOpenFlags);
}

// openCached(path): -EAGAIN where opening would have to wait for a disk.
Napi::Value open_cached(const Napi::CallbackInfo& info) {
  const sys::Result opened = open_path(info);
  if (!opened.ok()) return number(info.Env(), -opened.error);
  return hold_opened(info, UniqueFd(static_cast<int>(opened.value)));
}

// openPlain(path): the same, but not held: JavaScript's to use and to close with Node's fs.
Napi::Value open_plain(const Napi::CallbackInfo& info) {
  const sys::Result opened = open_path(info);
  if (!opened.ok()) return number(info.Env(), -opened.error);
  UniqueFd fd(static_cast<int>(opened.value));
  FileFacts facts;
  if (const int error = inspect(fd.get(), &facts)) return number(info.Env(), -error);
  Environment::of(info.Env()).report(facts);
  return number(info.Env(), fd.release());
}

// open(path, id): as openCached, on a warmer of the device that the path leads to, however long it
// takes; completes with `id`, which is less than 0, and the descriptor. The event loop doesn't stay
// alive for it. Returns 0 or, when it could not be started, -errno or kNoThread.
Napi::Value open_later(const Napi::CallbackInfo& info) {
  char path[PATH_MAX];
  if (!path_argument(info, path)) return number(info.Env(), -ENAMETOOLONG);
  const double id = info[1].As<Napi::Number>().DoubleValue();
  const auto client = Environment::of(info.Env()).shared_from_this();
  const auto job = [path = std::string(path), id, client] {
    const sys::Result result = sys::open(path.c_str(), kOpenFlags);
    Environment::OpenedFile opened{UniqueFd(static_cast<int>(result.value)), {}};
    const int error = result.ok() ? inspect(opened.fd.get(), &opened.facts) : result.error;
    Environment::Event event{id, Outcome::done, 0, Backend::read, Call::none, error};
    if (error == 0) event.opened = std::make_shared<Environment::OpenedFile>(std::move(opened));
    event.expected = false;
    client->post(std::move(event));
  };
  return number(info.Env(),
                Engine::instance().run_blocking(device_towards(path), job) ? 0 : kNoThread);
}

// keepAlive(wanted): has the event loop stay alive for something, and, once, no more.
void keep_alive(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  if (info[0].As<Napi::Boolean>().Value()) {
    environment.expect_event();
  } else {
    environment.expect_event_no_more();
  }
}

// inspect(fd): 0 or -errno.
Napi::Value inspect_descriptor(const Napi::CallbackInfo& info) {
  FileFacts facts;
  if (const int error = inspect(int_argument(info, 0), &facts)) return number(info.Env(), -error);
  Environment::of(info.Env()).report(facts);
  return number(info.Env(), 0);
}

// seek(fd, offset): sets a descriptor's position, or with an offset below 0 only tells it.
Napi::Value seek(const Napi::CallbackInfo& info) {
  const int64_t offset = offset_argument(info, 1);
  const sys::Result result = sys::seek(int_argument(info, 0), offset);
  return number(info.Env(), static_cast<double>(result.ok() ? result.value : -result.error));
}

// adopt(fd): as openCached, of what Node has opened and will close.
Napi::Value adopt(const Napi::CallbackInfo& info) {
  const sys::Result copy = sys::duplicate(int_argument(info, 0));
  if (!copy.ok()) return refused(info, Call::dup, copy.error);
  return hold_opened(info, UniqueFd(static_cast<int>(copy.value)));
}

// duplicate(fd): a descriptor of our own of a file that the caller may close.
Napi::Value duplicate(const Napi::CallbackInfo& info) {
  const sys::Result copy = sys::duplicate(int_argument(info, 0));
  if (!copy.ok()) return refused(info, Call::dup, copy.error);
  UniqueFd fd(static_cast<int>(copy.value));
  FileFacts facts;
  if (const int error = inspect(fd.get(), &facts)) return refused(info, Call::statx, error);
  Environment::of(info.Env()).report(facts);
  return number(info.Env(), Environment::of(info.Env()).hold(std::move(fd), facts, false));
}

void release(const Napi::CallbackInfo& info) {
  Environment::of(info.Env()).release(int_argument(info, 0));
}

// surrender(fd): in its place a descriptor that isn't held: JavaScript's to use and to close, but
// not with Node's fs in a worker. Or -errno.
Napi::Value surrender(const Napi::CallbackInfo& info) {
  const int fd = int_argument(info, 0);
  const sys::Result copy = sys::duplicate(fd);
  if (!copy.ok()) return number(info.Env(), -copy.error);
  Environment::of(info.Env()).release(fd);
  return number(info.Env(), static_cast<double>(copy.value));
}

// warm(fd, offset, length, id): brings a range of a file into the page cache, on a warmer;
// completes with `id`, which is less than 0. The event loop doesn't stay alive for it. Returns 0
// or, when it could not be started, -errno or kNoThread.
Napi::Value warm_range(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  int error;
  const std::shared_ptr<const File> file = File(int_argument(info, 0)).duplicate(&error);
  if (!file) return number(info.Env(), -error);
  const auto offset = static_cast<uint64_t>(offset_argument(info, 1));
  const auto length = static_cast<uint64_t>(offset_argument(info, 2));
  const double id = info[3].As<Napi::Number>().DoubleValue();
  const auto job = [file, offset, length, id, client = environment.shared_from_this()] {
    warm(*file, offset, length);
    Environment::Event event{id, Outcome::done, 0, Backend::read, Call::none, 0};
    event.expected = false;
    client->post(std::move(event));
  };
  return number(info.Env(), Engine::instance().run_blocking(file->device(), job) ? 0 : kNoThread);
}

// mayBlock(fd): whether a socket or a pipe is in blocking mode, so that no thread of ours may write
// to it.
Napi::Value may_block(const Napi::CallbackInfo& info) {
  const sys::Result flags = sys::status_flags(int_argument(info, 0));
  return Napi::Boolean::New(info.Env(), !flags.ok() || (flags.value & O_NONBLOCK) == 0);
}

// isAppending(fd): whether writes go to the file's end, wherever that is (O_APPEND).
Napi::Value is_appending(const Napi::CallbackInfo& info) {
  const sys::Result flags = sys::status_flags(int_argument(info, 0));
  return Napi::Boolean::New(info.Env(), flags.ok() && (flags.value & O_APPEND) != 0);
}

// hidesReset(fd): see hides_reset() in splice_transfer.h.
Napi::Value hides_reset_of(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), hides_reset(int_argument(info, 0)));
}

// A length less than 0 goes to wherever reading finds the end.
uint64_t length_of(int64_t length) {
  return length < 0 ? kToTheEnd : static_cast<uint64_t>(length);
}

// A gather list: an array in which a piece of memory is a Uint8Array, and a range of a file three
// numbers: a descriptor, held or the caller's own, offset, length.
// False where there is no memory for as many.
bool segments_argument(const Napi::CallbackInfo& info, size_t index,
                       std::vector<Segment>* segments) {
  Environment& environment = Environment::of(info.Env());
  const Napi::Array list = info[index].As<Napi::Array>();
  const uint32_t length = list.Length();
  if (!sys::has_memory(length * sizeof(Segment))) return false;
  segments->reserve(length);
  std::shared_ptr<const File> file;
  for (uint32_t i = 0; i < length; ++i) {
    const Napi::Value item = list.Get(i);
    if (item.IsNumber()) {
      const auto file_number = item.As<Napi::Number>().Int32Value();
      const auto offset = list.Get(++i).As<Napi::Number>().Int64Value();
      const auto count = list.Get(++i).As<Napi::Number>().Int64Value();
      if (!file || file->fd() != file_number) {
        file = environment.file(file_number);
        if (!file) file = std::make_shared<const File>(file_number);
      }
      segments->push_back(Segment::of_file(file, static_cast<uint64_t>(offset), length_of(count)));
    } else {
      const auto bytes = item.As<Napi::Uint8Array>();
      segments->push_back(Segment::of_memory(bytes.Data(), bytes.ByteLength()));
    }
  }
  return true;
}

Endpoint endpoint_argument(const Napi::CallbackInfo& info, size_t index) {
  return static_cast<Endpoint>(int_argument(info, index));
}

void report(Environment* environment, const Transfer& transfer, Outcome outcome) {
  environment->report({0, outcome, static_cast<double>(transfer.transferred()), transfer.backend(),
                       transfer.failed_call(), transfer.error()});
}

// For a transfer that there is no memory for.
Napi::Value no_memory(const Napi::CallbackInfo& info, Backend backend) {
  Environment::of(info.Env()).report({0, Outcome::failed, 0, backend, Call::malloc, ENOMEM});
  return number(info.Env(), 0);
}

// The transfer's id; or 0 when it could not be started, as reported.
Napi::Value submit(const Napi::CallbackInfo& info, std::unique_ptr<Transfer> transfer) {
  Environment& environment = Environment::of(info.Env());
  Outcome outcome = Outcome::failed;
  if (transfer->own() == 0) {
    const TransferId id = Engine::instance().submit(&transfer, environment.shared_from_this());
    if (id != 0) {
      environment.expect_event();
      return number(info.Env(), static_cast<double>(id));
    }
    outcome = Outcome::unsupported;
  }
  report(&environment, *transfer, outcome);
  return number(info.Env(), 0);
}

// send(sinkFd, sinkKind, segments): to a socket or a pipe. The transfer's id; or 0 when it has
// ended already, as reported.
Napi::Value send(const Napi::CallbackInfo& info) {
  std::vector<Segment> segments;
  if (!segments_argument(info, 2, &segments)) return no_memory(info, Backend::sendfile);
  auto transfer = std::make_unique<GatherTransfer>(int_argument(info, 0), std::move(segments),
                                                   endpoint_argument(info, 1));
  Outcome outcome = Outcome::again;
  const bool ended = transfer->step_if_short(&outcome) && outcome != Outcome::again &&
                     outcome != Outcome::wait_writable && outcome != Outcome::cold;
  if (!ended) return submit(info, std::move(transfer));
  report(&Environment::of(info.Env()), *transfer, outcome);
  return number(info.Env(), 0);
}

// splice(sourceFd, sourceKind, sinkFd, sinkKind, sinkOffset, head, length): from a socket or a pipe
// to any endpoint. `head`, a Uint8Array, goes first. A length less than 0: to the source's end.
Napi::Value splice(const Napi::CallbackInfo& info) {
  const SpliceTransfer::End source{int_argument(info, 0), endpoint_argument(info, 1)};
  SpliceTransfer::End sink{int_argument(info, 2), endpoint_argument(info, 3),
                           offset_argument(info, 4)};
  FileFacts facts;
  if (sink.kind == Endpoint::file && inspect(sink.fd, &facts) == 0) sink.device = facts.device;
  const auto head = info[5].As<Napi::Uint8Array>();
  if (!sys::has_memory(head.ByteLength())) return no_memory(info, Backend::splice);
  return submit(
      info, std::make_unique<SpliceTransfer>(
                source, sink, std::vector<uint8_t>(head.Data(), head.Data() + head.ByteLength()),
                length_of(offset_argument(info, 6))));
}

// copy(segments, sinkFd, sinkOffset, maySeek, holes): to a file.
Napi::Value copy(const Napi::CallbackInfo& info) {
  CopyTransfer::Sink sink{int_argument(info, 1), offset_argument(info, 2)};
  sink.may_seek = info[3].As<Napi::Boolean>().Value();
  sink.holes = static_cast<CopyTransfer::Holes>(int_argument(info, 4));
  FileFacts facts;
  if (inspect(sink.fd, &facts) == 0) sink.device = facts.device;
  std::vector<Segment> segments;
  if (!segments_argument(info, 0, &segments)) return no_memory(info, Backend::copy_file_range);
  return submit(info, std::make_unique<CopyTransfer>(sink, std::move(segments)));
}

// sendNow(sinkFd, sinkKind, head, fd, offset, length): sends what of a string (Latin-1) and a range
// of a file can be sent at once, from this thread, and reports it, also whether the file ends
// there. False, with nothing sent, where that would take long or might block.
Napi::Value send_now(const Napi::CallbackInfo& info) {
  const napi_env env = info.Env();
  char head[kMaxHeadBytes + 1];
  size_t head_length = 0;
  napi_get_value_string_latin1(env, info[2], head, sizeof head, &head_length);
  std::vector<Segment> segments;
  segments.reserve(2);
  segments.push_back(Segment::of_memory(reinterpret_cast<uint8_t*>(head), head_length));
  const int fd = int_argument(info, 3);
  segments.push_back(Segment::of_file(std::make_shared<const File>(fd),
                                      static_cast<uint64_t>(offset_argument(info, 4)),
                                      static_cast<uint64_t>(offset_argument(info, 5))));
  GatherTransfer transfer(int_argument(info, 0), std::move(segments), endpoint_argument(info, 1));
  Outcome outcome;
  if (!transfer.step_if_short(&outcome, kShortStretchBytes)) {
    return Napi::Boolean::New(env, false);
  }
  Environment::of(env).report({0, outcome, static_cast<double>(transfer.transferred()),
                               transfer.backend(), transfer.failed_call(), transfer.error(),
                               outcome == Outcome::done && transfer.is_at_file_end()});
  return Napi::Boolean::New(env, true);
}

void cancel(const Napi::CallbackInfo& info) {
  Engine::instance().cancel(static_cast<TransferId>(offset_argument(info, 0)));
}

void abandon(const Napi::CallbackInfo& info) {
  Engine::instance().abandon(static_cast<TransferId>(offset_argument(info, 0)));
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
// or, when it could not be started, -errno or kNoThread.
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
  if (!Engine::instance().run_blocking(kNoDevice, job)) return number(info.Env(), kNoThread);
  environment.expect_event();
  return number(info.Env(), 0);
}

// pipe(fds, held): fills an Int32Array with the ends of a new pipe, plain descriptors or held ones.
// 0 or -errno.
Napi::Value make_pipe(const Napi::CallbackInfo& info) {
  int fds[2];
  const sys::Result result = sys::pipe(fds);
  if (!result.ok()) return number(info.Env(), -result.error);
  auto out = info[0].As<Napi::Int32Array>();
  const bool held = info[1].As<Napi::Boolean>().Value();
  for (size_t i = 0; i < 2; ++i) {
    if (held) Environment::of(info.Env()).hold(UniqueFd(fds[i]), FileFacts{}, false);
    out[i] = fds[i];
  }
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
  Mounts::instance().any_served();  // reads them now, and not when a first file waits for it
  exports["configure"] = Napi::Function::New<configure>(env);
  exports["movers"] = Napi::Function::New<movers>(env);
  exports["openCached"] = Napi::Function::New<open_cached>(env);
  exports["openPlain"] = Napi::Function::New<open_plain>(env);
  exports["keepAlive"] = Napi::Function::New<keep_alive>(env);
  exports["open"] = Napi::Function::New<open_later>(env);
  exports["inspect"] = Napi::Function::New<inspect_descriptor>(env);
  exports["seek"] = Napi::Function::New<seek>(env);
  exports["adopt"] = Napi::Function::New<adopt>(env);
  exports["duplicate"] = Napi::Function::New<duplicate>(env);
  exports["release"] = Napi::Function::New<release>(env);
  exports["surrender"] = Napi::Function::New<surrender>(env);
  exports["warm"] = Napi::Function::New<warm_range>(env);
  exports["mayBlock"] = Napi::Function::New<may_block>(env);
  exports["isAppending"] = Napi::Function::New<is_appending>(env);
  exports["hidesReset"] = Napi::Function::New<hides_reset_of>(env);
  exports["send"] = Napi::Function::New<send>(env);
  exports["splice"] = Napi::Function::New<splice>(env);
  exports["copy"] = Napi::Function::New<copy>(env);
  exports["sendNow"] = Napi::Function::New<send_now>(env);
  exports["cancel"] = Napi::Function::New<cancel>(env);
  exports["abandon"] = Napi::Function::New<abandon>(env);
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
