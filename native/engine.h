#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "transfer.h"
#include "warmers.h"

namespace zerocopy {

// Runs transfers to their end on a few threads of its own, and tells once how each one ended.
//
//   submit() ──► queued ──► running ──► done
//                  ▲ ▲       │ │  └───► armed    until epoll says that the end it waits for is
//                  ready │ └─ again┘ └──────► warming  until a warmer has brought the range from
//                  disk └───────────────────────┘
//
// Movers take a transfer from the queue or from the one epoll that they share, run a step, which
// can't block, and put it where the outcome says. Whatever may block on a file runs on a warmer:
// the steps of a transfer that writes to one too. All these threads yield to the event loop: what
// it does is short, and somebody waits for it.
//
// One engine serves all the environments (worker threads) of a process. It is never destroyed and
// its threads are never joined: a process may exit at any moment, whatever they are doing.

// Slot and generation of a transfer: never reused, never a pointer. Fits a double.
using TransferId = uint64_t;

struct Completion {
  TransferId id;
  Outcome outcome;  // done, truncated, unsupported, failed or cancelled
  uint64_t transferred;
  Backend backend;
  Call call;  // which call failed, and its errno
  int error;
  bool source_failed = false;       // and not the sink
  std::vector<uint8_t> residual{};  // taken from the source, not accepted by the sink
};

// The call without which an engine has no threads, and its errno.
struct StartFailure {
  Call call = Call::none;
  int error = 0;
};

// Who submits transfers, and hears of their end.
class Client {
 public:
  virtual ~Client() = default;
  // Called once for each transfer, on any thread, when it has let go of its descriptors; an
  // abandoned one may keep those that its step still uses.
  virtual void complete(Completion completion) = 0;
};

class Engine {
 public:
  static constexpr int kMinMovers = 2;
  static constexpr int kMaxMovers = 4;

  // The process's engine. Its threads start with the first transfer.
  static Engine& instance();

  // Tests make engines of their own; they are leaked like the other.
  Engine() = default;

  // Sets how many movers to start, before they have started. 0: kMinMovers to kMaxMovers, by
  // cores.
  void set_movers(int count);

  // How many there are, or will be; 0 where none could be started when it was last tried, and why.
  int movers(StartFailure* failure = nullptr);

  // Takes a transfer that owns its memory and its descriptors (own()). 0 when the engine has no
  // threads and none are to be had: then the transfer stays the caller's, and says why.
  TransferId submit(std::unique_ptr<Transfer>* transfer, std::shared_ptr<Client> client);

  // Ends a transfer, at once unless a step of it is running, then after the system call that is on
  // its way. It completes as cancelled, if it hasn't ended by then.
  void cancel(TransferId id);

  // Ends one that has been cancelled, and whose step still runs since the disk that it writes to
  // doesn't answer. What is on its way to the disk may still be written; what has been taken from
  // the source for that is lost.
  void abandon(TransferId id);

  // Cancels all that a client has submitted.
  void cancel_all(const Client* client);

  // Bytes that a transfer has moved so far. Of one that has ended too, for as long as its client
  // may not have heard of it: until the next in its slot has ended as well, then 0.
  uint64_t transferred(TransferId id);

  // Runs `job` on a warmer (see Warmers::submit).
  bool run_blocking(uint64_t device, std::function<void()> job) {
    return warmers_.submit(device, std::move(job));
  }

 private:
  enum class State { queued, running, armed, warming, done };

  struct Task {
    std::shared_ptr<Client> client;
    TransferId id = 0;
    bool may_block = false;  // its steps run on warmers
    std::mutex mutex;        // guards what follows
    State state = State::queued;
    bool cancelled = false;          // while running: settle as cancelled after the step
    bool source_registered = false;  // in the epoll
    bool sink_registered = false;
    std::unique_ptr<Transfer> transfer;  // while running, its runner may use it without the lock
    uint64_t transferred = 0;            // when it is done
  };
  using TaskRef = std::shared_ptr<Task>;

  struct Slot {
    uint32_t generation = 1;
    TaskRef task;
    uint64_t last_transferred = 0;  // by the one that had the generation before
  };

  bool start(StartFailure* failure);
  bool start_threads();
  bool refuse_start(Call call, int error);
  int wanted_movers() const;
  static void* mover_main(void* engine);
  void move();

  TaskRef find(TransferId id);
  void enqueue(TaskRef task);
  bool enqueue_on_warmer(const TaskRef& task);
  TaskRef dequeue();
  bool others_wait();
  bool must_wait();
  void wake_mover();
  void share_queue();

  void resume(const TaskRef& task);
  void run(const TaskRef& task, State expected);
  bool arm(const TaskRef& task, Outcome outcome);
  void warm_up(const TaskRef& task, std::unique_lock<std::mutex> lock);
  void cancel(const TaskRef& task);
  void settle(const TaskRef& task, std::unique_lock<std::mutex> lock, Outcome outcome);
  void forget(const TaskRef& task);

  std::mutex start_mutex_;
  int wanted_movers_ = 0;
  int movers_ = 0;
  StartFailure start_failure_;  // of the last attempt
  int epoll_ = -1;
  int wake_ = -1;  // an eventfd in the epoll, edge-triggered: a write wakes one mover

  std::mutex slots_mutex_;
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_slots_;

  std::mutex queue_mutex_;
  std::deque<TaskRef> queue_;
  int idle_movers_ = 0;  // in epoll_wait, or on their way there with an empty queue seen

  std::atomic<int> armed_{0};  // how many tasks wait in the epoll

  Warmers warmers_;
};

}  // namespace zerocopy
