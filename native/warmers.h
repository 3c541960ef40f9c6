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
// leaves the rest to the others. Where there are so many of those that nothing is left, each of the
// others still gets kAssuredPerDevice, beyond kMaxWarmers if need be.
class Warmers {
 public:
  static constexpr int kMaxWarmers = 32;
  static constexpr int kMaxWarmersPerDevice = 8;
  static constexpr int kAssuredPerDevice = 2;
  static constexpr int kIdleMs = 1000;

  // Runs `job` on a warmer, when one is free for `device` (an st_dev). False when there is none to
  // look for it and no thread is to be had: then the job never runs.
  bool submit(uint64_t device, std::function<void()> job);

 private:
  struct Job {
    uint64_t number;  // the older, the smaller
    std::function<void()> run;
  };
  struct Device {
    std::deque<Job> jobs;
    int running = 0;
    // How many of the jobs may run now, if the device is to have so many warmers at most.
    int runnable(int most = kMaxWarmersPerDevice) const;
  };
  static void* thread_main(void* warmers);
  void work();
  bool wait_for_job(std::unique_lock<std::mutex>* lock, uint64_t* device, Job* job);
  bool take(uint64_t* device, Job* job);
  int runnable(int most = kMaxWarmersPerDevice) const;

  std::mutex mutex_;
  std::condition_variable wake_;
  std::unordered_map<uint64_t, Device> devices_;  // with jobs, queued or running
  uint64_t next_number_ = 0;
  int threads_ = 0;
  int running_ = 0;  // of the threads; the others look for a job, or are about to
};

}  // namespace zerocopy
