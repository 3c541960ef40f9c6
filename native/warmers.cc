#include "warmers.h"

#include <chrono>
#include <utility>

#include "syscalls.h"

namespace zerocopy {

bool Warmers::submit(uint64_t device, std::function<void()> job) {
  std::lock_guard<std::mutex> lock(mutex_);
  jobs_.push_back({device, std::move(job)});
  // A device at its limit needs no thread: whoever finishes a job of its takes this one.
  const auto running = running_.find(device);
  if (running != running_.end() && running->second >= kMaxWarmersPerDevice) return true;
  if (static_cast<size_t>(idle_) < jobs_.size() && threads_ < kMaxWarmers &&
      sys::start_thread(thread_main, this).ok())
    ++threads_;
  if (threads_ == 0) {
    jobs_.pop_back();
    return false;
  }
  wake_.notify_one();
  return true;
}

void* Warmers::thread_main(void* warmers) {
  sys::name_thread("zerocopy-warmer");
  static_cast<Warmers*>(warmers)->work();
  return nullptr;
}

void Warmers::work() {
  std::unique_lock<std::mutex> lock(mutex_);
  Job job;
  while (wait_for_job(&lock, &job)) {
    lock.unlock();
    job.run();
    job.run = nullptr;  // what it holds, a file say, is let go before the lock is taken
    lock.lock();
    if (--running_[job.device] == 0) running_.erase(job.device);
  }
  --threads_;
}

// False when none came for kIdleMs.
bool Warmers::wait_for_job(std::unique_lock<std::mutex>* lock, Job* job) {
  ++idle_;
  const bool taken =
      wake_.wait_for(*lock, std::chrono::milliseconds(kIdleMs), [&] { return take(job); });
  --idle_;
  return taken;
}

// The oldest job whose device has a warmer to spare.
bool Warmers::take(Job* job) {
  for (auto next = jobs_.begin(); next != jobs_.end(); ++next) {
    const auto running = running_.find(next->device);
    if (running != running_.end() && running->second >= kMaxWarmersPerDevice) continue;
    ++running_[next->device];
    *job = std::move(*next);
    jobs_.erase(next);
    return true;
  }
  return false;
}

}  // namespace zerocopy
