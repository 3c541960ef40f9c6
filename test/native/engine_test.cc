#include "engine.h"

#include <fcntl.h>
#include <poll.h>

#include <algorithm>
#include <set>
#include <thread>

#include "helpers.h"

namespace zerocopy::test {
namespace {

constexpr uint64_t kMiB = 1024 * 1024;

std::shared_ptr<Recorder> new_recorder() {
  return std::make_shared<Recorder>();
}

// The calls of epoll_ctl(2) for sockets, by operation.
class EpollLog {
 public:
  // `failing`: an operation that doesn't work, with this error.
  explicit EpollLog(int failing = 0, int error = 0)
      : seam_([this, failing, error](int epoll, int operation, int fd, epoll_event* event) {
          ++counts_[operation];
          // Any other way a mover would be woken for a transfer that another one runs.
          if (operation == EPOLL_CTL_MOD && event->events != (EPOLLOUT | EPOLLONESHOT)) ++unusual_;
          if (operation == failing) return fail_with(error);
          return kernel.epoll_control(epoll, operation, fd, event);
        }) {}

  int added() const { return counts_[EPOLL_CTL_ADD]; }
  int modified() const { return counts_[EPOLL_CTL_MOD]; }
  int deleted() const { return counts_[EPOLL_CTL_DEL]; }
  int unusual() const { return unusual_; }

 private:
  std::atomic<int> counts_[4] = {};
  std::atomic<int> unusual_{0};
  Seam<&Calls::epoll_control> seam_;
};

// sendfile(2) of one file waits at a gate, before it moves anything.
class HeldSendfile {
 public:
  explicit HeldSendfile(int fd)
      : seam_([this, fd](int out_fd, int in_fd, off_t* offset, size_t count) {
          if (in_fd == fd) gate.wait();
          return kernel.sendfile(out_fd, in_fd, offset, count);
        }) {}

  Gate gate;

 private:
  Seam<&Calls::sendfile> seam_;
};

// Reading a file to warm it waits at a gate, as on a disk that no longer answers.
class HungDisk {
 public:
  explicit HungDisk(int fd)
      : seam_([this, fd](int in_fd, void* buffer, size_t count, off_t offset) {
          if (in_fd == fd) gate.wait();
          return kernel.read(in_fd, buffer, count, offset);
        }) {}

  Gate gate;

 private:
  Seam<&Calls::read> seam_;
};

void check_done(const Completion& completion, uint64_t transferred, Backend backend) {
  CHECK(completion.outcome == Outcome::done);
  CHECK(completion.transferred == transferred);
  CHECK(completion.backend == backend);
  CHECK(completion.call == Call::none);
  CHECK(completion.error == 0);
}

bool is_readable(int fd) {
  pollfd ready{fd, POLLIN, 0};
  return ::poll(&ready, 1, 0) == 1;
}

// What has come and will come at the other end is what the completion says has gone.
void check_received(const Completion& completion, SocketPair* pair, const Bytes& received,
                    uint64_t offset) {
  pair->close_sender();
  const Bytes whole = concatenation({received, receive_rest(pair->receiver())});
  CHECK(difference(whole, pattern(offset, completion.transferred)) == "");
}

TEST_CASE("a gather list of any size arrives whole") {
  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  AllResident resident;
  TestFile file(200'000);
  const Bytes header = pattern(1'000'000, 17), trailer = pattern(2'000'000, 2);
  for (const Family family : kFamilies) {
    for (const uint64_t size : kSizes) {
      CAPTURE(static_cast<int>(family));
      CAPTURE(size);
      const auto recorder = new_recorder();
      SocketPair pair(family);
      const TransferId id =
          submit(engine, pair.sender(),
                 gather(memory(header), file.range(4095, size), memory(trailer)), recorder);
      const Bytes expected = concatenation({header, pattern(4095, size), trailer});
      CHECK(difference(receive(pair.receiver(), expected.size()), expected) == "");
      const bool tiny = size > 0 && expected.size() <= kReadWayBytes;
      check_done(recorder->wait_for(id), expected.size(), tiny ? Backend::read : Backend::sendfile);
      pair.close_sender();
      CHECK(receive_rest(pair.receiver()).empty());
      CHECK(recorder->count() == 1);
    }
  }
}

TEST_CASE("a full socket is waited for in the epoll, and leaves it at the end") {
  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  AllResident resident;
  TestFile file(kMiB);
  EpollLog epoll;
  const auto recorder = new_recorder();
  SocketPair pair(Family::unix_stream, Buffers::small);
  const TransferId id = submit(engine, pair.sender(), gather(file.range(5, 1'000'000)), recorder);
  CHECK(eventually([&] { return epoll.added() == 1; }));
  CHECK(receive_pattern(pair.receiver(), 5, 500'000) == "");
  CHECK(eventually([&] { return epoll.modified() > 0; }));
  CHECK(receive_pattern(pair.receiver(), 500'005, 500'000) == "");
  check_done(recorder->wait_for(id), 1'000'000, Backend::sendfile);
  CHECK(epoll.added() == 1);
  CHECK(epoll.unusual() == 0);
  CHECK(epoll.deleted() == 1);
}

TEST_CASE("a transfer that never waits is never in the epoll") {
  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  AllResident resident;
  TestFile file(100'000);
  EpollLog epoll;
  const auto recorder = new_recorder();
  SocketPair pair(Family::unix_stream);
  const TransferId id = submit(engine, pair.sender(), gather(file.range(0, 65'537)), recorder);
  check_done(recorder->wait_for(id), 65'537, Backend::sendfile);
  CHECK(difference(receive(pair.receiver(), 65'537), pattern(0, 65'537)) == "");
  CHECK(epoll.added() + epoll.modified() + epoll.deleted() == 0);
}

TEST_CASE("an id is exact as a double, and never the same twice") {
  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  SocketPair pair(Family::unix_stream);
  std::set<TransferId> ids;
  for (int i = 0; i < 100; ++i) {
    const auto recorder = new_recorder();
    const TransferId id = submit(engine, pair.sender(), {}, recorder);
    check_done(recorder->wait_for(id), 0, Backend::sendfile);
    CHECK(id < uint64_t{1} << 53);
    ids.insert(id);
  }
  CHECK(ids.size() == 100);
}

TEST_CASE("progress can be asked for") {
  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  AllResident resident;
  TestFile file(kMiB);
  EpollLog epoll;
  const auto recorder = new_recorder();
  SocketPair pair(Family::unix_stream, Buffers::small);
  const TransferId id = submit(engine, pair.sender(), gather(file.range(0, kMiB)), recorder);
  CHECK(eventually([&] { return epoll.added() == 1; }));
  const uint64_t transferred = engine.transferred(id);
  CHECK(transferred > 0);
  CHECK(transferred < kMiB);
  CHECK(engine.transferred(0) == 0);
  CHECK(engine.transferred(id + 1) == 0);
  CHECK(receive_pattern(pair.receiver(), 0, kMiB) == "");
  check_done(recorder->wait_for(id), kMiB, Backend::sendfile);
  // Whoever asks may not have heard of the end yet.
  CHECK(engine.transferred(id) == kMiB);
  const TransferId next = submit(engine, pair.sender(), gather(file.range(0, kMiB)), recorder);
  CHECK(eventually([&] { return engine.transferred(next) > 0; }));
  CHECK(engine.transferred(id) == kMiB);
  CHECK(receive_pattern(pair.receiver(), 0, kMiB) == "");
  check_done(recorder->wait_for(next), kMiB, Backend::sendfile);
  CHECK(engine.transferred(next) == kMiB);
  CHECK(engine.transferred(id) == 0);
}

TEST_CASE("a completion comes after the socket has been let go") {
  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  AllResident resident;
  TestFile file(200'000);
  std::atomic<int> own_socket{-1}, closed{-1}, open_when_deleted{-1};
  std::atomic<bool> added{false};
  Seam<&Calls::duplicate> duplicates([&](int fd) {
    own_socket = kernel.duplicate(fd);
    return own_socket.load();
  });
  Seam<&Calls::epoll_control> epoll([&](int epoll_fd, int operation, int fd, epoll_event* event) {
    if (operation == EPOLL_CTL_DEL && fd == own_socket)
      open_when_deleted = ::fcntl(fd, F_GETFD) >= 0;
    if (operation == EPOLL_CTL_ADD && fd == own_socket) added = true;
    return kernel.epoll_control(epoll_fd, operation, fd, event);
  });
  const auto recorder = std::make_shared<Recorder>(
      [&](const Completion&) { closed = ::fcntl(own_socket, F_GETFD) < 0; });
  SocketPair pair(Family::unix_stream, Buffers::small);
  const TransferId id = submit(engine, pair.sender(), gather(file.range(0, 131'088)), recorder);
  CHECK(eventually([&] { return added.load(); }));  // the socket is full
  CHECK(receive_pattern(pair.receiver(), 0, 131'088) == "");
  check_done(recorder->wait_for(id), 131'088, Backend::sendfile);
  CHECK(open_when_deleted == 1);
  CHECK(closed == 1);
}

TEST_CASE("a client lives until its last transfer has told it of its end") {
  class Mortal : public Client {
   public:
    explicit Mortal(std::shared_ptr<std::atomic<int>> completions)
        : completions_(std::move(completions)) {}
    void complete(Completion) override { ++*completions_; }

   private:
    std::shared_ptr<std::atomic<int>> completions_;
  };

  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  AllResident resident;
  TestFile file(200'000);
  SocketPair pair(Family::unix_stream, Buffers::small);
  auto completions = std::make_shared<std::atomic<int>>(0);
  auto client = std::make_shared<Mortal>(completions);
  const std::weak_ptr<Mortal> watched = client;
  submit(engine, pair.sender(), gather(file.range(0, 131'088)), std::move(client));
  CHECK(*completions == 0);
  CHECK_FALSE(watched.expired());
  CHECK(receive_pattern(pair.receiver(), 0, 131'088) == "");
  CHECK(eventually([&] { return watched.expired(); }));
  CHECK(*completions == 1);
}

TEST_CASE("what a transfer ends with is told as it was") {
  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  AllResident resident;
  TestFile file(200'000);
  const Bytes header = pattern(1'000'000, 100);
  const auto recorder = new_recorder();
  SocketPair pair(Family::unix_stream);
  int error = 0;
  uint64_t length = 65'537;
  Completion expected{};
  SUBCASE("unsupported") {
    error = EINVAL;
    expected = {0, Outcome::unsupported, 100, Backend::sendfile, Call::sendfile, EINVAL};
  }
  SUBCASE("failed") {
    error = ECONNRESET;
    expected = {0, Outcome::failed, 100, Backend::sendfile, Call::sendfile, ECONNRESET};
  }
  SUBCASE("truncated") {
    length = 500'000;
    expected = {0, Outcome::truncated, 200'100, Backend::sendfile, Call::none, 0};
  }
  Seam<&Calls::sendfile> seam([error](int out_fd, int in_fd, off_t* offset, size_t count) {
    return error != 0 ? fail_with(error) : sendfile_whole(out_fd, in_fd, offset, count);
  });
  const TransferId id =
      submit(engine, pair.sender(), gather(memory(header), file.range(0, length)), recorder);
  CHECK(difference(receive(pair.receiver(), expected.transferred),
                   concatenation({header, pattern(0, expected.transferred - 100)})) == "");
  const Completion completion = recorder->wait_for(id);
  CHECK(completion.outcome == expected.outcome);
  CHECK(completion.transferred == expected.transferred);
  CHECK(completion.backend == expected.backend);
  CHECK(completion.call == expected.call);
  CHECK(completion.error == expected.error);
  pair.close_sender();
  CHECK(receive_rest(pair.receiver()).empty());
}

TEST_CASE("a peer that goes while its transfer waits ends it") {
  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  AllResident resident;
  TestFile file(kMiB);
  for (const Family family : kFamilies) {
    CAPTURE(static_cast<int>(family));
    EpollLog epoll;
    const auto recorder = new_recorder();
    SocketPair pair(family, Buffers::small);
    const TransferId id = submit(engine, pair.sender(), gather(file.range(0, kMiB)), recorder);
    CHECK(eventually([&] { return epoll.added() == 1; }));
    pair.close_receiver();
    const Completion completion = recorder->wait_for(id);
    CHECK(completion.outcome == Outcome::failed);
    CHECK(completion.call == Call::sendfile);
    CHECK((completion.error == EPIPE || completion.error == ECONNRESET));
    CHECK(completion.transferred > 0);
    CHECK(completion.transferred < kMiB);
  }
}

TEST_CASE("a cold range is read by a warmer and sent by a mover") {
  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  TestFile file(3 * kStepBytes);
  const uint64_t length = 2 * kStepBytes + 4097;
  std::mutex mutex;
  std::set<std::thread::id> senders, readers;
  Seam<&Calls::sendfile> sends([&](int out_fd, int in_fd, off_t* offset, size_t count) {
    std::lock_guard<std::mutex> lock(mutex);
    senders.insert(std::this_thread::get_id());
    return kernel.sendfile(out_fd, in_fd, offset, count);
  });
  std::atomic<int> passes{0};
  Seam<&Calls::readahead> passes_seam([&](int fd, off_t offset, size_t count) {
    ++passes;
    return kernel.readahead(fd, offset, count);
  });
  Seam<&Calls::read> reads([&](int fd, void* buffer, size_t count, off_t offset) {
    std::lock_guard<std::mutex> lock(mutex);
    readers.insert(std::this_thread::get_id());
    return kernel.read(fd, buffer, count, offset);
  });
  AllCold cold;  // for ever: it finishes all the same
  const auto recorder = new_recorder();
  SocketPair pair(Family::tcp);
  const TransferId id = submit(engine, pair.sender(), gather(file.range(1, length)), recorder);
  CHECK(receive_pattern(pair.receiver(), 1, length) == "");
  check_done(recorder->wait_for(id), length, Backend::sendfile);
  CHECK(passes == 3);
  std::lock_guard<std::mutex> lock(mutex);
  CHECK_FALSE(readers.empty());
  for (const std::thread::id reader : readers) {
    CHECK(senders.count(reader) == 0);
    CHECK(reader != std::this_thread::get_id());
  }
}

TEST_CASE("a tiny cold transfer goes by sendfile") {
  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  TestFile file(10'000);
  AllCold cold;
  const auto recorder = new_recorder();
  SocketPair pair(Family::tcp);
  const TransferId id = submit(engine, pair.sender(), gather(file.range(1, 4097)), recorder);
  CHECK(receive_pattern(pair.receiver(), 1, 4097) == "");
  check_done(recorder->wait_for(id), 4097, Backend::sendfile);
}

TEST_CASE("a file that is really on disk arrives whole") {
  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  TestFile file(2 * kStepBytes + 70'000);
  if (!file.evict()) {
    MESSAGE("not here: the file stays in the page cache, or nobody can tell");
    return;
  }
  std::atomic<int> passes{0};
  Seam<&Calls::readahead> seam([&](int fd, off_t offset, size_t count) {
    ++passes;
    return kernel.readahead(fd, offset, count);
  });
  const auto recorder = new_recorder();
  SocketPair pair(Family::tcp);
  const uint64_t length = 2 * kStepBytes + 70'000;
  const TransferId id = submit(engine, pair.sender(), gather(file.range(0, length)), recorder);
  CHECK(receive_pattern(pair.receiver(), 0, length) == "");
  check_done(recorder->wait_for(id), length, Backend::sendfile);
  CHECK(passes > 0);
}

TEST_CASE("without a warmer to be had, a mover reads from the disk itself") {
  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  TestFile file(2 * kStepBytes);
  AllCold cold;
  Seam<&Calls::thread_create> no_threads([](void* (*)(void*), void*) { return EAGAIN; });
  std::atomic<int> passes{0};
  Seam<&Calls::readahead> seam([&](int, off_t, size_t) {
    ++passes;
    return 0;
  });
  const auto recorder = new_recorder();
  SocketPair pair(Family::tcp);
  const TransferId id =
      submit(engine, pair.sender(), gather(file.range(0, kStepBytes + 4097)), recorder);
  CHECK(receive_pattern(pair.receiver(), 0, kStepBytes + 4097) == "");
  check_done(recorder->wait_for(id), kStepBytes + 4097, Backend::sendfile);
  CHECK(passes == 0);
}

TEST_CASE("a job that may block runs on a warmer, and not without one") {
  Engine& engine = started_engine(2);
  const auto gate = std::make_shared<Gate>();  // the job's too, which outlives this test's look
  CHECK(engine.run_blocking(1, [gate] { gate->wait(); }));
  CHECK(gate->reached_by(1));
  gate->open();
  Seam<&Calls::thread_create> no_threads([](void* (*)(void*), void*) { return EAGAIN; });
  CHECK_FALSE(new_engine(1).run_blocking(1, [] {}));
}

TEST_CASE("an engine that can't start says why, and starts when it can") {
  const size_t before = count_descriptors();
  Engine& engine = new_engine(2);
  {
    TestFile file(100'000);
    SocketPair pair(Family::unix_stream);
    const auto recorder = new_recorder();
    std::unique_ptr<Transfer> transfer =
        std::make_unique<GatherTransfer>(pair.sender(), gather(file.range(0, 65'537)));
    REQUIRE(transfer->own() == 0);
    CHECK(engine.movers() == 2);  // nothing has been tried
    const auto refused = [&](Call call) {
      CHECK(engine.submit(&transfer, recorder) == 0);
      REQUIRE(transfer != nullptr);  // still the caller's
      CHECK(transfer->failed_call() == call);
      const int error = transfer->error();
      StartFailure failure;
      CHECK(engine.movers(&failure) == 0);
      CHECK(failure.call == call);
      CHECK(failure.error == error);
      return error;
    };
    {
      Seam<&Calls::epoll_create> seam([] { return fail_with(EMFILE); });
      CHECK(refused(Call::epoll_create) == EMFILE);
      CHECK(refused(Call::epoll_create) == EMFILE);
    }
    {
      Seam<&Calls::event_create> seam([] { return fail_with(ENFILE); });
      CHECK(refused(Call::event_create) == ENFILE);
      CHECK(refused(Call::event_create) == ENFILE);
    }
    {
      EpollLog full(EPOLL_CTL_ADD, ENOSPC);
      CHECK(refused(Call::epoll_ctl) == ENOSPC);
      CHECK(refused(Call::epoll_ctl) == ENOSPC);
    }
    {
      Seam<&Calls::thread_create> seam([](void* (*)(void*), void*) { return EAGAIN; });
      CHECK(refused(Call::pthread_create) == EAGAIN);
      CHECK(refused(Call::pthread_create) == EAGAIN);
    }
    CHECK(recorder->count() == 0);
    const TransferId id = engine.submit(&transfer, recorder);
    REQUIRE(id != 0);
    CHECK(receive_pattern(pair.receiver(), 0, 65'537) == "");
    CHECK(recorder->wait_for(id).outcome == Outcome::done);
    StartFailure failure;
    CHECK(engine.movers(&failure) == 2);
    CHECK(failure.error == 0);
  }
  // Its epoll and its eventfd, made once.
  CHECK(eventually([&] { return count_descriptors() == before + 2; }));
}

TEST_CASE("one mover will do where there are no more to be had") {
  Engine& engine = new_engine(4);
  CHECK(engine.movers() == 4);
  std::atomic<int> left{1};
  Seam<&Calls::thread_create> seam([&](void* (*body)(void*), void* argument) {
    return left-- > 0 ? kernel.thread_create(body, argument) : EAGAIN;
  });
  AllResident resident;
  TestFile file(kMiB);
  SocketPair pair(Family::unix_stream, Buffers::small);
  const auto recorder = new_recorder();
  const TransferId id = submit(engine, pair.sender(), gather(file.range(0, kMiB)), recorder);
  CHECK(receive_pattern(pair.receiver(), 0, kMiB) == "");
  check_done(recorder->wait_for(id), kMiB, Backend::sendfile);
  CHECK(engine.movers() == 1);
}

TEST_CASE("the number of movers is chosen before they start") {
  CHECK(Engine::instance().movers() >= Engine::kMinMovers);
  CHECK(Engine::instance().movers() <= Engine::kMaxMovers);
  CHECK(&Engine::instance() == &Engine::instance());
  ThreadCount threads;
  Engine& engine = started_engine(3);
  CHECK(threads.started() == 3);
  engine.set_movers(1);
  CHECK(engine.movers() == 3);
}

TEST_CASE("a socket that the epoll does not take fails its transfer") {
  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  AllResident resident;
  TestFile file(kMiB);
  EpollLog epoll(EPOLL_CTL_ADD, ENOSPC);
  const auto recorder = new_recorder();
  SocketPair pair(Family::unix_stream, Buffers::small);
  const TransferId id = submit(engine, pair.sender(), gather(file.range(0, kMiB)), recorder);
  const Completion completion = recorder->wait_for(id);
  CHECK(completion.outcome == Outcome::failed);
  CHECK(completion.call == Call::epoll_ctl);
  CHECK(completion.error == ENOSPC);
  CHECK(completion.transferred > 0);
  CHECK(completion.transferred < kMiB);
  check_received(completion, &pair, {}, 0);
  CHECK(epoll.deleted() == 0);
}

TEST_CASE("a socket that can't be armed again fails its transfer, and leaves the epoll") {
  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  AllResident resident;
  TestFile file(kMiB);
  EpollLog epoll(EPOLL_CTL_MOD, ENOMEM);
  const auto recorder = new_recorder();
  SocketPair pair(Family::unix_stream, Buffers::small);
  const TransferId id = submit(engine, pair.sender(), gather(file.range(0, kMiB)), recorder);
  CHECK(eventually([&] { return epoll.added() == 1; }));
  const Bytes received = receive(pair.receiver(), engine.transferred(id));
  const Completion completion = recorder->wait_for(id);
  CHECK(completion.outcome == Outcome::failed);
  CHECK(completion.call == Call::epoll_ctl);
  CHECK(completion.error == ENOMEM);
  check_received(completion, &pair, received, 0);
  CHECK(epoll.deleted() == 1);
}

TEST_CASE("an event that comes late leaves alone who has its slot now") {
  // Held back: the event of one transfer, by the mover that has fetched it.
  Gate gate;
  std::atomic<TransferId> watched{0};
  std::mutex mutex;
  std::thread::id late_mover;
  bool came_back = false;
  Seam<&Calls::epoll_wait> waits([&](int epoll, epoll_event* events, int most, int timeout) {
    {
      std::lock_guard<std::mutex> lock(mutex);
      if (late_mover == std::this_thread::get_id()) came_back = true;
    }
    // Not for ever: a mover must be able to leave this function at the test's end.
    const int count = kernel.epoll_wait(epoll, events, most, timeout < 0 ? 10 : timeout);
    if (count == 1 && watched != 0 && events[0].data.u64 == watched) {
      gate.wait();
      std::lock_guard<std::mutex> lock(mutex);
      late_mover = std::this_thread::get_id();
    }
    return count;
  });
  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  AllResident resident;
  TestFile first_file(kMiB), second_file(kMiB);
  std::atomic<int> second_steps{0};
  Seam<&Calls::sendfile> sends([&](int out_fd, int in_fd, off_t* offset, size_t count) {
    if (in_fd == second_file.fd()) ++second_steps;
    return kernel.sendfile(out_fd, in_fd, offset, count);
  });
  EpollLog epoll;
  const auto recorder = new_recorder();
  SocketPair first(Family::unix_stream, Buffers::small);
  SocketPair second(Family::unix_stream, Buffers::small);
  const size_t first_filled = first.fill(), second_filled = second.fill();

  const TransferId cancelled =
      submit(engine, first.sender(), gather(first_file.range(0, 200'000)), recorder);
  CHECK(eventually([&] { return epoll.added() == 1; }));
  watched = cancelled;
  CHECK(receive(first.receiver(), first_filled).size() == first_filled);
  CHECK(gate.reached_by(1));
  engine.cancel(cancelled);
  CHECK(recorder->count(cancelled) == 1);

  const TransferId id =
      submit(engine, second.sender(), gather(second_file.range(0, 200'000)), recorder);
  const uint64_t slot_mask = (uint64_t{1} << 21) - 1;
  CHECK((id & slot_mask) == (cancelled & slot_mask));
  CHECK(id != cancelled);
  CHECK(eventually([&] { return epoll.added() == 2; }));
  CHECK(second_steps == 1);
  gate.open();
  CHECK(eventually([&] {
    std::lock_guard<std::mutex> lock(mutex);
    return came_back;
  }));
  CHECK(second_steps == 1);
  CHECK(recorder->count(id) == 0);

  CHECK(receive(second.receiver(), second_filled).size() == second_filled);
  CHECK(receive_pattern(second.receiver(), 0, 200'000) == "");
  check_done(recorder->wait_for(id), 200'000, Backend::sendfile);
  CHECK(recorder->wait_for(cancelled).outcome == Outcome::cancelled);
  CHECK(recorder->count() == 2);
}

TEST_CASE("cancelled while it is queued, a transfer ends at once and sends nothing") {
  Engine& engine = started_engine(1);
  DescriptorGuard guard;
  AllResident resident;
  TestFile busy_file(100'000), file(100'000);
  HeldSendfile held(busy_file.fd());
  const auto recorder = new_recorder();
  SocketPair busy(Family::unix_stream), pair(Family::unix_stream);
  const TransferId busy_id =
      submit(engine, busy.sender(), gather(busy_file.range(0, 65'537)), recorder);
  CHECK(held.gate.reached_by(1));

  const size_t descriptors = count_descriptors();
  const TransferId id = submit(engine, pair.sender(), gather(file.range(0, 65'537)), recorder);
  engine.cancel(id);
  CHECK(recorder->count(id) == 1);
  CHECK(recorder->wait_for(id).outcome == Outcome::cancelled);
  CHECK(recorder->wait_for(id).transferred == 0);
  CHECK(count_descriptors() == descriptors);
  engine.cancel(id);

  held.gate.open();
  CHECK(receive_pattern(busy.receiver(), 0, 65'537) == "");
  check_done(recorder->wait_for(busy_id), 65'537, Backend::sendfile);
  CHECK(recorder->count() == 2);
  check_received(recorder->wait_for(id), &pair, {}, 0);
}

TEST_CASE("cancelled while it waits for its socket, a transfer ends at once") {
  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  AllResident resident;
  TestFile file(kMiB);
  for (const Family family : kFamilies) {
    CAPTURE(static_cast<int>(family));
    EpollLog epoll;
    const auto recorder = new_recorder();
    SocketPair pair(family, Buffers::small);
    const TransferId id = submit(engine, pair.sender(), gather(file.range(9, 1'000'000)), recorder);
    CHECK(eventually([&] { return epoll.added() == 1; }));
    // A TCP socket may just be taking some more; then the runner settles.
    engine.cancel(id);
    if (family == Family::unix_stream) CHECK(recorder->count(id) == 1);
    const Completion completion = recorder->wait_for(id);
    CHECK(completion.outcome == Outcome::cancelled);
    CHECK(completion.transferred > 0);
    CHECK(completion.transferred < 1'000'000);
    CHECK(completion.backend == Backend::sendfile);
    CHECK(completion.call == Call::none);
    CHECK(epoll.deleted() == 1);
    engine.cancel(id);
    check_received(completion, &pair, {}, 9);
    CHECK(recorder->count() == 1);
  }
}

TEST_CASE("cancelled while a step runs, a transfer ends after that step") {
  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  AllResident resident;
  TestFile file(kMiB);
  HeldSendfile held(file.fd());
  const auto recorder = new_recorder();
  SocketPair pair(Family::unix_stream, Buffers::small);
  SUBCASE("cancelled, when the step was not the last") {
    const TransferId id = submit(engine, pair.sender(), gather(file.range(0, kMiB)), recorder);
    CHECK(held.gate.reached_by(1));
    engine.cancel(id);
    engine.cancel(id);
    CHECK(recorder->count() == 0);
    held.gate.open();
    const Completion completion = recorder->wait_for(id);
    CHECK(completion.outcome == Outcome::cancelled);
    CHECK(completion.transferred > 0);
    CHECK(completion.transferred < kMiB);
    check_received(completion, &pair, {}, 0);
  }
  SUBCASE("done, when it was") {
    const TransferId id =
        submit(engine, pair.sender(), gather(file.range(0, kBeyondReadWay)), recorder);
    CHECK(held.gate.reached_by(1));
    engine.cancel(id);
    held.gate.open();
    const Completion completion = recorder->wait_for(id);
    check_done(completion, kBeyondReadWay, Backend::sendfile);
    check_received(completion, &pair, {}, 0);
  }
  SUBCASE("truncated, when the file has ended") {
    const TransferId id = submit(engine, pair.sender(), gather(file.range(kMiB, kMiB)), recorder);
    CHECK(held.gate.reached_by(1));
    engine.cancel(id);
    held.gate.open();
    CHECK(recorder->wait_for(id).outcome == Outcome::truncated);
  }
  CHECK(recorder->count() == 1);
}

TEST_CASE("cancelled after its end, or never begun, nothing happens") {
  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  AllResident resident;
  TestFile file(100'000);
  const auto recorder = new_recorder();
  SocketPair pair(Family::unix_stream);
  const TransferId id = submit(engine, pair.sender(), gather(file.range(0, 65'537)), recorder);
  check_done(recorder->wait_for(id), 65'537, Backend::sendfile);
  engine.cancel(id);
  engine.cancel(0);
  engine.cancel(id + 1);
  engine.cancel(~uint64_t{0});
  CHECK(receive_pattern(pair.receiver(), 0, 65'537) == "");

  // The id of an old transfer is not that of the new one in its place.
  SocketPair full(Family::unix_stream, Buffers::small);
  const size_t filled = full.fill();
  const TransferId next = submit(engine, full.sender(), gather(file.range(0, 65'537)), recorder);
  engine.cancel(id);
  CHECK(receive(full.receiver(), filled).size() == filled);
  CHECK(receive_pattern(full.receiver(), 0, 65'537) == "");
  check_done(recorder->wait_for(next), 65'537, Backend::sendfile);
  CHECK(recorder->count() == 2);
}

TEST_CASE("a disk that hangs holds no socket, and nobody else's transfer") {
  constexpr size_t kStuck = Warmers::kMaxWarmersPerDevice + 4;
  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  AllCold cold;
  TestFile dead(kMiB), alive(kMiB);
  HungDisk disk(dead.fd());
  const auto recorder = new_recorder();
  std::vector<std::unique_ptr<SocketPair>> pairs;
  for (size_t i = 0; i < kStuck; ++i)
    pairs.push_back(std::make_unique<SocketPair>(Family::unix_stream));
  SocketPair other(Family::tcp);

  const size_t descriptors = count_descriptors();
  std::vector<TransferId> ids;
  for (const auto& pair : pairs)
    ids.push_back(submit(engine, pair->sender(), gather(dead.range(0, kMiB)), recorder));
  CHECK(disk.gate.reached_by(Warmers::kMaxWarmersPerDevice));

  const TransferId other_id =
      submit(engine, other.sender(), gather(alive.range(3, 500'000)), recorder);
  CHECK(receive_pattern(other.receiver(), 3, 500'000) == "");
  check_done(recorder->wait_for(other_id), 500'000, Backend::sendfile);
  CHECK(disk.gate.arrivals() == Warmers::kMaxWarmersPerDevice);

  // One of them may not have come to its warmer's queue yet: then the runner settles.
  for (const TransferId id : ids) engine.cancel(id);
  for (const TransferId id : ids) {
    const Completion completion = recorder->wait_for(id);
    CHECK(completion.outcome == Outcome::cancelled);
    CHECK(completion.transferred == 0);
    engine.cancel(id);
  }
  CHECK(count_descriptors() == descriptors);
  disk.gate.open();
  for (const auto& pair : pairs) {
    pair->close_sender();
    CHECK(receive_rest(pair->receiver()).empty());
  }
  CHECK(recorder->count() == kStuck + 1);
}

TEST_CASE("what waits behind a disk that hangs, and is cancelled, keeps no file open") {
  constexpr size_t kWaiting = 5;
  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  AllCold cold;
  TestFile dead(kMiB, 4711);
  HungDisk disk(dead.fd());
  const auto recorder = new_recorder();
  SocketPair pair(Family::unix_stream);
  std::vector<TransferId> ids;
  const auto submit_all = [&](size_t count, const std::function<Segment()>& segment) {
    for (size_t i = 0; i < count; ++i)
      ids.push_back(submit(engine, pair.sender(), gather(segment()), recorder));
  };
  submit_all(Warmers::kMaxWarmersPerDevice, [&] { return dead.range(0, kMiB); });
  CHECK(disk.gate.reached_by(Warmers::kMaxWarmersPerDevice));
  const size_t descriptors = count_descriptors();
  std::vector<std::weak_ptr<const File>> files;
  submit_all(kWaiting, [&] {
    auto file = std::make_shared<const File>(UniqueFd(::dup(dead.fd())), dead.device());
    files.push_back(file);
    return Segment::of_file(std::move(file), 0, kMiB);
  });
  for (const TransferId id : ids) engine.cancel(id);
  CHECK(recorder->wait_until(ids.size()));
  for (const auto& file : files) CHECK(eventually([&] { return file.expired(); }));
  CHECK(count_descriptors() < descriptors);
  disk.gate.open();
}

TEST_CASE("cancelled while its range is warmed, a transfer ends at once") {
  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  AllCold cold;
  TestFile file(kMiB);
  const Bytes header = pattern(0, 70'000);
  const auto recorder = new_recorder();
  SocketPair pair(Family::unix_stream);
  HungDisk disk(file.fd());
  const TransferId id =
      submit(engine, pair.sender(), gather(memory(header), file.range(0, kMiB)), recorder);
  CHECK(disk.gate.reached_by(1));
  engine.cancel(id);
  CHECK(recorder->count(id) == 1);
  const Completion completion = recorder->wait_for(id);
  CHECK(completion.outcome == Outcome::cancelled);
  CHECK(completion.transferred == header.size());
  check_received(completion, &pair, {}, 0);

  // In its slot there is another one by the time its warmer is done.
  SocketPair next(Family::unix_stream, Buffers::small);
  const size_t filled = next.fill();
  const TransferId next_id = submit(engine, next.sender(), gather(memory(header)), recorder);
  disk.gate.open();
  CHECK(receive(next.receiver(), filled).size() == filled);
  CHECK(receive_pattern(next.receiver(), 0, header.size()) == "");
  CHECK(recorder->wait_for(next_id).outcome == Outcome::done);
  CHECK(recorder->count() == 2);
}

TEST_CASE("cancel_all ends what one client has begun, and nothing else") {
  constexpr size_t kEach = 20;
  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  AllResident resident;
  TestFile file(kMiB);
  const auto leaving = new_recorder(), staying = new_recorder();
  std::vector<std::unique_ptr<SocketPair>> pairs;
  std::vector<TransferId> ids;
  for (size_t i = 0; i < 2 * kEach; ++i) {
    pairs.push_back(std::make_unique<SocketPair>(Family::unix_stream, Buffers::small));
    ids.push_back(submit(engine, pairs.back()->sender(), gather(file.range(i, 300'000)),
                         i % 2 == 0 ? leaving : staying));
  }
  engine.cancel_all(leaving.get());
  engine.cancel_all(leaving.get());
  CHECK(leaving->wait_until(kEach));
  CHECK(staying->count() == 0);
  for (size_t i = 0; i < 2 * kEach; i += 2) {
    const Completion completion = leaving->wait_for(ids[i]);
    CHECK(completion.outcome == Outcome::cancelled);
    check_received(completion, pairs[i].get(), {}, i);
  }
  for (size_t i = 1; i < 2 * kEach; i += 2) {
    CHECK(receive_pattern(pairs[i]->receiver(), i, 300'000) == "");
    check_done(staying->wait_for(ids[i]), 300'000, Backend::sendfile);
  }
  engine.cancel_all(staying.get());
  CHECK(leaving->count() == kEach);
  CHECK(staying->count() == kEach);
}

// Reads from many sockets by turns, a little at a time, until all of it has come.
class SlowReaders {
 public:
  void add(int fd, Bytes expected) {
    sockets_.push_back({fd, POLLIN, 0});
    expected_.push_back(std::move(expected));
  }

  void read_all() {
    std::vector<Bytes> received(sockets_.size());
    size_t unfinished = sockets_.size();
    while (unfinished > 0) {
      REQUIRE(::poll(sockets_.data(), sockets_.size(), 60'000) > 0);
      for (size_t i = 0; i < sockets_.size(); ++i) {
        if (sockets_[i].fd < 0 || sockets_[i].revents == 0) continue;
        const Bytes some = receive_available(sockets_[i].fd);
        received[i].insert(received[i].end(), some.begin(), some.end());
        if (!some.empty() && received[i].size() < expected_[i].size()) continue;
        sockets_[i].fd = -1;  // poll(2) passes over it
        --unfinished;
      }
    }
    for (size_t i = 0; i < received.size(); ++i) {
      CAPTURE(i);
      CHECK(difference(received[i], expected_[i]) == "");
    }
  }

 private:
  std::vector<pollfd> sockets_;
  std::vector<Bytes> expected_;
};

TEST_CASE("500 transfers at once to slow readers all arrive") {
  constexpr size_t kTransfers = 500;
  Engine& engine = started_engine(0);
  DescriptorGuard guard;
  TestFile file(300'000);
  const auto recorder = new_recorder();
  std::vector<std::unique_ptr<SocketPair>> pairs;
  std::vector<TransferId> ids;
  std::vector<uint64_t> sizes;
  SlowReaders readers;
  for (size_t i = 0; i < kTransfers; ++i) {
    const uint64_t offset = i * 97;
    const uint64_t size = kSizes[i % std::size(kSizes)];
    const Bytes header = pattern(i * 1000, i % 40), trailer = pattern(i * 2000, 5);
    pairs.push_back(std::make_unique<SocketPair>(i % 4 == 0 ? Family::tcp : Family::unix_stream,
                                                 Buffers::small));
    readers.add(pairs.back()->receiver(), concatenation({header, pattern(offset, size), trailer}));
    sizes.push_back(header.size() + size + trailer.size());
    ids.push_back(submit(engine, pairs.back()->sender(),
                         gather(memory(header), file.range(offset, size), memory(trailer)),
                         recorder));
  }
  readers.read_all();
  CHECK(recorder->wait_until(kTransfers));
  for (size_t i = 0; i < kTransfers; ++i) {
    const Completion completion = recorder->wait_for(ids[i]);
    CHECK(completion.outcome == Outcome::done);
    CHECK(completion.transferred == sizes[i]);
    CHECK(recorder->count(ids[i]) == 1);
  }
  CHECK(recorder->count() == kTransfers);
}

TEST_CASE("transfers submitted and cancelled from many threads end once each") {
  constexpr size_t kThreads = 4, kTransfers = 60;
  Engine& engine = started_engine(3);
  DescriptorGuard guard;
  TestFile file(400'000);
  // Some of it is cold, some resident: every state is passed through.
  std::atomic<unsigned> looks{0};
  Seam<&Calls::read_nowait> seam([&](int fd, void* buffer, size_t count, off_t offset) {
    return looks++ % 3 == 0 ? fail_with(EAGAIN) : kernel.read(fd, buffer, count, offset);
  });
  const auto work = [&](size_t thread, std::atomic<int>* wrong) {
    const auto recorder = new_recorder();
    std::vector<std::unique_ptr<SocketPair>> pairs;
    std::vector<TransferId> ids;
    for (size_t i = 0; i < kTransfers; ++i) {
      pairs.push_back(std::make_unique<SocketPair>(Family::unix_stream, Buffers::small));
      ids.push_back(
          submit(engine, pairs.back()->sender(), gather(file.range(i, 200'000)), recorder));
      if (i % 3 == 0) engine.cancel(ids[i / 2]);
      if (i % 7 == thread) engine.cancel(ids[i]);
    }
    std::vector<Bytes> received(kTransfers);
    for (size_t i = 0; i < kTransfers; ++i) {
      if (i % 2 == 0 && is_readable(pairs[i]->receiver()))
        received[i] = receive_available(pairs[i]->receiver());
      engine.cancel(ids[kTransfers - 1 - i]);
      engine.transferred(ids[i]);
    }
    engine.cancel_all(recorder.get());
    if (!recorder->wait_until(kTransfers)) ++*wrong;
    for (size_t i = 0; i < kTransfers; ++i) {
      if (recorder->count(ids[i]) != 1) ++*wrong;
      pairs[i]->close_sender();
      const Bytes rest = receive_rest(pairs[i]->receiver());
      const Bytes expected = pattern(i, recorder->wait_for(ids[i]).transferred);
      if (!difference(concatenation({received[i], rest}), expected).empty()) ++*wrong;
    }
    if (recorder->count() != kTransfers) ++*wrong;
  };
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (size_t thread = 0; thread < kThreads; ++thread) threads.emplace_back(work, thread, &wrong);
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

// A client that takes whatever it is offered, so that its transfer never waits for it: sendfile(2)
// of one file moves its full count each time. Nothing moves before the gate is open.
class FastClient {
 public:
  explicit FastClient(int fd)
      : seam_([this, fd](int out_fd, int in_fd, off_t* offset, size_t count) {
          if (in_fd != fd) return kernel.sendfile(out_fd, in_fd, offset, count);
          gate.wait();
          const ssize_t sent = sendfile_whole(out_fd, in_fd, offset, count);
          moved += static_cast<uint64_t>(std::max<ssize_t>(0, sent));
          return sent;
        }) {}

  Gate gate;
  std::atomic<uint64_t> moved{0};

 private:
  Seam<&Calls::sendfile> seam_;
};

TEST_CASE("with one mover, a small transfer does not wait for a large one's end") {
  constexpr uint64_t kLarge = 64 * kMiB, kSmall = 32 * 1024 + 1;
  Engine& engine = started_engine(1);
  DescriptorGuard guard;
  AllResident resident;
  TestFile large_file(kLarge), small_file(kSmall);
  FastClient fast(large_file.fd());
  std::atomic<TransferId> small_id{0};
  std::atomic<uint64_t> moved_before{~uint64_t{0}};
  const auto recorder = std::make_shared<Recorder>([&](const Completion& completion) {
    if (completion.id == small_id) moved_before = fast.moved.load();
  });
  SocketPair large(Family::unix_stream), small(Family::unix_stream);
  EpollLog epoll;
  TransferId large_id = 0;
  const auto begin_large = [&] {
    large_id = submit(engine, large.sender(), gather(large_file.range(0, kLarge)), recorder);
    CHECK(fast.gate.reached_by(1));
  };
  const auto begin_small = [&] {
    small_id = submit(engine, small.sender(), gather(small_file.range(0, kSmall)), recorder);
  };
  SUBCASE("queued behind it") {
    begin_large();
    begin_small();
  }
  SUBCASE("waiting for its socket, which can take more now") {
    const size_t filled = small.fill();
    begin_small();
    CHECK(eventually([&] { return epoll.added() == 1; }));
    begin_large();
    CHECK(receive(small.receiver(), filled).size() == filled);
  }
  fast.gate.open();
  CHECK(receive_pattern(large.receiver(), 0, kLarge) == "");
  check_done(recorder->wait_for(large_id), kLarge, Backend::sendfile);
  check_done(recorder->wait_for(small_id), kSmall, Backend::sendfile);
  CHECK(receive_pattern(small.receiver(), 0, kSmall) == "");
  CHECK(moved_before <= kLarge / 4);  // a few steps, whatever their length
}

TEST_CASE("a mover that turns to a socket leaves to the other what is queued") {
  constexpr uint64_t kLarge = 3 * kStepBytes, kSmall = 32 * 1024 + 1;
  // A mover that has nothing to do comes too late for every event but its being woken.
  std::atomic<int> wake{-1};
  std::atomic<bool> over{false};
  Seam<&Calls::event_create> events([&] {
    wake = kernel.event_create();
    return wake.load();
  });
  Seam<&Calls::epoll_wait> waits([&](int epoll, epoll_event* events, int most, int timeout) {
    uint64_t wakings;
    const auto is_woken = [&] { return ::read(wake, &wakings, sizeof wakings) > 0; };
    if (timeout < 0) eventually([&] { return over || is_woken(); });
    return kernel.epoll_wait(epoll, events, most, 0);
  });
  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  AllResident resident;
  TestFile large_file(kLarge), small_file(kSmall);
  Gate large_gate, small_gate;
  std::atomic<bool> hold_small{false};
  Seam<&Calls::sendfile> sends([&](int out_fd, int in_fd, off_t* offset, size_t count) {
    if (in_fd == large_file.fd()) {
      large_gate.wait();
      return sendfile_whole(out_fd, in_fd, offset, count);
    }
    if (hold_small) small_gate.wait();
    return kernel.sendfile(out_fd, in_fd, offset, count);
  });
  EpollLog epoll;
  const auto recorder = new_recorder();
  SocketPair large(Family::unix_stream), small(Family::unix_stream);

  const size_t filled = small.fill();
  const TransferId small_id =
      submit(engine, small.sender(), gather(small_file.range(0, kSmall)), recorder);
  CHECK(eventually([&] { return epoll.added() == 1; }));
  hold_small = true;
  const TransferId large_id =
      submit(engine, large.sender(), gather(large_file.range(0, kLarge)), recorder);
  CHECK(large_gate.reached_by(1));
  CHECK(receive(small.receiver(), filled).size() == filled);

  // After a step of the large one its mover finds the small one's socket ready, and stays there.
  large_gate.open();
  CHECK(receive_pattern(large.receiver(), 0, kStepBytes) == "");
  CHECK(small_gate.reached_by(1));
  CHECK(receive_pattern(large.receiver(), kStepBytes, kLarge - kStepBytes) == "");
  check_done(recorder->wait_for(large_id), kLarge, Backend::sendfile);
  CHECK(recorder->count() == 1);
  small_gate.open();
  CHECK(receive_pattern(small.receiver(), 0, kSmall) == "");
  check_done(recorder->wait_for(small_id), kSmall, Backend::sendfile);
  over = true;
}

}  // namespace
}  // namespace zerocopy::test
