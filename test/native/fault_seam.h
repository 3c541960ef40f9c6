#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "faults.h"
#include "helpers.h"

namespace zerocopy::test {

// The fault of one call of a run.
struct Injection {
  CallKind call;
  int number;  // among the calls of its kind, from 1
  Fault fault;
};

// The second one's number is counted from the call after the first one's on.
using Plan = std::vector<Injection>;

// "sendfile#3=EAGAIN", "splice#1=short+splice#1=ECONNRESET".
std::string name_of(const Plan& plan);
std::optional<Plan> plan_named(const std::string& text);

// How calls behave that no fault befalls.
struct Shape {
  // Most that a call moves, so that there are enough of them.
  uint64_t most = ~uint64_t{0};
  // What the page cache is said to hold: all; nothing; it can't be told; it can be counted alone.
  enum class Looks { resident, cold, unknown, counted } looks = Looks::resident;
  // Of copies: the errors of what is tried before.
  int copy_file_range = 0;
  int sendfile = 0;
};

// What a call was asked for, as far as rules need to know.
struct Arguments {
  int from = -1;
  int to = -1;  // the only one, of calls that have one
  int64_t offset = -1;
  uint64_t count = 0;
  int how = 0;  // lseek's whence, epoll_ctl's operation
};

// A call as it was made and answered.
struct Event {
  CallKind call;
  int number;
  Arguments arguments;
  int64_t value = -1;
  int error = 0;
  std::optional<Fault> fault{};
  int flow = -1;  // while which flow was submitted it was made, on the same thread
};

std::string name_of(const Event& event);

// Has all calls of the engine counted, written down, shaped and, at planned numbers, fail. The
// calls that a test itself makes are none of them. One at a time.
class FaultSeam {
 public:
  FaultSeam();
  ~FaultSeam();

  // From here on calls are counted from 1. `cancel`, called on a thread of the seam's own, cancels
  // what is under test; by then it must have been submitted.
  void begin(const Shape& shape, Plan plan, std::function<void()> cancel);
  // What the calling thread calls is for this flow's sake.
  void submitting(int flow);
  // All is submitted, and can be cancelled.
  void submitted();
  // What has been called meanwhile. From here on calls go through.
  std::vector<Event> end();
  // What has become of the plan: all of its faults have come to pass; or a call that one was meant
  // for was never made; or it was, and can't go wrong that way.
  enum class Fate { fired, not_reached, impossible };
  Fate fate();

 private:
  struct Taps;
  struct Entered {
    std::optional<Fault> fault;
    Shape shape;
    uint64_t run = 0;  // 0: between two runs
    size_t event = 0;
  };

  template <typename Run>
  int64_t call(CallKind kind, const Arguments& arguments, Run run);
  Entered enter(CallKind kind, const Arguments& arguments);
  void leave(const Entered& entered, int64_t value, int error);
  void cancel_and_wait(CallKind kind, const Arguments& arguments);
  void run_cancels();

  std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t runs_ = 0;
  bool running_ = false;
  bool closing_ = false;
  Shape shape_;
  Plan plan_;
  size_t fired_ = 0;
  bool is_impossible_ = false;
  int counts_[kCallKinds] = {};
  std::vector<Event> events_;
  std::thread::id submitter_;
  int submitting_ = -1;
  bool submitted_ = false;
  std::function<void()> cancel_;
  int cancels_wanted_ = 0;
  int cancels_done_ = 0;

  std::thread canceller_;
  std::unique_ptr<Taps> taps_;
};

}  // namespace zerocopy::test
