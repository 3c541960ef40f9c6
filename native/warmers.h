#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <unordered_map>

namespace zerocopy {

// Threads for whatever may block on a file. They come as they are needed, up to kMaxWarmers, and
// go when idle. No device has more than kMaxWarmersPerDevice of them: one that no longer answers
// leaves the rest to the others.
class Warmers {
 public:
  static constexpr int kMaxWarmers = 32;
  static constexpr int kMaxWarmersPerDevice = 8;
  static constexpr int kIdleMs = 1000;

  // Runs `job` on a warmer, when one is free for `device` (an st_dev). False when there is no
  // thread and none is to be had: then the job never runs.
  bool submit(uint64_t device, std::function<void()> job);

 private:
  struct Job {
    uint64_t device;
    std::function<void()> run;
  };
  static void* thread_main(void* warmers);
  void work();
  bool wait_for_job(std::unique_lock<std::mutex>* lock, Job* job);
  bool take(Job* job);

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job> jobs_;
  std::unordered_map<uint64_t, int> running_;  // by device; no entry: none
  int threads_ = 0;
  int idle_ = 0;
};

}  // namespace zerocopy
