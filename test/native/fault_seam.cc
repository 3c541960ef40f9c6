#include "fault_seam.h"

#include <fcntl.h>
#include <string.h>

#include <algorithm>
#include <sstream>

namespace zerocopy::test {
namespace {

// A handler of the seam must not block for ever: an idle mover looks up as often as this.
constexpr int kLookUpMs = 50;

constexpr std::chrono::seconds kLongestCancel{5};

// The numbers of duplicates, where no others are.
constexpr int kFirstCopy = 700;
constexpr int kCopies = 300;

int64_t answer(int64_t value, int error) {
  errno = error;
  return value;
}

// As readv(2) and its like, with what of the parts comes to `most` bytes.
std::vector<iovec> beginning_of(const iovec* parts, size_t count, uint64_t most) {
  std::vector<iovec> some;
  for (size_t i = 0; i < count && most > 0; ++i) {
    some.push_back({parts[i].iov_base, std::min<size_t>(parts[i].iov_len, most)});
    most -= some.back().iov_len;
  }
  return some;
}

uint64_t length_of(const iovec* parts, size_t count) {
  uint64_t length = 0;
  for (size_t i = 0; i < count; ++i) length += parts[i].iov_len;
  return length;
}

int64_t offset_of(const loff_t* offset) {
  return offset ? *offset : -1;
}

// Of the others a count says what is asked about.
bool moves_bytes(CallKind call) {
  return call != CallKind::read_nowait && call != CallKind::cached_pages &&
         call != CallKind::readahead;
}

}  // namespace

std::string name_of(const Plan& plan) {
  std::string text;
  for (const Injection& injection : plan) {
    if (!text.empty()) text += "+";
    text += name_of(injection.call) + "#" + std::to_string(injection.number) + "=" +
            name_of(injection.fault);
  }
  return text;
}

std::optional<Plan> plan_named(const std::string& text) {
  Plan plan;
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, '+');) {
    const size_t hash = part.find('#'), equals = part.find('=');
    if (hash == std::string::npos || equals == std::string::npos) return std::nullopt;
    const std::optional<CallKind> call = call_named(part.substr(0, hash));
    if (!call) return std::nullopt;
    const std::optional<Fault> fault = fault_named(*call, part.substr(equals + 1));
    if (!fault) return std::nullopt;
    plan.push_back({*call, std::stoi(part.substr(hash + 1)), *fault});
  }
  return plan;
}

std::string name_of(const Event& event) {
  const Arguments& made = event.arguments;
  std::ostringstream text;
  text << name_of(event.call) << "#" << event.number << "(";
  if (made.from >= 0) text << made.from << " -> ";
  text << made.to;
  if (made.offset >= 0) text << ", at " << made.offset;
  if (made.count > 0) text << ", " << made.count;
  if (made.how > 0) text << ", " << made.how;
  text << ") = " << event.value;
  if (event.value < 0) text << " " << ::strerrorname_np(event.error);
  if (event.fault) text << "   <- " << name_of(*event.fault);
  return text.str();
}

template <typename Run>
int64_t FaultSeam::call(CallKind kind, const Arguments& arguments, Run run) {
  const Entered entered = enter(kind, arguments);
  uint64_t most = arguments.count;
  if (moves_bytes(kind)) most = std::min(most, entered.shape.most);
  int64_t value = -1;
  int error = 0;
  const Fault fault = entered.fault.value_or(Fault{Fault::Kind::cancel});
  if (fault.kind == Fault::Kind::error) {
    error = fault.error;
  } else if (fault.kind == Fault::Kind::zero) {
    value = 0;
  } else {
    if (fault.kind == Fault::Kind::shortened) most = most / 3 + 1;
    value = run(most, entered.shape);
    error = errno;
  }
  leave(entered, value, error);
  return answer(value, error);
}

// The seams of all calls. Last to come and first to go, since their handlers use all the rest.
struct FaultSeam::Taps {
  explicit Taps(FaultSeam& faults) : faults(faults) {}

  FaultSeam& faults;

  Seam<&Calls::sendfile> sendfile{[this](int out, int in, off_t* offset, size_t count) {
    return faults.call(CallKind::sendfile, {in, out, offset_of(offset), count},
                       [&](uint64_t most, const Shape& shape) -> ssize_t {
                         if (shape.sendfile != 0) return fail_with(shape.sendfile);
                         return kernel.sendfile(out, in, offset, most);
                       });
  }};
  Seam<&Calls::splice> splice{[this](int in, loff_t* from, int out, loff_t* to, size_t count,
                                     unsigned flags) {
    return faults.call(
        CallKind::splice, {in, out, offset_of(from), count},
        [&](uint64_t most, const Shape&) { return kernel.splice(in, from, out, to, most, flags); });
  }};
  Seam<&Calls::copy_file_range> copy_file_range{
      [this](int in, loff_t* from, int out, loff_t* to, size_t count) {
        return faults.call(CallKind::copy_file_range, {in, out, offset_of(from), count},
                           [&](uint64_t most, const Shape& shape) -> ssize_t {
                             if (shape.copy_file_range != 0)
                               return fail_with(shape.copy_file_range);
                             return kernel.copy_file_range(in, from, out, to, most);
                           });
      }};
  Seam<&Calls::send> send{[this](int fd, const iovec* parts, size_t count, int flags) {
    return faults.call(CallKind::send, {-1, fd, -1, length_of(parts, count)},
                       [&](uint64_t most, const Shape&) {
                         const std::vector<iovec> some = beginning_of(parts, count, most);
                         return kernel.send(fd, some.data(), some.size(), flags);
                       });
  }};
  Seam<&Calls::read_nowait> read_nowait{[this](int fd, void* buffer, size_t count, off_t offset) {
    return faults.call(CallKind::read_nowait, {-1, fd, offset, count},
                       [&](uint64_t most, const Shape& shape) -> ssize_t {
                         if (shape.looks == Shape::Looks::cold) return fail_with(EAGAIN);
                         if (shape.looks != Shape::Looks::resident) return fail_with(EOPNOTSUPP);
                         return kernel.read(fd, buffer, most, offset);
                       });
  }};
  Seam<&Calls::read> read{[this](int fd, void* buffer, size_t count, off_t offset) {
    return faults.call(CallKind::read, {-1, fd, offset, count}, [&](uint64_t most, const Shape&) {
      return kernel.read(fd, buffer, most, offset);
    });
  }};
  Seam<&Calls::read_stream> read_stream{[this](int fd, void* buffer, size_t count) {
    return faults.call(
        CallKind::read_stream, {-1, fd, -1, count},
        // A pipe that is emptied gives less than it has at each call.
        [&](uint64_t most, const Shape&) { return kernel.read_stream(fd, buffer, most / 2 + 1); });
  }};
  Seam<&Calls::write> write{[this](int fd, const iovec* parts, int count) {
    const auto part_count = static_cast<size_t>(count);
    return faults.call(CallKind::write, {-1, fd, -1, length_of(parts, part_count)},
                       [&](uint64_t most, const Shape&) {
                         const std::vector<iovec> some = beginning_of(parts, part_count, most);
                         return kernel.write(fd, some.data(), static_cast<int>(some.size()));
                       });
  }};
  Seam<&Calls::write_at> write_at{[this](int fd, const void* data, size_t count, off_t offset) {
    return faults.call(
        CallKind::write_at, {-1, fd, offset, count},
        [&](uint64_t most, const Shape&) { return kernel.write_at(fd, data, most, offset); });
  }};
  Seam<&Calls::peek> peek{[this](int fd, void* buffer, size_t count, int flags) {
    return faults.call(CallKind::peek, {-1, fd, -1, count}, [&](uint64_t, const Shape&) {
      return kernel.peek(fd, buffer, count, flags);
    });
  }};
  Seam<&Calls::readahead> readahead{[this](int fd, off_t offset, size_t count) {
    return faults.call(CallKind::readahead, {-1, fd, offset, count},
                       [&](uint64_t, const Shape&) { return kernel.readahead(fd, offset, count); });
  }};
  Seam<&Calls::cached_pages> cached_pages{[this](int fd, uint64_t offset, uint64_t length) {
    return faults.call(CallKind::cached_pages, {-1, fd, static_cast<int64_t>(offset), length},
                       [&](uint64_t most, const Shape& shape) -> ssize_t {
                         if (shape.looks != Shape::Looks::counted) return fail_with(EOPNOTSUPP);
                         // As many as there can be; or, cut short, one page of them.
                         return most < length ? 1 : static_cast<ssize_t>(length / 4096 + 2);
                       });
  }};
  Seam<&Calls::duplicate> duplicate{[this](int fd) {
    // Never the number that something else had in the same run: it tells whose a call was.
    const auto copy = [&](uint64_t, const Shape&) {
      return ::fcntl(fd, F_DUPFD_CLOEXEC, kFirstCopy + copies++ % kCopies);
    };
    return static_cast<int>(faults.call(CallKind::duplicate, {-1, fd}, copy));
  }};
  std::atomic<int> copies{0};
  Seam<&Calls::close> close{[this](int fd) {
    // However it answers: the number is free.
    const auto closed = [&](uint64_t, const Shape&) { return 0; };
    kernel.close(fd);
    return static_cast<int>(faults.call(CallKind::close, {-1, fd}, closed));
  }};
  Seam<&Calls::status> status{[this](int fd, struct statx* status) {
    return static_cast<int>(faults.call(CallKind::status, {-1, fd}, [&](uint64_t, const Shape&) {
      return kernel.status(fd, status);
    }));
  }};
  Seam<&Calls::seek> seek{[this](int fd, off_t offset, int whence) {
    return faults.call(CallKind::seek, {-1, fd, offset, 0, whence},
                       [&](uint64_t, const Shape&) { return kernel.seek(fd, offset, whence); });
  }};
  Seam<&Calls::pipe> pipe{[this](int fds[2]) {
    return static_cast<int>(
        faults.call(CallKind::pipe, {}, [&](uint64_t, const Shape&) { return kernel.pipe(fds); }));
  }};
  Seam<&Calls::set_pipe_size> set_pipe_size{[this](int fd, int bytes) {
    return static_cast<int>(
        faults.call(CallKind::set_pipe_size, {-1, fd},
                    [&](uint64_t, const Shape&) { return kernel.set_pipe_size(fd, bytes); }));
  }};
  Seam<&Calls::poll> poll{[this](pollfd* fds, nfds_t count, int timeout_ms) {
    fds->revents = 0;
    return static_cast<int>(faults.call(CallKind::poll, {-1, fds->fd}, [&](uint64_t, const Shape&) {
      return kernel.poll(fds, count, timeout_ms);
    }));
  }};
  Seam<&Calls::epoll_create> epoll_create{[this] {
    return static_cast<int>(faults.call(
        CallKind::epoll_create, {}, [&](uint64_t, const Shape&) { return kernel.epoll_create(); }));
  }};
  Seam<&Calls::epoll_control> epoll_control{[this](int epoll, int operation, int fd,
                                                   epoll_event* event) {
    return static_cast<int>(faults.call(
        CallKind::epoll_control, {epoll, fd, -1, 0, operation},
        [&](uint64_t, const Shape&) { return kernel.epoll_control(epoll, operation, fd, event); }));
  }};
  Seam<&Calls::epoll_wait> epoll_wait{
      [this](int epoll, epoll_event* events, int most, int timeout_ms) {
        return static_cast<int>(
            faults.call(CallKind::epoll_wait, {-1, epoll}, [&](uint64_t, const Shape&) {
              for (;;) {
                const int slice = timeout_ms < 0 ? kLookUpMs : timeout_ms;
                const int ready = kernel.epoll_wait(epoll, events, most, slice);
                if (ready != 0 || timeout_ms >= 0) return ready;
                std::lock_guard<std::mutex> lock(faults.mutex_);
                if (faults.closing_) return 0;
              }
            }));
      }};
  Seam<&Calls::event_create> event_create{[this] {
    return static_cast<int>(faults.call(
        CallKind::event_create, {}, [&](uint64_t, const Shape&) { return kernel.event_create(); }));
  }};
  Seam<&Calls::event_signal> event_signal{[this](int fd) {
    return static_cast<ssize_t>(
        faults.call(CallKind::event_signal, {-1, fd},
                    [&](uint64_t, const Shape&) { return kernel.event_signal(fd); }));
  }};
  Seam<&Calls::thread_create> thread_create{[this](void* (*body)(void*), void* argument) {
    const auto create = [&](uint64_t, const Shape&) {
      const int error = kernel.thread_create(body, argument);
      return error == 0 ? 0 : fail_with(error);
    };
    return faults.call(CallKind::thread_create, {}, create) == 0 ? 0 : errno;
  }};
};

FaultSeam::FaultSeam()
    : canceller_([this] { run_cancels(); }), taps_(std::make_unique<Taps>(*this)) {}

FaultSeam::~FaultSeam() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    closing_ = true;
    changed_.notify_all();
  }
  taps_.reset();
  canceller_.join();
}

void FaultSeam::begin(const Shape& shape, Plan plan, std::function<void()> cancel) {
  std::lock_guard<std::mutex> lock(mutex_);
  ++runs_;
  running_ = true;
  shape_ = shape;
  plan_ = std::move(plan);
  fired_ = 0;
  is_impossible_ = false;
  std::fill(std::begin(counts_), std::end(counts_), 0);
  events_.clear();
  submitter_ = std::this_thread::get_id();
  submitting_ = -1;
  submitted_ = false;
  cancel_ = std::move(cancel);
}

void FaultSeam::submitting(int flow) {
  std::lock_guard<std::mutex> lock(mutex_);
  submitting_ = flow;
}

void FaultSeam::submitted() {
  std::lock_guard<std::mutex> lock(mutex_);
  submitting_ = -1;
  submitted_ = true;
  changed_.notify_all();
}

std::vector<Event> FaultSeam::end() {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [&] { return cancels_done_ == cancels_wanted_; });
  running_ = false;
  cancel_ = nullptr;
  return std::move(events_);
}

FaultSeam::Fate FaultSeam::fate() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (fired_ == plan_.size()) return Fate::fired;
  return is_impossible_ ? Fate::impossible : Fate::not_reached;
}

FaultSeam::Entered FaultSeam::enter(CallKind kind, const Arguments& arguments) {
  Entered entered;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!running_) return entered;
    const int number = ++counts_[static_cast<size_t>(kind)];
    entered.shape = shape_;
    entered.run = runs_;
    entered.event = events_.size();
    if (fired_ < plan_.size() && plan_[fired_].call == kind && plan_[fired_].number == number) {
      const Fault fault = plan_[fired_].fault;
      // Nothing to shorten, or nothing to cancel yet: it doesn't come to pass.
      const bool can_be = (fault.kind != Fault::Kind::shortened || arguments.count > 1) &&
                          (fault.kind != Fault::Kind::cancel ||
                           std::this_thread::get_id() != submitter_ || submitted_);
      // That there is no more data is no failure of lseek(2) but its answer, and would be a lie.
      const bool lies = kind == CallKind::seek && arguments.how == SEEK_DATA &&
                        fault.kind == Fault::Kind::error && fault.error == ENXIO;
      is_impossible_ = !can_be || lies;
      if (!is_impossible_) {
        entered.fault = fault;
        ++fired_;
        std::fill(std::begin(counts_), std::end(counts_), 0);
      }
    }
    const int flow = std::this_thread::get_id() == submitter_ ? submitting_ : -1;
    events_.push_back({kind, number, arguments, -1, 0, entered.fault, flow});
  }
  if (entered.fault && entered.fault->kind == Fault::Kind::cancel) cancel_and_wait(kind, arguments);
  return entered;
}

void FaultSeam::leave(const Entered& entered, int64_t value, int error) {
  if (entered.run == 0) return;
  std::lock_guard<std::mutex> lock(mutex_);
  if (!running_ || entered.run != runs_) return;
  events_[entered.event].value = value;
  events_[entered.event].error = value < 0 ? error : 0;
}

void FaultSeam::cancel_and_wait(CallKind kind, const Arguments& arguments) {
  std::unique_lock<std::mutex> lock(mutex_);
  const int mine = ++cancels_wanted_;
  changed_.notify_all();
  // The engine arms a transfer with the transfer's lock held, which a cancel takes too.
  if (kind == CallKind::epoll_control && arguments.how != EPOLL_CTL_DEL) return;
  changed_.wait_for(lock, kLongestCancel, [&] { return cancels_done_ >= mine; });
}

void FaultSeam::run_cancels() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    changed_.wait(lock,
                  [&] { return closing_ || (cancels_done_ < cancels_wanted_ && submitted_); });
    if (closing_) return;
    const std::function<void()> cancel = cancel_;
    lock.unlock();
    if (cancel) cancel();
    lock.lock();
    ++cancels_done_;
    changed_.notify_all();
  }
}

}  // namespace zerocopy::test
