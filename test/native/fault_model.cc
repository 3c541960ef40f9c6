// How a transfer ends when a call of it fails: the rules, from DESIGN's facts and the man pages,
// and not from the engine's code. What they need to know of a run they take from its calls.
#include "fault_model.h"

#include <string.h>

#include <algorithm>

namespace zerocopy::test {
namespace {

constexpr const char* kOutcomeNames[] = {"done",        "wait_readable", "wait_writable",
                                         "cold",        "again",         "truncated",
                                         "unsupported", "failed",        "cancelled"};
constexpr const char* kCallNames[] = {
    "none",         "sendfile",        "sendmsg", "dup",   "epoll_ctl", "pthread_create",
    "splice",       "copy_file_range", "read",    "write", "pipe",      "lseek",
    "epoll_create", "event_create",    "malloc",  "close", "statx"};

// Whether an error may say that the kernel can't move these bytes this way, and nothing worse.
bool may_mean_unsupported(int error) {
  return error == ENOSYS         // gVisor, seccomp
         || error == EPERM       // seccomp
         || error == EINVAL      // file systems without splice_read or splice_write
         || error == EOPNOTSUPP  // stacked file systems
         || error == EXDEV       // copy_file_range(2) between file systems
         || error == EIO;        // CIFS
}

Ending failure(Call call, int error, bool source_failed = false) {
  return {Outcome::failed, call, error, source_failed};
}

// What a fault leads to: this ending; this or, if nothing else happens, the end that would have
// come without it; or just that.
struct Effect {
  std::optional<Ending> ending{};
  bool is_certain = false;
  bool may_be_less = false;
  bool may_lose_residual = false;
};

const Effect kGoesOn{};
Effect ends(Ending ending) {
  return {ending, true};
}
Effect may_end(Ending ending) {
  return {ending};
}

class Rules {
 public:
  Rules(const Flow& flow, Scenario::Start start, const std::vector<Event>& events, size_t at)
      : flow_(flow),
        start_(start),
        events_(events),
        at_(at),
        event_(events[at]),
        fault_(*event_.fault) {}

  Effect effect() const {
    // Every call is made again when a signal has interrupted it.
    if (is_error(EINTR)) return kGoesOn;
    if (fault_.kind == Fault::Kind::cancel) return may_end({Outcome::cancelled});
    switch (event_.call) {
      case CallKind::sendfile:
      case CallKind::copy_file_range:
        return flow_.movement == Movement::copy ? of_copying() : of_sending();
      case CallKind::splice:
        return flow_.movement == Movement::splice ? of_splicing() : of_sending();
      case CallKind::send:
        return of_accepting(Call::sendmsg);
      case CallKind::write:
      case CallKind::write_at:
        return of_accepting(Call::write);
      case CallKind::read:
        return of_reading();
      case CallKind::seek:
        return of_seeking();
      case CallKind::read_stream:
        // Nothing of a pipe of our own that has bytes fails. Should it, they are lost.
        return is_error() || is_zero() ? Effect{std::nullopt, false, false, true} : kGoesOn;
      case CallKind::duplicate:
        return ends(failure(Call::dup, fault_.error));
      case CallKind::close:
        return ends(failure(Call::close, fault_.error));
      case CallKind::pipe:
        return of_pipe();
      case CallKind::epoll_control:
        return of_waiting();
      case CallKind::epoll_create:
        return ends({Outcome::unsupported, Call::epoll_create, fault_.error});
      case CallKind::event_create:
        return ends({Outcome::unsupported, Call::event_create, fault_.error});
      case CallKind::thread_create:
        // One mover is enough, and without a warmer a mover waits for the disk.
        return is_first_thread() ? ends({Outcome::unsupported, Call::pthread_create, fault_.error})
                                 : kGoesOn;
      case CallKind::peek:
        return of_peeking();
      case CallKind::status:
        return of_status();
      // Looks and wishes: what they don't tell, or don't get, does no harm.
      case CallKind::read_nowait:
      case CallKind::cached_pages:
        return start_ == Scenario::Start::now ? may_end({Outcome::cold}) : kGoesOn;
      default:
        return kGoesOn;
    }
  }

 private:
  bool is_error() const { return fault_.kind == Fault::Kind::error; }
  bool is_error(int error) const { return is_error() && fault_.error == error; }
  bool is_zero() const { return fault_.kind == Fault::Kind::zero; }
  bool is_source(int fd) const { return fd >= 0 && (fd == flow_.own_source || fd == flow_.source); }
  bool is_sink(int fd) const { return fd >= 0 && (fd == flow_.own_sink || fd == flow_.sink); }

  // Of an engine that starts.
  bool is_first_thread() const {
    const auto before = [this](CallKind call) {
      return std::any_of(events_.begin(), events_.begin() + static_cast<ptrdiff_t>(at_),
                         [call](const Event& event) { return event.call == call; });
    };
    return before(CallKind::epoll_create) && !before(CallKind::thread_create);
  }

  // What a step on the caller's own thread comes to when the sink is full; others wait.
  Effect full() const {
    return start_ == Scenario::Start::now ? ends({Outcome::wait_writable}) : kGoesOn;
  }

  // A range of a file on its way to a socket or a pipe.
  Effect of_sending() const {
    const Call call = event_.call == CallKind::splice ? Call::splice : Call::sendfile;
    if (is_error(EAGAIN)) return full();
    if (is_error()) {
      const bool is_unsupported =
          may_mean_unsupported(fault_.error) && none_moved(event_.arguments.offset, event_.call);
      return ends({is_unsupported ? Outcome::unsupported : Outcome::failed, call, fault_.error});
    }
    if (is_zero()) return ends({Outcome::truncated});  // it has become shorter
    return kGoesOn;
  }

  // Bytes from memory on their way to any sink.
  Effect of_accepting(Call call) const {
    if (is_error(EAGAIN) && flow_.sink_kind != Endpoint::file) return full();
    if (is_error()) return ends(failure(call, fault_.error));
    // As FUSE file systems may: who takes nothing and says nothing has failed.
    if (is_zero()) return ends(failure(call, EIO));
    // Of what was read in one go the rest is another step's.
    return start_ == Scenario::Start::now ? may_end({Outcome::again}) : kGoesOn;
  }

  // A range of a file on its way to a file. Each way but the last has another behind it.
  Effect of_copying() const {
    const Call call = event_.call == CallKind::sendfile ? Call::sendfile : Call::copy_file_range;
    if (!is_error()) return kGoesOn;  // 0: reading tells whether it is the end
    return another_way(event_.arguments.offset, event_.call) ? kGoesOn
                                                             : ends(failure(call, fault_.error));
  }

  // Whether an error at a position of the source is no worse than that this way can't serve. EBADF
  // is what copy_file_range(2) says of O_APPEND.
  bool another_way(int64_t offset, CallKind way) const {
    return (may_mean_unsupported(fault_.error) || fault_.error == EBADF) && none_moved(offset, way);
  }

  // Whether a call has moved nothing yet of the range that a position of the source is in.
  bool none_moved(int64_t offset, CallKind way) const {
    for (const Flow::Range& range : flow_.ranges) {
      const auto is_within = [&](int64_t position) {
        const auto begin = static_cast<int64_t>(range.offset);
        return begin <= position && position < begin + static_cast<int64_t>(range.length);
      };
      if (!is_within(offset)) continue;
      return std::none_of(
          events_.begin(), events_.begin() + static_cast<ptrdiff_t>(at_), [&](const Event& event) {
            return event.call == way && event.value > 0 && is_within(event.arguments.offset);
          });
    }
    return false;
  }

  // To warm a range one byte of each page is read; to copy it, all of them. What is no source is
  // the table of mounts, which is read anew when it can't be polled.
  Effect of_reading() const {
    const bool only_warms = flow_.movement != Movement::copy || event_.arguments.count == 1;
    if (only_warms || is_of_mounts(event_.arguments.to)) return kGoesOn;
    if (is_error()) return ends(failure(Call::read, fault_.error));
    if (is_zero() && flow_.to_the_end) return {Ending{Outcome::done}, true, true};
    return is_zero() ? ends({Outcome::truncated}) : kGoesOn;
  }

  // The table of mounts is read anew when polling it has failed.
  bool is_of_mounts(int fd) const {
    return std::any_of(events_.begin(), events_.end(), [fd](const Event& event) {
      return event.call == CallKind::poll && event.arguments.to == fd;
    });
  }

  Effect of_seeking() const {
    // Where holes are is a question; a file system without an answer has none.
    if (event_.arguments.how == SEEK_DATA || event_.arguments.how == SEEK_HOLE) return kGoesOn;
    const int64_t gone = event_.arguments.offset - static_cast<int64_t>(flow_.sink_offset);
    for (const Flow::Range& range : flow_.ranges) {
      const int64_t within = gone - static_cast<int64_t>(range.at);
      if (within < 0 || within >= static_cast<int64_t>(range.length)) continue;
      if (another_way(static_cast<int64_t>(range.offset) + within, CallKind::sendfile))
        return kGoesOn;
    }
    return ends(failure(Call::lseek, fault_.error));
  }

  // Bytes of a socket or a pipe: from it, to the sink, or both at once.
  Effect of_splicing() const {
    const Arguments& made = event_.arguments;
    const bool from_source = is_source(made.from), to_sink = is_sink(made.to);
    const bool is_direct = from_source && to_sink;
    const bool from_pipe_to_file = is_direct && flow_.sink_kind == Endpoint::file;
    if (from_pipe_to_file && (is_zero() || is_error(EAGAIN))) return of_refusal_by_file();
    if (is_error(EAGAIN)) {
      // A file is never full for now, and can't be waited for.
      if (!from_source && flow_.sink_kind == Endpoint::file)
        return ends(failure(Call::splice, EAGAIN));
      // The second time in a row, though there is something to read: urgent data.
      return from_source && flow_.source_kind == Endpoint::socket ? of_second_refusal() : kGoesOn;
    }
    if (is_error()) {
      const bool is_unsupported = is_first_splice() && may_mean_unsupported(fault_.error);
      // Of a pipe and a socket the socket alone has errors, but for a pipe whose reader has gone.
      const bool source_failed =
          is_direct ? flow_.source_kind == Endpoint::socket && fault_.error != EPIPE : from_source;
      return ends({is_unsupported ? Outcome::unsupported : Outcome::failed, Call::splice,
                   fault_.error, source_failed});
    }
    if (!is_zero()) return kGoesOn;
    if (!from_source) return ends(failure(Call::splice, EIO));  // as of_accepting()
    if (flow_.source_kind == Endpoint::pipe) return {Ending{Outcome::done}, true, true};
    return of_answer(next_peek());
  }

  // Of our own, between two ends that are none. Streams need none, if nothing has been taken yet.
  Effect of_pipe() const {
    const bool any_taken = std::any_of(
        events_.begin(), events_.begin() + static_cast<ptrdiff_t>(at_), [&](const Event& event) {
          return event.call == CallKind::splice && event.value > 0 &&
                 is_source(event.arguments.from);
        });
    const bool is_unsupported = !any_taken && may_mean_unsupported(fault_.error);
    return ends(
        {is_unsupported ? Outcome::unsupported : Outcome::failed, Call::pipe, fault_.error});
  }

  // Whether nothing has gone so far from, or to, the end that the call is about.
  bool is_first_splice() const {
    const bool from_source = is_source(event_.arguments.from);
    return std::none_of(
        events_.begin(), events_.begin() + static_cast<ptrdiff_t>(at_), [&](const Event& event) {
          return event.call == CallKind::splice && event.value > 0 &&
                 (from_source ? is_source(event.arguments.from) : is_sink(event.arguments.to));
        });
  }

  // The first time it may be that the pipe is empty, or at its end; then poll(2) tells. Has it
  // bytes, and takes the file none of them again, the file has failed.
  Effect of_refusal_by_file() const {
    bool had_bytes = false;
    for (size_t i = at_; i-- > 0;) {
      const Event& event = events_[i];
      if (event.call == CallKind::poll && event.value > 0) had_bytes = true;
      if (event.call != CallKind::splice) continue;
      const bool was_refused = event.value == 0 || (event.value < 0 && event.error == EAGAIN);
      if (!had_bytes || !was_refused) break;
      const int error = is_zero() ? EIO : EAGAIN;
      const bool is_unsupported = is_first_splice() && may_mean_unsupported(error);
      return ends({is_unsupported ? Outcome::unsupported : Outcome::failed, Call::splice, error});
    }
    // Unless that look is denied.
    for (size_t i = at_ + 1; i < events_.size() && events_[i].call != CallKind::splice; ++i) {
      if (events_[i].call == CallKind::poll && events_[i].fault && is_zero())
        return {Ending{Outcome::done}, true, true};
    }
    return kGoesOn;
  }

  // An EAGAIN behind another one, with a look between them that found a byte: then the next look
  // decides.
  Effect of_second_refusal() const {
    bool byte_was_there = false;
    for (size_t i = at_; i-- > 0;) {
      const Event& event = events_[i];
      if (event.call == CallKind::epoll_control) break;  // it has waited since
      if (event.call == CallKind::peek) byte_was_there = byte_was_there || event.value == 1;
      if (event.call != CallKind::splice) continue;
      if (!byte_was_there || event.value >= 0 || event.error != EAGAIN) return kGoesOn;
      const Event* peek = next_peek();
      return peek ? of_answer(peek) : kGoesOn;
    }
    return kGoesOn;
  }

  // The next look at the source, if no other splice comes before it.
  const Event* next_peek() const {
    for (size_t i = at_ + 1; i < events_.size(); ++i) {
      if (events_[i].call == CallKind::splice) return nullptr;
      const bool is_interrupted = events_[i].value < 0 && events_[i].error == EINTR;
      if (events_[i].call == CallKind::peek && !is_interrupted) return &events_[i];
    }
    return nullptr;
  }

  // A splice of nothing: what a look at the source says of it. No byte: the end. An error: the
  // connection's. Anything else: bytes that splice(2) doesn't pass.
  static Effect of_answer(const Event* peek) {
    if (!peek) return kGoesOn;
    if (peek->value == 0) return {Ending{Outcome::done}, true, true};
    if (peek->value < 0 && peek->error != EAGAIN)
      return ends(failure(Call::splice, peek->error, true));
    return ends({Outcome::unsupported, Call::splice, EINVAL});
  }

  Effect of_peeking() const {
    // It was asked why splice(2) moved nothing, or whether there is anything at all.
    for (size_t i = at_; i-- > 0;) {
      if (events_[i].call != CallKind::splice) continue;
      if (events_[i].value == 0) return of_answer(&event_);
      break;
    }
    return kGoesOn;
  }

  Effect of_waiting() const {
    if (event_.arguments.how == EPOLL_CTL_DEL) return kGoesOn;
    const int fd = event_.arguments.to;
    if (!is_source(fd) && !is_sink(fd))  // what wakes movers
      return ends({Outcome::unsupported, Call::epoll_ctl, fault_.error});
    return ends(failure(Call::epoll_ctl, fault_.error));
  }

  Effect of_status() const {
    // Asked only where a hole ends with the file, whose size must then be known.
    for (size_t i = at_; i-- > 0;) {
      if (events_[i].call == CallKind::status) continue;
      const bool after_seek = events_[i].call == CallKind::seek;
      return flow_.movement == Movement::copy && after_seek
                 ? ends(failure(Call::lseek, fault_.error))
                 : kGoesOn;
    }
    return kGoesOn;
  }

  const Flow& flow_;
  const Scenario::Start start_;
  const std::vector<Event>& events_;
  const size_t at_;
  const Event& event_;
  const Fault fault_;
};

// Whether a transfer's own step made a call, and nobody else.
bool is_made_in_a_step(const Event& event) {
  switch (event.call) {
    case CallKind::sendfile:
    case CallKind::splice:
    case CallKind::send:
    case CallKind::write:
    case CallKind::write_at:
    case CallKind::peek:
      return true;
    default:
      return false;
  }
}

bool is_armed_after(const std::vector<Event>& events, size_t at) {
  return std::any_of(
      events.begin() + static_cast<ptrdiff_t>(at), events.end(), [](const Event& event) {
        return event.call == CallKind::epoll_control && event.arguments.how != EPOLL_CTL_DEL;
      });
}

// Whether a call was a flow's, as far as can be told.
bool is_of(const Flow& flow, int number, const Event& event) {
  if (event.flow >= 0) return event.flow == number;
  const Arguments& made = event.arguments;
  for (const int fd : {flow.own_source, flow.own_sink})
    if (fd >= 0 && (fd == made.from || fd == made.to)) return true;
  return false;
}

}  // namespace

Expectation expect(const std::deque<Flow>& flows, size_t number, Scenario::Start start,
                   const std::vector<Event>& all) {
  const Flow& flow = flows[number];
  const bool is_alone = flows.size() == 1;
  std::vector<Event> events;
  for (const Event& event : all) {
    // Of pipes of our own nobody can tell whose they are.
    const bool is_anybodys =
        event.flow < 0 && (event.arguments.to < 0 || event.call == CallKind::read_stream);
    if (is_alone || is_anybodys || is_of(flow, static_cast<int>(number), event))
      events.push_back(event);
    // Cancelled are all of them.
    else if (event.fault && event.fault->kind == Fault::Kind::cancel)
      events.push_back(event);
  }
  Expectation expected;
  bool has_ended = false;
  for (size_t i = 0; i < events.size(); ++i) {
    if (!events[i].fault) continue;
    const Effect effect = Rules(flow, start, events, i).effect();
    expected.may_lose_residual |= effect.may_lose_residual;
    expected.goes_on |= is_made_in_a_step(events[i]) &&
                        is_of(flow, static_cast<int>(number), events[i]) &&
                        events[i].fault->kind == Fault::Kind::cancel && is_armed_after(events, i);
    // What has ended well, earlier than it would have, may still fail when its file is closed.
    const bool ended_well = has_ended && expected.endings.back().outcome == Outcome::done;
    if (ended_well && events[i].call == CallKind::close && effect.ending)
      expected.endings.back() = *effect.ending;
    if (has_ended) continue;
    expected.may_be_less |= effect.may_be_less;
    if (effect.ending) expected.endings.push_back(*effect.ending);
    // Of two flows a call without a descriptor may have been the other's.
    const bool is_its_own = is_alone || is_of(flow, static_cast<int>(number), events[i]);
    has_ended = effect.is_certain && is_its_own;
  }
  if (!has_ended) expected.endings.push_back({flow.outcome, flow.failing, flow.error});
  return expected;
}

std::string name_of(const Ending& ending) {
  std::string text = kOutcomeNames[static_cast<size_t>(ending.outcome)];
  if (ending.call != Call::none)
    text += std::string(" ") + kCallNames[static_cast<size_t>(ending.call)];
  if (ending.error != 0) text += std::string(" ") + ::strerrorname_np(ending.error);
  if (ending.source_failed) text += " (source)";
  return text;
}

}  // namespace zerocopy::test
