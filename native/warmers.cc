#include "warmers.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "syscalls.h"

namespace zerocopy {

int Warmers::Device::runnable(int most) const {
  return std::clamp(most - running, 0, static_cast<int>(jobs.size()));
}

int Warmers::runnable(int most) const {
  int sum = 0;
  for (const auto& [id, device] : devices_) sum += device.runnable(most);
  return sum;
}

bool Warmers::submit(uint64_t device, std::function<void()> job) {
  std::lock_guard<std::mutex> lock(mutex_);
  Device& entry = devices_[device];
  const int runnable_before = entry.runnable();
  entry.jobs.push_back({next_number_++, std::move(job)});
  // A device at its limit needs no thread: whoever finishes a job of its takes this one.
  if (entry.runnable() == runnable_before) return true;
  if (runnable() <= threads_ - running_) {
    wake_.notify_one();
    return true;
  }
  // Those that are free take first what is assured.
  if (threads_ >= kMaxWarmers && runnable(kAssuredPerDevice) <= threads_ - running_) return true;
  if (sys::start_thread(thread_main, this).ok()) {
    ++threads_;
    return true;
  }
  // Not left to threads that are busy: they may hang on a disk for ever.
  entry.jobs.pop_back();
  if (entry.jobs.empty() && entry.running == 0) devices_.erase(device);
  return false;
}

void* Warmers::thread_main(void* warmers) {
  sys::name_thread("zerocopy-warmer");
  sys::yield_to_others();
  static_cast<Warmers*>(warmers)->work();
  return nullptr;
}

void Warmers::work() {
  std::unique_lock<std::mutex> lock(mutex_);
  uint64_t device;
  Job job;
  while (wait_for_job(&lock, &device, &job)) {
    lock.unlock();
    job.run();
    job.run = nullptr;  // what it holds, a file say, is let go before the lock is taken
    lock.lock();
    --running_;
    Device& entry = devices_[device];
    if (--entry.running == 0 && entry.jobs.empty()) devices_.erase(device);
  }
  --threads_;
}

// False when none came for kIdleMs.
bool Warmers::wait_for_job(std::unique_lock<std::mutex>* lock, uint64_t* device, Job* job) {
  return wake_.wait_for(*lock, std::chrono::milliseconds(kIdleMs),
                        [&] { return take(device, job); });
}

// The oldest job of the device that has the fewest running: so those that hang come last.
bool Warmers::take(uint64_t* device, Job* job) {
  const auto goes_before = [](const Device& a, const Device& b) {
    if (a.running != b.running) return a.running < b.running;
    return a.jobs.front().number < b.jobs.front().number;
  };
  Device* next = nullptr;
  for (auto& [id, entry] : devices_) {
    if (entry.runnable() == 0 || (next && goes_before(*next, entry))) continue;
    next = &entry;
    *device = id;
  }
  if (!next) return false;
  *job = std::move(next->jobs.front());
  next->jobs.pop_front();
  ++next->running;
  ++running_;
  return true;
}

}  // namespace zerocopy
