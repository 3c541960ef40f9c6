#include "warmers.h"

#include <algorithm>
#include <map>
#include <thread>

#include "helpers.h"

namespace zerocopy::test {
namespace {

constexpr int kPerDevice = Warmers::kMaxWarmersPerDevice;
constexpr int kInAll = Warmers::kMaxWarmers;

// How many jobs run at once, and how many have run.
class Crowd {
 public:
  void enter() {
    std::lock_guard<std::mutex> lock(mutex_);
    most_ = std::max(most_, ++inside_);
  }
  void leave() {
    std::lock_guard<std::mutex> lock(mutex_);
    --inside_;
    ++done_;
    changed_.notify_all();
  }
  bool wait_until_done(int count) {
    std::unique_lock<std::mutex> lock(mutex_);
    return changed_.wait_for(lock, kPatience, [&] { return done_ >= count; });
  }
  int most() {
    std::lock_guard<std::mutex> lock(mutex_);
    return most_;
  }
  int done() {
    std::lock_guard<std::mutex> lock(mutex_);
    return done_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int inside_ = 0;
  int most_ = 0;
  int done_ = 0;
};

std::function<void()> job(Crowd* crowd, Gate* gate) {
  return [crowd, gate] {
    crowd->enter();
    if (gate) gate->wait();
    crowd->leave();
  };
}

// No more threads than `count`, from now on.
class ThreadLimit {
 public:
  explicit ThreadLimit(int count)
      : left_(count), seam_([this](void* (*body)(void*), void* argument) {
          return left_-- > 0 ? kernel.thread_create(body, argument) : EAGAIN;
        }) {}

 private:
  std::atomic<int> left_;
  Seam<&Calls::thread_create> seam_;
};

TEST_CASE("a job runs, once, on another thread") {
  Warmers& warmers = new_warmers();
  Crowd crowd;
  std::thread::id runner;
  REQUIRE(warmers.submit(1, [&] {
    crowd.enter();
    runner = std::this_thread::get_id();
    crowd.leave();
  }));
  CHECK(crowd.wait_until_done(1));
  CHECK(runner != std::this_thread::get_id());
}

TEST_CASE("a device that hangs keeps no more than its share, and the others go on") {
  Warmers& warmers = new_warmers();
  Crowd dead, alive;
  Gate disk;
  for (int i = 0; i < 3 * kPerDevice; ++i) REQUIRE(warmers.submit(1, job(&dead, &disk)));
  CHECK(disk.reached_by(kPerDevice));
  for (int i = 0; i < 100; ++i) REQUIRE(warmers.submit(2, job(&alive, nullptr)));
  CHECK(alive.wait_until_done(100));
  CHECK(disk.arrivals() == kPerDevice);
  CHECK(dead.done() == 0);
  disk.open();
  CHECK(dead.wait_until_done(3 * kPerDevice));
  CHECK(dead.most() == kPerDevice);
  CHECK(alive.most() <= kPerDevice);
}

TEST_CASE("there are no more warmers in all than kMaxWarmers") {
  constexpr int kDevices = kInAll / kPerDevice + 1;
  Warmers& warmers = new_warmers();
  ThreadCount threads;
  Crowd crowd;
  Gate disks;
  for (int i = 0; i < kPerDevice; ++i) {
    for (uint64_t device = 0; device < kDevices; ++device)
      REQUIRE(warmers.submit(device, job(&crowd, &disks)));
  }
  CHECK(disks.reached_by(kInAll));
  CHECK(threads.started() == kInAll);
  disks.open();
  CHECK(crowd.wait_until_done(kDevices * kPerDevice));
  CHECK(crowd.most() == kInAll);
  CHECK(threads.started() == kInAll);
}

TEST_CASE("where dead devices have all the warmers, others still go on, each on its own") {
  constexpr uint64_t kDead = kInAll / kPerDevice + 1;
  constexpr int kOthers = 5, kJobs = 40;
  Warmers& warmers = new_warmers();
  ThreadCount threads;
  Crowd dead;
  Crowd alive[kOthers];
  Gate disks;
  for (int i = 0; i < 3 * kPerDevice; ++i) {
    for (uint64_t device = 0; device < kDead; ++device)
      REQUIRE(warmers.submit(device, job(&dead, &disks)));
  }
  CHECK(disks.reached_by(kInAll));
  // Many at once, behind what waits for the dead.
  for (int i = 0; i < kJobs; ++i) {
    for (int other = 0; other < kOthers; ++other)
      REQUIRE(warmers.submit(kDead + static_cast<uint64_t>(other), job(&alive[other], nullptr)));
  }
  for (Crowd& crowd : alive) CHECK(crowd.wait_until_done(kJobs));
  // And one by one.
  for (int i = 1; i <= kJobs; ++i) {
    REQUIRE(warmers.submit(kDead, job(&alive[0], nullptr)));
    CHECK(alive[0].wait_until_done(kJobs + i));
  }
  CHECK(dead.done() == 0);
  const int most = kInAll + Warmers::kAssuredPerDevice * static_cast<int>(kDead + kOthers);
  CHECK(threads.alive() <= most);
  disks.open();
  CHECK(dead.wait_until_done(static_cast<int>(3 * kPerDevice * kDead)));
  CHECK(eventually([&] { return threads.alive() == 0; }));
}

TEST_CASE("idle warmers go, and come again when there is work") {
  Warmers& warmers = new_warmers();
  Crowd crowd;
  {
    ThreadCount threads;
    Gate together;
    for (int i = 0; i < kPerDevice; ++i) REQUIRE(warmers.submit(1, job(&crowd, &together)));
    CHECK(together.reached_by(kPerDevice));
    CHECK(threads.alive() >= kPerDevice);
    together.open();
    CHECK(crowd.wait_until_done(kPerDevice));
    CHECK(eventually([&] { return threads.alive() == 0; }));
  }
  {
    ThreadLimit none(0);  // nobody is counted on who has gone
    CHECK_FALSE(warmers.submit(1, job(&crowd, nullptr)));
  }
  ThreadCount threads;
  REQUIRE(warmers.submit(1, job(&crowd, nullptr)));
  CHECK(crowd.wait_until_done(kPerDevice + 1));
  CHECK(threads.started() == 1);
  CHECK(eventually([&] { return threads.alive() == 0; }));
}

TEST_CASE("without a thread a job is refused, and let go") {
  Warmers& warmers = new_warmers();
  Crowd crowd;
  auto held = std::make_shared<int>();
  const std::weak_ptr<int> watched = held;
  {
    ThreadLimit none(0);
    CHECK_FALSE(warmers.submit(1, [&crowd, held = std::move(held)] { crowd.enter(); }));
    CHECK(watched.expired());
  }
  REQUIRE(warmers.submit(1, job(&crowd, nullptr)));
  CHECK(crowd.wait_until_done(1));
  CHECK(crowd.most() == 1);
}

TEST_CASE("where there are no more threads, a job is not left to one that may hang") {
  Warmers& warmers = new_warmers();
  Crowd crowd;
  Gate gate;
  {
    ThreadLimit one(1);
    REQUIRE(warmers.submit(1, job(&crowd, &gate)));
    CHECK(gate.reached_by(1));
    CHECK_FALSE(warmers.submit(2, job(&crowd, nullptr)));
    CHECK_FALSE(warmers.submit(1, job(&crowd, nullptr)));
    gate.open();
    CHECK(crowd.wait_until_done(1));
    // One that is free does.
    CHECK(eventually([&] { return warmers.submit(2, job(&crowd, nullptr)); }));
    CHECK(crowd.wait_until_done(2));
  }
  CHECK(crowd.most() == 1);
}

TEST_CASE("no thread is started for a job that has to wait for its device") {
  Warmers& warmers = new_warmers();
  ThreadCount threads;
  Crowd crowd;
  Gate gate;
  for (int i = 0; i < 10 * kPerDevice; ++i) REQUIRE(warmers.submit(1, job(&crowd, &gate)));
  CHECK(gate.reached_by(kPerDevice));
  CHECK(threads.started() == kPerDevice);
  // Nor, with that queue behind it, more than one for another device's.
  for (int i = 1; i <= 20; ++i) {
    REQUIRE(warmers.submit(2, job(&crowd, nullptr)));
    CHECK(eventually([&] { return crowd.done() == i; }));
  }
  CHECK(threads.started() <= kPerDevice + 2);
  gate.open();
  CHECK(crowd.wait_until_done(10 * kPerDevice + 20));
  CHECK(crowd.most() <= kPerDevice + 1);
}

TEST_CASE("what a job holds is let go while its warmer waits for the next") {
  Warmers& warmers = new_warmers();
  auto held = std::make_shared<int>();
  const std::weak_ptr<int> watched = held;
  REQUIRE(warmers.submit(1, [held = std::move(held)] {}));
  CHECK(eventually([&] { return watched.expired(); }));
}

TEST_CASE("jobs from many threads run once each, within the limits") {
  constexpr int kSubmitters = 4, kJobs = 300, kDevices = 6;
  Warmers& warmers = new_warmers();
  ThreadCount threads;
  Crowd all;
  Crowd by_device[kDevices];
  std::atomic<int> refused{0};
  std::vector<std::thread> submitters;
  for (int submitter = 0; submitter < kSubmitters; ++submitter) {
    submitters.emplace_back([&, submitter] {
      for (int i = 0; i < kJobs; ++i) {
        const int device = (i + submitter) % kDevices;
        const bool taken = warmers.submit(static_cast<uint64_t>(device), [&, device] {
          by_device[device].enter();
          all.enter();
          std::this_thread::yield();
          by_device[device].leave();
          all.leave();
        });
        if (!taken) ++refused;
      }
    });
  }
  for (std::thread& submitter : submitters) submitter.join();
  CHECK(refused == 0);
  CHECK(all.wait_until_done(kSubmitters * kJobs));
  CHECK(eventually([&] { return threads.alive() == 0; }));
  CHECK(all.done() == kSubmitters * kJobs);
  // More devices than there are warmers for: those that come last get what is assured them beyond.
  CHECK(all.most() <= kInAll + kDevices * Warmers::kAssuredPerDevice);
  for (Crowd& device : by_device) {
    CHECK(device.most() <= kPerDevice);
    CHECK(device.done() == kSubmitters * kJobs / kDevices);
  }
}

}  // namespace
}  // namespace zerocopy::test
