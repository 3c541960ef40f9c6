#include "engine.h"

#include <errno.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "residency.h"
#include "syscalls.h"

namespace zerocopy {
namespace {

constexpr uint64_t kWakeEvent = 0;  // no transfer's id: generations start at 1
constexpr int kSlotBits = 21;       // with 32 bits of generation an id fits a double's 53
constexpr uint64_t kSlotMask = (uint64_t{1} << kSlotBits) - 1;

// Never 0, which is of no transfer's id.
uint32_t next(uint64_t generation) {
  const auto following = static_cast<uint32_t>(generation + 1);
  return following == 0 ? 1 : following;
}

}  // namespace

Engine& Engine::instance() {
  static Engine& engine = *new Engine;
  return engine;
}

void Engine::set_movers(int count) {
  std::lock_guard<std::mutex> lock(start_mutex_);
  if (movers_ == 0) wanted_movers_ = count;
}

int Engine::movers(StartFailure* failure) {
  std::lock_guard<std::mutex> lock(start_mutex_);
  if (failure) *failure = start_failure_;
  if (movers_ > 0) return movers_;
  return start_failure_.error ? 0 : wanted_movers();
}

int Engine::wanted_movers() const {
  if (wanted_movers_ > 0) return wanted_movers_;
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  return std::clamp(cores, kMinMovers, kMaxMovers);
}

bool Engine::start(StartFailure* failure) {
  std::lock_guard<std::mutex> lock(start_mutex_);
  if (movers_ > 0) return true;
  start_failure_ = {};
  if (start_threads()) return true;
  *failure = start_failure_;
  return false;
}

bool Engine::refuse_start(Call call, int error) {
  start_failure_ = {call, error};
  return false;
}

// What an attempt has made stays for the next one.
bool Engine::start_threads() {
  if (epoll_ < 0) {
    const sys::Result created = sys::epoll_create();
    if (!created.ok()) return refuse_start(Call::epoll_create, created.error);
    epoll_ = static_cast<int>(created.value);
  }
  if (wake_ < 0) {
    const sys::Result created = sys::event_create();
    if (!created.ok()) return refuse_start(Call::event_create, created.error);
    UniqueFd wake(static_cast<int>(created.value));
    const sys::Result added =
        sys::epoll_control(epoll_, EPOLL_CTL_ADD, wake.get(), EPOLLIN | EPOLLET, kWakeEvent);
    if (!added.ok()) return refuse_start(Call::epoll_ctl, added.error);
    wake_ = wake.release();
  }
  for (const int wanted = wanted_movers(); movers_ < wanted; ++movers_) {
    const sys::Result started = sys::start_thread(mover_main, this);
    if (started.ok()) continue;
    // One mover will do where there are no more to be had.
    return movers_ > 0 || refuse_start(Call::pthread_create, started.error);
  }
  return true;
}

TransferId Engine::submit(std::unique_ptr<Transfer>* transfer, std::shared_ptr<Client> client) {
  StartFailure failure;
  if (!start(&failure)) {
    (*transfer)->fail(failure.call, failure.error);
    return 0;
  }
  auto task = std::make_shared<Task>();
  task->may_block = (*transfer)->may_block();
  task->transfer = std::move(*transfer);
  task->client = std::move(client);
  {
    std::lock_guard<std::mutex> lock(slots_mutex_);
    if (free_slots_.empty()) {
      free_slots_.push_back(static_cast<uint32_t>(slots_.size()));
      slots_.emplace_back();
    }
    const uint32_t index = free_slots_.back();
    free_slots_.pop_back();
    Slot& slot = slots_[index];
    slot.task = task;
    task->id = uint64_t{slot.generation} << kSlotBits | index;
  }
  const TransferId id = task->id;
  enqueue(std::move(task));
  return id;
}

Engine::TaskRef Engine::find(TransferId id) {
  const uint64_t index = id & kSlotMask;
  std::lock_guard<std::mutex> lock(slots_mutex_);
  if (index >= slots_.size() || slots_[index].generation != id >> kSlotBits) return nullptr;
  return slots_[index].task;
}

uint64_t Engine::transferred(TransferId id) {
  const uint64_t index = id & kSlotMask;
  TaskRef task;
  {
    std::lock_guard<std::mutex> lock(slots_mutex_);
    if (index >= slots_.size()) return 0;
    const Slot& slot = slots_[index];
    const uint64_t generation = id >> kSlotBits;
    if (slot.generation == next(generation)) return slot.last_transferred;
    if (slot.generation != generation || !slot.task) return 0;
    task = slot.task;
  }
  std::lock_guard<std::mutex> lock(task->mutex);
  return task->transfer ? task->transfer->transferred() : task->transferred;
}

void Engine::cancel(TransferId id) {
  if (const TaskRef task = find(id)) cancel(task);
}

void Engine::cancel_all(const Client* client) {
  std::vector<TaskRef> tasks;
  {
    std::lock_guard<std::mutex> lock(slots_mutex_);
    for (const Slot& slot : slots_)
      if (slot.task && slot.task->client.get() == client) tasks.push_back(slot.task);
  }
  for (const TaskRef& task : tasks) cancel(task);
}

void Engine::cancel(const TaskRef& task) {
  std::unique_lock<std::mutex> lock(task->mutex);
  if (task->state == State::done) return;
  if (task->state == State::running) {
    task->cancelled = true;
    task->transfer->stop();
    return;
  }
  if (task->state == State::armed) armed_.fetch_sub(1, std::memory_order_relaxed);
  // Queued: whoever takes it from the queue finds it done. Armed: an event already fetched finds
  // it done, or its slot's generation changed. Warming: the warmer holds the file, nothing else.
  settle(task, std::move(lock), Outcome::cancelled);
}

void Engine::abandon(TransferId id) {
  const TaskRef task = find(id);
  if (!task) return;
  std::unique_lock<std::mutex> lock(task->mutex);
  if (task->state != State::running || !task->may_block || !task->cancelled) return;
  task->state = State::done;
  task->transferred = task->transfer->transferred();
  // Its runner destroys it.
  Transfer& transfer = *task->transfer;
  const Completion completion{
      id, Outcome::cancelled, task->transferred, transfer.backend(), Call::none, 0};
  if (task->source_registered)
    sys::epoll_control(epoll_, EPOLL_CTL_DEL, transfer.source_fd(), 0, 0);
  transfer.abandon();
  lock.unlock();
  forget(task);
  task->client->complete(completion);
}

void Engine::settle(const TaskRef& task, std::unique_lock<std::mutex> lock, Outcome outcome) {
  task->state = State::done;
  std::unique_ptr<Transfer> transfer = std::move(task->transfer);
  task->transferred = transfer->transferred();
  lock.unlock();

  std::vector<uint8_t> residual = transfer->residual();
  // Not to be gone on from: the bytes that were taken are lost.
  if (transfer->failed_call() == Call::malloc) outcome = Outcome::failed;
  Completion completion{task->id,
                        outcome,
                        transfer->transferred(),
                        transfer->backend(),
                        transfer->failed_call(),
                        transfer->error(),
                        transfer->source_failed(),
                        std::move(residual)};
  forget(task);
  // Before the close: the socket stays open in Node, and a closed duplicate of an open socket
  // still delivers its events.
  if (task->source_registered)
    sys::epoll_control(epoll_, EPOLL_CTL_DEL, transfer->source_fd(), 0, 0);
  if (task->sink_registered) sys::epoll_control(epoll_, EPOLL_CTL_DEL, transfer->sink_fd(), 0, 0);
  transfer.reset();
  task->client->complete(std::move(completion));
}

// Its slot is another's from here on.
void Engine::forget(const TaskRef& task) {
  std::lock_guard<std::mutex> lock(slots_mutex_);
  const uint32_t index = static_cast<uint32_t>(task->id & kSlotMask);
  Slot& slot = slots_[index];
  slot.task = nullptr;
  slot.last_transferred = task->transferred;
  slot.generation = next(slot.generation);
  free_slots_.push_back(index);
}

void Engine::enqueue(TaskRef task) {
  if (task->may_block && enqueue_on_warmer(task)) return;
  bool wake;
  {
    std::lock_guard<std::mutex> lock(queue_mutex_);
    queue_.push_back(std::move(task));
    wake = idle_movers_ > 0;
  }
  if (wake) wake_mover();
}

// False when no thread is to be had: then a mover waits for the disk, which is slow but not wrong.
bool Engine::enqueue_on_warmer(const TaskRef& task) {
  uint64_t device;
  {
    std::lock_guard<std::mutex> lock(task->mutex);
    if (task->state != State::queued) return true;  // cancelled since
    device = task->transfer->device();
  }
  return warmers_.submit(device, [this, task] { run(task, State::queued); });
}

Engine::TaskRef Engine::dequeue() {
  TaskRef task;
  bool wake;
  {
    std::lock_guard<std::mutex> lock(queue_mutex_);
    if (queue_.empty()) return nullptr;
    task = std::move(queue_.front());
    queue_.pop_front();
    wake = !queue_.empty() && idle_movers_ > 0;
  }
  // Wakings that come together may wake one mover only: each wakes the next.
  if (wake) wake_mover();
  return task;
}

// A hint: whether another task could use this mover now, or any moment.
bool Engine::others_wait() {
  if (armed_.load(std::memory_order_relaxed) > 0) return true;
  std::lock_guard<std::mutex> lock(queue_mutex_);
  return !queue_.empty();
}

// Whether a mover has nothing to do but to wait. If so it counts as idle from here on, so that
// whoever queues a task after this look wakes it.
bool Engine::must_wait() {
  std::lock_guard<std::mutex> lock(queue_mutex_);
  if (!queue_.empty()) return false;
  ++idle_movers_;
  return true;
}

void Engine::wake_mover() {
  // Nobody ever reads it: each signal is an edge, which one mover sees. It can fail only with
  // EAGAIN, at 2^64 - 2 wakings.
  sys::event_signal(wake_);
}

// Before a mover turns from the queue to a socket: somebody else may take what is queued.
void Engine::share_queue() {
  bool wake;
  {
    std::lock_guard<std::mutex> lock(queue_mutex_);
    wake = !queue_.empty() && idle_movers_ > 0;
  }
  if (wake) wake_mover();
}

void* Engine::mover_main(void* engine) {
  sys::name_thread("zerocopy-mover");
  sys::yield_to_others();
  static_cast<Engine*>(engine)->move();
  return nullptr;
}

void Engine::move() {
  for (;;) {
    if (const TaskRef task = dequeue()) run(task, State::queued);
    // A look at the sockets after each queued step, so that a long queue doesn't starve them. One
    // event at a time: a mover that took several would keep the others from them.
    const bool wait = must_wait();
    if (!wait && armed_.load(std::memory_order_relaxed) == 0) continue;
    epoll_event event;
    const sys::Result ready = sys::epoll_wait(epoll_, &event, 1, wait ? -1 : 0);
    if (wait) {
      std::lock_guard<std::mutex> lock(queue_mutex_);
      --idle_movers_;
    }
    if (!ready.ok() || ready.value == 0) continue;
    if (event.data.u64 == kWakeEvent) continue;
    if (const TaskRef task = find(event.data.u64)) {
      if (!wait) share_queue();
      if (task->may_block) {
        resume(task);
      } else {
        run(task, State::armed);
      }
    }
  }
}

// What an event has come for, and what is a warmer's to run.
void Engine::resume(const TaskRef& task) {
  {
    std::lock_guard<std::mutex> lock(task->mutex);
    if (task->state != State::armed) return;
    armed_.fetch_sub(1, std::memory_order_relaxed);
    task->state = State::queued;
  }
  enqueue(task);
}

void Engine::run(const TaskRef& task, State expected) {
  std::unique_lock<std::mutex> lock(task->mutex);
  if (task->state != expected) return;  // cancelled since it was queued, or since its event
  if (expected == State::armed) armed_.fetch_sub(1, std::memory_order_relaxed);
  task->state = State::running;
  lock.unlock();
  const Outcome outcome = task->transfer->step(others_wait() ? kStepBytes : kStepBytesAlone);
  // A small answer beside 16 large ones waits a quarter as long for it (p99 over loopback: 1.4 ms
  // instead of 6, one core).
  sys::yield();
  lock.lock();
  if (task->state == State::done) {  // abandoned
    const std::unique_ptr<Transfer> transfer = std::move(task->transfer);
    lock.unlock();
    return;
  }
  const bool waits = outcome == Outcome::wait_readable || outcome == Outcome::wait_writable;
  const bool ended = !waits && outcome != Outcome::again && outcome != Outcome::cold;
  if (ended || task->cancelled) {
    settle(task, std::move(lock), ended ? outcome : Outcome::cancelled);
    return;
  }
  if (waits) {
    // With the lock held: another mover may have the event before this one is back from arm().
    task->state = State::armed;
    if (!arm(task, outcome)) settle(task, std::move(lock), Outcome::failed);
  } else if (outcome == Outcome::cold) {
    warm_up(task, std::move(lock));
  } else {
    task->state = State::queued;
    lock.unlock();
    if (task->may_block) return enqueue(task);
    std::lock_guard<std::mutex> queue_lock(queue_mutex_);
    // This mover takes from the queue next: nobody else is woken for its sake.
    queue_.push_back(task);
  }
}

bool Engine::arm(const TaskRef& task, Outcome outcome) {
  const bool reading = outcome == Outcome::wait_readable;
  bool& registered = reading ? task->source_registered : task->sink_registered;
  const int fd = reading ? task->transfer->source_fd() : task->transfer->sink_fd();
  const int operation = registered ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
  const uint32_t events = (reading ? EPOLLIN : EPOLLOUT) | EPOLLONESHOT;
  // Before the event can come, and a mover counts it off.
  armed_.fetch_add(1, std::memory_order_relaxed);
  const sys::Result armed = sys::epoll_control(epoll_, operation, fd, events, task->id);
  if (!armed.ok()) {
    armed_.fetch_sub(1, std::memory_order_relaxed);
    task->transfer->fail(Call::epoll_ctl, armed.error);
    return false;
  }
  registered = true;
  return true;
}

void Engine::warm_up(const TaskRef& task, std::unique_lock<std::mutex> lock) {
  task->state = State::warming;
  const uint64_t device = task->transfer->cold_range().file->device();
  lock.unlock();
  const auto resume = [this, task] {
    {
      std::lock_guard<std::mutex> lock(task->mutex);
      if (task->state != State::warming) return;
      task->transfer->warmed();
      task->state = State::queued;
    }
    enqueue(task);
  };
  // The job itself holds no file: one whose transfer is cancelled before it runs, behind others
  // that hang, must not keep it open.
  const bool submitted = warmers_.submit(device, [task, resume] {
    FileRange range;
    {
      std::lock_guard<std::mutex> lock(task->mutex);
      if (task->state != State::warming) return;
      range = task->transfer->cold_range();
    }
    warm(*range.file, range.offset, range.length);
    resume();
  });
  // No thread to be had: the mover waits for the disk itself, which is slow but not wrong.
  if (!submitted) resume();
}

}  // namespace zerocopy
