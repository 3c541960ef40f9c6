#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <set>
#include <thread>

#include "copy_transfer.h"
#include "engine.h"
#include "helpers.h"
#include "splice_transfer.h"

namespace zerocopy::test {
namespace {

using End = SpliceTransfer::End;

constexpr uint64_t kMiB = 1024 * 1024;
// A Unix socket takes 64 KiB at once of what is spliced to it, however small its buffer is; before
// Linux 6.5 as much as its pages' numbers allow.
constexpr uint64_t kBeyondOneSplice = 1'000'000;

constexpr const char* kMover = "zerocopy-mover";
constexpr const char* kWarmer = "zerocopy-warmer";

using Names = std::set<std::string>;

// The names of the threads that have come by.
class Visitors {
 public:
  void note() {
    char name[16];
    ::pthread_getname_np(::pthread_self(), name, sizeof name);
    std::lock_guard<std::mutex> lock(mutex_);
    names_.insert(name);
  }
  Names names() {
    std::lock_guard<std::mutex> lock(mutex_);
    return names_;
  }

 private:
  std::mutex mutex_;
  Names names_;
};

// Every call that a step makes of the kernel, and who makes it.
class WatchedCalls {
 public:
  Visitors threads;

 private:
  Seam<&Calls::splice> splices_{
      [this](int in, loff_t* from, int out, loff_t* to, size_t count, unsigned flags) {
        threads.note();
        return kernel.splice(in, from, out, to, count, flags);
      }};
  Seam<&Calls::copy_file_range> copies_{
      [this](int in, loff_t* from, int out, loff_t* to, size_t count) {
        threads.note();
        return kernel.copy_file_range(in, from, out, to, count);
      }};
  Seam<&Calls::sendfile> sendfiles_{[this](int out, int in, off_t* from, size_t count) {
    threads.note();
    return kernel.sendfile(out, in, from, count);
  }};
  Seam<&Calls::send> sends_{[this](int fd, const iovec* parts, size_t count, int flags) {
    threads.note();
    return kernel.send(fd, parts, count, flags);
  }};
  Seam<&Calls::write> writes_{[this](int fd, const iovec* parts, int count) {
    threads.note();
    return kernel.write(fd, parts, count);
  }};
  Seam<&Calls::write_at> writes_at_{[this](int fd, const void* data, size_t count, off_t to) {
    threads.note();
    return kernel.write_at(fd, data, count, to);
  }};
};

// epoll_ctl(2) of ends, by what they were armed for.
class EpollLog {
 public:
  // `refused`: what can't be registered, EPOLLIN or EPOLLOUT.
  explicit EpollLog(uint32_t refused = 0)
      : seam_([this, refused](int epoll, int operation, int fd, epoll_event* event) {
          if (operation == EPOLL_CTL_DEL) {
            ++deleted;
            if (::fcntl(fd, F_GETFD) < 0) ++unusual;
            return kernel.epoll_control(epoll, operation, fd, event);
          }
          if (event->events == (EPOLLIN | EPOLLONESHOT)) {
            ++(operation == EPOLL_CTL_ADD ? sources_added : sources_modified);
          } else if (event->events == (EPOLLOUT | EPOLLONESHOT)) {
            ++(operation == EPOLL_CTL_ADD ? sinks_added : sinks_modified);
          } else {
            ++unusual;
          }
          if (refused != 0 && (event->events & refused) != 0) return fail_with(ENOSPC);
          return kernel.epoll_control(epoll, operation, fd, event);
        }) {}

  int armed_for_source() const { return sources_added + sources_modified; }
  int armed_for_sink() const { return sinks_added + sinks_modified; }

  std::atomic<int> sources_added{0}, sources_modified{0}, sinks_added{0}, sinks_modified{0};
  std::atomic<int> deleted{0}, unusual{0};

 private:
  Seam<&Calls::epoll_control> seam_;
};

// copy_file_range(2) from one file waits at a gate, as on a disk that no longer answers.
class StuckDisk {
 public:
  explicit StuckDisk(int fd)
      : seam_([this, fd](int in, loff_t* from, int out, loff_t* to, size_t count) {
          if (in == fd) gate.wait();
          return kernel.copy_file_range(in, from, out, to, count);
        }) {}

  Gate gate;

 private:
  Seam<&Calls::copy_file_range> seam_;
};

// What all the epolls of this process watch, as the kernel has it.
int registrations() {
  DIR* directory = ::opendir("/proc/self/fdinfo");
  REQUIRE(directory != nullptr);
  int count = 0;
  while (const dirent* entry = ::readdir(directory)) count += registrations_of(entry->d_name);
  ::closedir(directory);
  return count;
}

std::shared_ptr<Recorder> new_recorder() {
  return std::make_shared<Recorder>();
}

bool is_readable(int fd) {
  pollfd ready{fd, POLLIN, 0};
  return ::poll(&ready, 1, 0) == 1;
}

End file_end(const TestFile& file, int64_t offset = 0) {
  return {file.fd(), Endpoint::file, offset, file.device()};
}

// Puts more than a channel holds, while somebody takes it.
std::thread put_slowly(const Channel& channel, Bytes bytes) {
  return std::thread([&channel, bytes = std::move(bytes)] {
    size_t gone = 0;
    CHECK(eventually([&] {
      gone += channel.put(bytes.data() + gone, bytes.size() - gone);
      return gone == bytes.size();
    }));
  });
}

TransferId submit_splice(Engine& engine, const End& source, const End& sink,
                         const std::shared_ptr<Client>& client, Bytes head = {},
                         uint64_t length = kToTheEnd) {
  return submit(engine, std::make_unique<SpliceTransfer>(source, sink, std::move(head), length),
                client);
}

TransferId submit_copy(Engine& engine, std::vector<Segment> segments, const TestFile& sink,
                       const std::shared_ptr<Client>& client) {
  const CopyTransfer::Sink to{sink.fd(), 0, sink.device()};
  return submit(engine, std::make_unique<CopyTransfer>(to, std::move(segments)), client);
}

void check_done(const Completion& completion, uint64_t transferred, Backend backend) {
  CHECK(completion.outcome == Outcome::done);
  CHECK(completion.transferred == transferred);
  CHECK(completion.backend == backend);
  CHECK(completion.call == Call::none);
  CHECK(completion.error == 0);
  CHECK_FALSE(completion.source_failed);
  CHECK(completion.residual.empty());
}

// All of pattern(0, total) is somewhere, once: accepted by the sink, left over, or in the source.
void check_conserved(const Completion& completion, const Bytes& accepted, const Bytes& in_source,
                     uint64_t total) {
  CHECK(accepted.size() == completion.transferred);
  CHECK(difference(concatenation({accepted, completion.residual, in_source}), pattern(0, total)) ==
        "");
}

TEST_CASE("what may block on a file never runs on a mover") {
  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  TestFile source(200'000), sink(0);
  const auto recorder = new_recorder();
  WatchedCalls calls;
  SUBCASE("a copy") {
    const Bytes header = pattern(1'000'000, 17);
    const TransferId id = submit_copy(
        engine, gather(memory(header), source.range(1, 131'088), memory(header)), sink, recorder);
    check_done(recorder->wait_for(id), 131'088 + 34, Backend::copy_file_range);
    CHECK(difference(content_of(sink.fd()), concatenation({header, pattern(1, 131'088), header})) ==
          "");
  }
  SUBCASE("a copy of many steps") {
    source.truncate(20 * kMiB + 3);
    const TransferId id =
        submit_copy(engine, gather(source.range(0, 20 * kMiB + 3)), sink, recorder);
    check_done(recorder->wait_for(id), 20 * kMiB + 3, Backend::copy_file_range);
    CHECK(difference(content_of(sink.fd()), content_of(source.fd())) == "");
  }
  SUBCASE("a stream into a file") {
    for (const Kind from : kKinds) {
      for (const int64_t offset : {-1, 0}) {
        CAPTURE(static_cast<int>(from));
        sink.truncate(0);
        REQUIRE(::lseek(sink.fd(), 0, SEEK_SET) == 0);
        Channel channel(from);
        Feeder feeder(channel, pattern(17, kMiB));
        const TransferId id = submit_splice(engine, channel.source(), file_end(sink, offset),
                                            recorder, pattern(0, 17));
        CHECK(eventually([&] {
          feeder.feed();
          return recorder->count(id) == 1;
        }));
        check_done(recorder->wait_for(id), kMiB + 17, Backend::splice);
        CHECK(difference(content_of(sink.fd()), pattern(0, kMiB + 17)) == "");
      }
    }
  }
  CHECK(calls.threads.names() == Names{kWarmer});
}

TEST_CASE("what can't block runs on movers") {
  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  AllResident resident;
  TestFile file(200'000);
  const auto recorder = new_recorder();
  WatchedCalls calls;
  for (const Kind from : kKinds) {
    for (const Kind to : kKinds) {
      Channel source(from), sink(to);
      Feeder feeder(source, pattern(17, 131'088));
      const TransferId id =
          submit_splice(engine, source.source(), sink.sink(), recorder, pattern(0, 17));
      sink.close_in();  // the transfer's own is the last
      std::thread feeding([&] { eventually([&] { return feeder.feed(), source.in() < 0; }); });
      CHECK(difference(receive_rest(sink.out()), pattern(0, 131'105)) == "");
      feeding.join();
      check_done(recorder->wait_for(id), 131'105, Backend::splice);
    }
  }
  Channel pipe(Kind::pipe);
  const TransferId id = submit(
      engine,
      std::make_unique<GatherTransfer>(pipe.in(), gather(file.range(0, 131'088)), Endpoint::pipe),
      recorder);
  CHECK(receive_pattern(pipe.out(), 0, 131'088) == "");
  check_done(recorder->wait_for(id), 131'088, Backend::splice);
  CHECK(calls.threads.names() == Names{kMover});
}

TEST_CASE("a source that has nothing is waited for in the epoll, and then a warmer goes on") {
  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  const int registered = registrations();
  for (const Kind from : kKinds) {
    CAPTURE(static_cast<int>(from));
    TestFile file(0);
    Channel source(from);
    const auto recorder = new_recorder();
    WatchedCalls calls;
    EpollLog epoll;
    const TransferId id = submit_splice(engine, source.source(), file_end(file), recorder);
    for (int i = 0; i < 20; ++i) {
      CHECK(eventually([&] { return epoll.armed_for_source() > i; }));
      source.put_all(pattern(static_cast<uint64_t>(i) * 1001, 1001));
      CHECK(eventually(
          [&] { return engine.transferred(id) == (static_cast<uint64_t>(i) + 1) * 1001; }));
    }
    CHECK(registrations() == registered + 1);
    CHECK(recorder->count() == 0);
    source.close_in();
    check_done(recorder->wait_for(id), 20'020, Backend::splice);
    CHECK(difference(content_of(file.fd()), pattern(0, 20'020)) == "");
    CHECK(calls.threads.names() == Names{kWarmer});
    CHECK(epoll.sources_added.load() == 1);
    CHECK(epoll.sources_modified.load() >= 19);
    CHECK(epoll.armed_for_sink() == 0);
    CHECK(epoll.deleted.load() == 1);
    CHECK(epoll.unusual.load() == 0);
    CHECK(registrations() == registered);
  }
}

TEST_CASE("source and sink are armed in turns, and both leave the epoll before they are closed") {
  constexpr uint64_t kRound = 1'000'000;
  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  const int registered = registrations();
  for (const Kind from : {Kind::unix_stream, Kind::tcp}) {
    CAPTURE(static_cast<int>(from));
    Channel source(from), sink(Kind::unix_stream, Buffers::small);
    std::vector<int> own;
    Seam<&Calls::duplicate> duplicates([&](int fd) {
      own.push_back(kernel.duplicate(fd));
      return own.back();
    });
    std::atomic<int> open_at_end{-1};
    const auto recorder = std::make_shared<Recorder>([&](const Completion&) {
      open_at_end = static_cast<int>(
          std::count_if(own.begin(), own.end(), [](int fd) { return ::fcntl(fd, F_GETFD) >= 0; }));
    });
    EpollLog epoll;
    const TransferId id = submit_splice(engine, source.source(), sink.sink(), recorder);
    REQUIRE(own.size() == 2);
    for (int round = 0; round < 4; ++round) {
      CHECK(eventually([&] { return epoll.armed_for_source() > 0; }));
      const int sink_before = epoll.armed_for_sink();
      const uint64_t begin = static_cast<uint64_t>(round) * kRound;
      std::thread feeding = put_slowly(source, pattern(begin, kRound));
      CHECK(eventually([&] { return epoll.armed_for_sink() > sink_before; }));
      const int source_before = epoll.armed_for_source();
      CHECK(receive_pattern(sink.out(), begin, kRound) == "");
      feeding.join();
      CHECK(eventually([&] { return epoll.armed_for_source() > source_before; }));
    }
    CHECK(registrations() == registered + 2);
    CHECK(recorder->count() == 0);
    source.close_in();
    check_done(recorder->wait_for(id), 4 * kRound, Backend::splice);
    CHECK(open_at_end.load() == 0);
    CHECK(epoll.sources_added.load() == 1);
    CHECK(epoll.sinks_added.load() == 1);
    CHECK(epoll.sources_modified.load() > 0);
    CHECK(epoll.sinks_modified.load() > 0);
    CHECK(epoll.deleted.load() == 2);
    CHECK(epoll.unusual.load() == 0);
    // Both sockets are open here still: what had been left there would be seen.
    CHECK(registrations() == registered);
  }
}

TEST_CASE("one socket as source and as sink is in the epoll twice, and leaves it twice") {
  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  const int registered = registrations();
  const auto recorder = new_recorder();
  SocketPair pair(Family::unix_stream, Buffers::small);
  EpollLog epoll;
  const End echo{pair.sender(), Endpoint::socket};
  const TransferId id = submit_splice(engine, echo, echo, recorder);
  CHECK(eventually([&] { return epoll.armed_for_source() == 1; }));
  const Bytes bytes = pattern(0, kBeyondOneSplice);
  std::thread feeding([&] {
    CHECK(::send(pair.receiver(), bytes.data(), bytes.size(), 0) ==
          static_cast<ssize_t>(kBeyondOneSplice));
  });
  CHECK(eventually([&] { return epoll.armed_for_sink() > 0; }));
  CHECK(registrations() == registered + 2);
  CHECK(receive_pattern(pair.receiver(), 0, kBeyondOneSplice) == "");
  feeding.join();
  REQUIRE(::shutdown(pair.receiver(), SHUT_WR) == 0);
  check_done(recorder->wait_for(id), kBeyondOneSplice, Backend::splice);
  CHECK(epoll.deleted.load() == 2);
  CHECK(registrations() == registered);
}

TEST_CASE("without a thread to be had, a mover runs what may block") {
  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  TestFile source(100'000), copied(0), streamed(0);
  Channel channel(Kind::tcp);
  const auto recorder = new_recorder();
  WatchedCalls calls;
  EpollLog epoll;
  Seam<&Calls::thread_create> no_threads([](void* (*)(void*), void*) { return EAGAIN; });
  const TransferId copy = submit_copy(engine, gather(source.range(0, 65'537)), copied, recorder);
  check_done(recorder->wait_for(copy), 65'537, Backend::copy_file_range);
  CHECK(difference(content_of(copied.fd()), pattern(0, 65'537)) == "");

  const TransferId stream = submit_splice(engine, channel.source(), file_end(streamed), recorder);
  CHECK(eventually([&] { return epoll.armed_for_source() == 1; }));
  channel.put_all(pattern(0, 4097));
  CHECK(eventually([&] { return engine.transferred(stream) == 4097; }));
  channel.close_in();
  check_done(recorder->wait_for(stream), 4097, Backend::splice);
  CHECK(difference(content_of(streamed.fd()), pattern(0, 4097)) == "");
  CHECK(calls.threads.names() == Names{kMover});
}

TEST_CASE("a disk that no longer answers holds neither others nor what is cancelled") {
  constexpr int kStuck = Warmers::kMaxWarmersPerDevice;
  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  AllResident resident;
  TestFile dead(200'000), alive(200'000), alive_sink(0);
  constexpr uint64_t kDevice = 4711;
  const auto recorder = new_recorder();
  StuckDisk disk(dead.fd());
  std::vector<std::unique_ptr<TestFile>> sinks;
  std::vector<TransferId> stuck;
  for (int i = 0; i < kStuck; ++i) {
    sinks.push_back(std::make_unique<TestFile>(0, kDevice));
    stuck.push_back(submit_copy(engine, gather(dead.range(0, 100'000)), *sinks.back(), recorder));
  }
  CHECK(disk.gate.reached_by(kStuck));

  // Those that come after wait for a warmer; a cancelled one lets go of everything at once.
  const size_t descriptors = count_descriptors();
  TestFile sink(0, kDevice);
  Channel source(Kind::tcp);
  source.put_all(pattern(100, 4097));
  const size_t with_ends = count_descriptors();
  const TransferId queued =
      submit_splice(engine, source.source(), file_end(sink), recorder, pattern(0, 100));
  const TransferId queued_copy = submit_copy(engine, gather(alive.range(0, 10)), sink, recorder);
  CHECK(count_descriptors() == with_ends + 3);
  engine.cancel(queued);
  engine.cancel(queued_copy);
  CHECK(recorder->count() == 2);
  CHECK(count_descriptors() == with_ends);
  CHECK(with_ends == descriptors + 3);
  const Completion completion = recorder->wait_for(queued);
  CHECK(completion.outcome == Outcome::cancelled);
  CHECK(recorder->wait_for(queued_copy).outcome == Outcome::cancelled);
  source.close_in();
  check_conserved(completion, content_of(sink.fd()), receive_rest(source.out()), 4197);
  CHECK(difference(completion.residual, pattern(0, 100)) == "");
  engine.cancel(queued);

  // Another device, and a socket.
  const TransferId copy = submit_copy(engine, gather(alive.range(0, 65'537)), alive_sink, recorder);
  check_done(recorder->wait_for(copy), 65'537, Backend::copy_file_range);
  SocketPair pair(Family::tcp);
  const TransferId sent = submit(engine, pair.sender(), gather(alive.range(0, 65'537)), recorder);
  CHECK(receive_pattern(pair.receiver(), 0, 65'537) == "");
  CHECK(recorder->wait_for(sent).outcome == Outcome::done);

  // A step that runs is waited for.
  engine.cancel(stuck[0]);
  CHECK(recorder->count(stuck[0]) == 0);
  disk.gate.open();
  for (size_t i = 0; i < stuck.size(); ++i) {
    check_done(recorder->wait_for(stuck[i]), 100'000, Backend::copy_file_range);
    CHECK(difference(content_of(sinks[i]->fd()), pattern(0, 100'000)) == "");
  }
  CHECK(recorder->count() == kStuck + 4);
}

TEST_CASE("what waits for a warmer is run when one is free") {
  constexpr int kMany = Warmers::kMaxWarmersPerDevice + 12;
  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  TestFile source(200'000);
  const auto recorder = new_recorder();
  StuckDisk disk(source.fd());
  std::vector<std::unique_ptr<TestFile>> sinks;
  std::vector<TransferId> ids;
  for (int i = 0; i < kMany; ++i) {
    sinks.push_back(std::make_unique<TestFile>(0, 4712));
    ids.push_back(submit_copy(engine, gather(source.range(0, 100'000)), *sinks.back(), recorder));
  }
  CHECK(disk.gate.reached_by(Warmers::kMaxWarmersPerDevice));
  CHECK(disk.gate.arrivals() == Warmers::kMaxWarmersPerDevice);
  disk.gate.open();
  for (const TransferId id : ids)
    check_done(recorder->wait_for(id), 100'000, Backend::copy_file_range);
  CHECK(recorder->count() == kMany);
}

TEST_CASE("cancelled while a warmer runs its step, a transfer ends after the call on its way") {
  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  TestFile source(100'000), sink(0);
  const auto recorder = new_recorder();
  SUBCASE("a copy that had more to do") {
    source.truncate(100 * kMiB);
    StuckDisk disk(source.fd());
    const TransferId id = submit_copy(engine, gather(source.range(0, 100 * kMiB)), sink, recorder);
    CHECK(disk.gate.reached_by(1));
    engine.cancel(id);
    engine.cancel(id);
    CHECK(recorder->count() == 0);
    disk.gate.open();
    const Completion completion = recorder->wait_for(id);
    CHECK(completion.outcome == Outcome::cancelled);
    CHECK(completion.transferred > 0);
    CHECK(completion.transferred <= kStepBytesAlone);
    CHECK(content_of(sink.fd()).size() == completion.transferred);
  }
  SUBCASE("a copy that fails") {
    Gate gate;
    Seam<&Calls::copy_file_range> seam([&](int, loff_t*, int, loff_t*, size_t) {
      gate.wait();
      return fail_with(ENOSPC);
    });
    const TransferId id = submit_copy(engine, gather(source.range(0, 100'000)), sink, recorder);
    CHECK(gate.reached_by(1));
    engine.cancel(id);
    gate.open();
    const Completion completion = recorder->wait_for(id);
    CHECK(completion.outcome == Outcome::failed);
    CHECK(completion.call == Call::copy_file_range);
    CHECK(completion.error == ENOSPC);
  }
  SUBCASE("a stream with bytes in its pipe that its sink has not taken") {
    Gate gate;
    std::atomic<int> calls{0};
    Seam<&Calls::splice> seam(
        [&](int in, loff_t* from, int out, loff_t* to, size_t count, unsigned flags) -> ssize_t {
          const int call = calls++;
          if (call == 1) gate.wait();
          return kernel.splice(in, from, out, to, std::min<size_t>(count, call == 1 ? 1000 : count),
                               flags);
        });
    Channel channel(Kind::tcp);
    channel.put_all(pattern(0, 10'000));
    pollfd ready{channel.out(), POLLIN, 0};
    CHECK(::poll(&ready, 1, 60'000) == 1);
    const TransferId id = submit_splice(engine, channel.source(), file_end(sink), recorder);
    CHECK(gate.reached_by(1));
    engine.cancel(id);
    gate.open();
    const Completion completion = recorder->wait_for(id);
    CHECK(completion.outcome == Outcome::cancelled);
    CHECK(calls == 2);
    CHECK(completion.transferred == 1000);
    CHECK_FALSE(completion.residual.empty());
    channel.close_in();
    check_conserved(completion, content_of(sink.fd()), receive_rest(channel.out()), 10'000);
  }
  CHECK(recorder->count() == 1);
}

TEST_CASE("a dead source keeps no warmer of the device that is copied to") {
  constexpr int kDead = 3 * Warmers::kMaxWarmersPerDevice;
  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  Seam<&Calls::copy_file_range> copies(
      [](int, loff_t*, int, loff_t*, size_t) -> ssize_t { return fail_with(EXDEV); });
  AllCold cold;
  TestFile source(100'000);
  Gate disk;
  Seam<&Calls::read> reads([&](int fd, void* buffer, size_t count, off_t offset) {
    if (fd == source.fd()) disk.wait();
    return kernel.read(fd, buffer, count, offset);
  });
  const uint64_t sinks = 4714;
  const auto recorder = new_recorder();
  std::vector<std::unique_ptr<TestFile>> files;
  std::vector<TransferId> ids;
  for (int i = 0; i < kDead; ++i) {
    files.push_back(std::make_unique<TestFile>(0, sinks));
    ids.push_back(submit_copy(engine, gather(source.range(0, 100'000)), *files.back(), recorder));
  }
  CHECK(disk.reached_by(Warmers::kMaxWarmersPerDevice));
  // Another writes to the same device.
  TestFile other(0, sinks);
  Channel channel(Kind::unix_stream);
  channel.put_all(pattern(0, 5000));
  channel.close_in();
  const TransferId id = submit_splice(engine, channel.source(), file_end(other), recorder);
  check_done(recorder->wait_for(id), 5000, Backend::splice);
  CHECK(disk.arrivals() == Warmers::kMaxWarmersPerDevice);
  // What waits for a disk, and writes nothing, ends at once.
  for (size_t i = 0; i < ids.size(); ++i) {
    if (i % 2 == 1) continue;
    CHECK(eventually([&] { return engine.cancel(ids[i]), recorder->count(ids[i]) == 1; }));
    CHECK(recorder->wait_for(ids[i]).outcome == Outcome::cancelled);
    CHECK(recorder->wait_for(ids[i]).transferred == 0);
  }
  disk.open();
  for (size_t i = 0; i < ids.size(); ++i) {
    if (i % 2 == 0) continue;
    check_done(recorder->wait_for(ids[i]), 100'000, Backend::read);
    CHECK(difference(content_of(files[i]->fd()), pattern(0, 100'000)) == "");
  }
}

TEST_CASE("abandoned while a disk doesn't answer, a transfer ends, and begins no other call") {
  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  const int registered = registrations();
  TestFile file(0), source(100'000);
  const auto recorder = new_recorder();
  Gate disk;
  std::atomic<int> calls{0};
  std::atomic<int> back{0};
  Seam<&Calls::splice> splices(
      [&](int in, loff_t* from, int out, loff_t* to, size_t count, unsigned flags) {
        if (!to) return kernel.splice(in, from, out, to, count, flags);
        ++calls;
        // The first time it answers.
        if (calls > 1) disk.wait();
        const ssize_t moved = kernel.splice(in, from, out, to, count, flags);
        ++back;
        return moved;
      });
  Seam<&Calls::copy_file_range> copies([&](int in, loff_t* from, int out, loff_t* to, size_t) {
    ++calls;
    if (calls > 1) disk.wait();
    const ssize_t copied = kernel.copy_file_range(in, from, out, to, 1000);
    ++back;
    return copied;
  });
  Channel channel(Kind::tcp);
  TransferId id;
  bool from_socket = false;
  SUBCASE("a stream into a file") {
    from_socket = true;
    id = submit_splice(engine, channel.source(), file_end(file), recorder);
    channel.put_all(pattern(0, 1000));
    CHECK(eventually([&] { return engine.transferred(id) == 1000; }));
    channel.put_all(pattern(1000, 1000));
  }
  SUBCASE("a copy") {
    id = submit_copy(engine, gather(source.range(0, 100'000)), file, recorder);
  }
  CHECK(disk.reached_by(1));
  CHECK(engine.transferred(id) == 1000);
  engine.abandon(id);  // not cancelled before
  CHECK(recorder->count() == 0);
  engine.cancel(id);
  CHECK(recorder->count() == 0);
  engine.abandon(id);
  CHECK(recorder->count(id) == 1);
  engine.abandon(id);
  engine.cancel(id);
  const Completion completion = recorder->wait_for(id);
  CHECK(completion.outcome == Outcome::cancelled);
  CHECK(completion.transferred == 1000);
  CHECK(completion.residual.empty());
  CHECK(engine.transferred(id) == 1000);
  CHECK(registrations() == registered);
  if (from_socket) {
    // The other end hears of it as soon as whoever owns the socket closes it.
    channel.close_out();
    pollfd gone{channel.in(), POLLIN, 0};
    CHECK(::poll(&gone, 1, 60'000) == 1);
  }
  disk.open();
  CHECK(eventually([&] { return back == 2; }));
  CHECK(difference(content_of(file.fd()), pattern(0, 2000)) == "");
  CHECK(calls == 2);
  CHECK(recorder->count() == 1);
}

TEST_CASE("cancelled while it waits for its source, a transfer ends at once and takes no more") {
  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  const int registered = registrations();
  for (const Kind from : kKinds) {
    for (const bool into_file : {true, false}) {
      CAPTURE(static_cast<int>(from));
      CAPTURE(into_file);
      TestFile file(0);
      Channel source(from), sink(Kind::unix_stream);
      const auto recorder = new_recorder();
      EpollLog epoll;
      const TransferId id =
          submit_splice(engine, source.source(), into_file ? file_end(file) : sink.sink(), recorder,
                        pattern(0, 3));
      CHECK(eventually([&] { return epoll.armed_for_source() == 1; }));
      source.put_all(pattern(3, 1000));
      CHECK(eventually([&] { return epoll.armed_for_source() >= 2; }));
      engine.cancel(id);
      CHECK(recorder->count(id) == 1);
      engine.cancel(id);
      CHECK(registrations() == registered);
      const Completion completion = recorder->wait_for(id);
      CHECK(completion.outcome == Outcome::cancelled);
      CHECK(completion.residual.empty());
      CHECK(epoll.deleted.load() == 1);
      CHECK(epoll.unusual.load() == 0);
      source.put_all(pattern(1003, 500));
      source.close_in();
      sink.close_in();
      const Bytes accepted = into_file ? content_of(file.fd()) : receive_rest(sink.out());
      check_conserved(completion, accepted, receive_rest(source.out()), 1503);
      CHECK(accepted.size() == 1003);
      CHECK(recorder->count() == 1);
    }
  }
}

TEST_CASE("cancelled while it waits for its sink, a transfer tells what it has taken") {
  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  const int registered = registrations();
  for (const Kind from : kKinds) {
    for (const Kind to : {Kind::unix_stream, Kind::pipe}) {
      CAPTURE(static_cast<int>(from));
      CAPTURE(static_cast<int>(to));
      Channel source(from), sink(to, Buffers::small);
      const auto recorder = new_recorder();
      EpollLog epoll;
      Feeder feeder(source, pattern(10, kBeyondOneSplice));
      const TransferId id =
          submit_splice(engine, source.source(), sink.sink(), recorder, pattern(0, 10));
      CHECK(eventually([&] {
        feeder.feed();
        return epoll.armed_for_sink() > 0;
      }));
      CHECK(eventually([&] {
        engine.cancel(id);
        return recorder->count(id) == 1;
      }));
      CHECK(registrations() == registered);
      const Completion completion = recorder->wait_for(id);
      CHECK(completion.outcome == Outcome::cancelled);
      CHECK(completion.transferred > 0);
      CHECK(completion.residual.empty() == (from == Kind::pipe || to == Kind::pipe));
      CHECK(epoll.unusual.load() == 0);
      sink.close_in();
      check_conserved(completion, receive_rest(sink.out()), feeder.read_rest(),
                      kBeyondOneSplice + 10);
      CHECK(recorder->count() == 1);
    }
  }
}

TEST_CASE("an event that comes after its transfer was cancelled takes nothing") {
  Gate gate;
  std::atomic<TransferId> watched{0};
  std::atomic<bool> passed{false};
  Seam<&Calls::epoll_wait> waits([&](int epoll, epoll_event* events, int most, int timeout) {
    // Not for ever: a mover must be able to leave this function at the test's end.
    const int count = kernel.epoll_wait(epoll, events, most, timeout < 0 ? 10 : timeout);
    if (count == 1 && watched != 0 && events[0].data.u64 == watched) {
      gate.wait();
      passed = true;
    }
    return count;
  });
  Engine& engine = started_engine(1);
  DescriptorGuard guard;
  TestFile file(0);
  Channel source(Kind::tcp);
  const auto recorder = new_recorder();
  EpollLog epoll;
  const TransferId id = submit_splice(engine, source.source(), file_end(file), recorder);
  CHECK(eventually([&] { return epoll.armed_for_source() == 1; }));
  watched = id;
  source.put_all(pattern(0, 100));
  CHECK(gate.reached_by(1));
  engine.cancel(id);
  CHECK(recorder->count(id) == 1);
  CHECK(recorder->wait_for(id).outcome == Outcome::cancelled);
  gate.open();
  CHECK(eventually([&] { return passed.load(); }));
  // The mover is back when it has run another one.
  SocketPair pair(Family::unix_stream);
  recorder->wait_for(submit(engine, pair.sender(), {}, recorder));
  CHECK(recorder->count() == 2);
  CHECK(difference(receive(source.out(), 100), pattern(0, 100)) == "");
  CHECK(content_of(file.fd()).empty());
}

TEST_CASE("what the epoll does not take fails its transfer, and leaves nothing there") {
  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  const int registered = registrations();
  const auto check_refused = [](const Completion& completion) {
    CHECK(completion.outcome == Outcome::failed);
    CHECK(completion.call == Call::epoll_ctl);
    CHECK(completion.error == ENOSPC);
  };
  const auto recorder = new_recorder();
  SUBCASE("a source of a file") {
    TestFile file(0);
    Channel source(Kind::tcp);
    EpollLog epoll(EPOLLIN);
    const TransferId id =
        submit_splice(engine, source.source(), file_end(file), recorder, pattern(0, 10));
    check_refused(recorder->wait_for(id));
    CHECK(recorder->wait_for(id).transferred == 10);
    CHECK(epoll.deleted.load() == 0);
  }
  SUBCASE("a sink, after the source") {
    Channel source(Kind::unix_stream), sink(Kind::unix_stream, Buffers::small);
    EpollLog epoll(EPOLLOUT);
    const TransferId id = submit_splice(engine, source.source(), sink.sink(), recorder);
    CHECK(eventually([&] { return epoll.armed_for_source() == 1; }));
    Feeder feeder(source, pattern(0, kBeyondOneSplice));
    CHECK(eventually([&] {
      feeder.feed();
      return recorder->count(id) == 1;
    }));
    const Completion completion = recorder->wait_for(id);
    check_refused(completion);
    CHECK_FALSE(completion.residual.empty());
    CHECK(epoll.deleted.load() == 1);
    sink.close_in();
    check_conserved(completion, receive_rest(sink.out()), feeder.read_rest(), kBeyondOneSplice);
  }
  CHECK(registrations() == registered);
  CHECK(recorder->count() == 1);
}

TEST_CASE("what a stream ends with is told as it was") {
  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  TestFile file(0);
  const auto recorder = new_recorder();
  Channel source(Kind::tcp);
  source.put_all(pattern(100, 5000));
  pollfd ready{source.out(), POLLIN, 0};
  CHECK(::poll(&ready, 1, 60'000) == 1);
  Completion expected{};
  int at = 0, error = 0;
  SUBCASE("its source failed") {
    error = ECONNRESET;
    expected = {0, Outcome::failed, 100, Backend::splice, Call::splice, error, true};
  }
  SUBCASE("its source is none for this") {
    error = EINVAL;
    expected = {0, Outcome::unsupported, 100, Backend::splice, Call::splice, error, true};
  }
  SUBCASE("its sink is full") {
    at = 1;
    error = ENOSPC;
    expected = {0, Outcome::failed, 100, Backend::splice, Call::splice, error, false};
    expected.residual = pattern(100, 5000);
  }
  SUBCASE("its sink is none for this") {
    at = 1;
    error = EINVAL;
    expected = {0, Outcome::unsupported, 100, Backend::splice, Call::splice, error, false};
    expected.residual = pattern(100, 5000);
  }
  std::atomic<int> calls{0};
  Seam<&Calls::splice> seam(
      [&](int in, loff_t* from, int out, loff_t* to, size_t count, unsigned flags) -> ssize_t {
        if (calls++ == at) return fail_with(error);
        return kernel.splice(in, from, out, to, count, flags);
      });
  const TransferId id =
      submit_splice(engine, source.source(), file_end(file), recorder, pattern(0, 100));
  const Completion completion = recorder->wait_for(id);
  CHECK(completion.outcome == expected.outcome);
  CHECK(completion.transferred == expected.transferred);
  CHECK(completion.backend == expected.backend);
  CHECK(completion.call == expected.call);
  CHECK(completion.error == expected.error);
  CHECK(completion.source_failed == expected.source_failed);
  CHECK(difference(completion.residual, expected.residual) == "");
  source.close_in();
  check_conserved(completion, content_of(file.fd()), receive_rest(source.out()), 5100);
}

TEST_CASE("urgent data with more behind it does not keep a thread busy") {
  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  TestFile file(0);
  Channel source(Kind::tcp);
  const auto recorder = new_recorder();
  std::atomic<int> calls{0};
  Seam<&Calls::splice> seam(
      [&](int in, loff_t* from, int out, loff_t* to, size_t count, unsigned flags) {
        ++calls;
        return kernel.splice(in, from, out, to, count, flags);
      });
  source.put_all(pattern(0, 100));
  REQUIRE(::send(source.in(), "!", 1, MSG_OOB) == 1);
  source.put_all(pattern(100, 50));
  const TransferId id = submit_splice(engine, source.source(), file_end(file), recorder);
  CHECK(eventually([&] { return recorder->count(id) == 1 || calls > 1000; }));
  CHECK(calls.load() <= 1000);
  engine.cancel(id);
  CHECK(recorder->wait_for(id).outcome == Outcome::unsupported);
  CHECK(recorder->wait_for(id).transferred == 100);
  CHECK(difference(receive(source.out(), 50), pattern(100, 50)) == "");
}

TEST_CASE("cancel_all ends what one client has begun, in whatever state") {
  constexpr size_t kEach = 10;
  Engine& engine = started_engine(2);
  DescriptorGuard guard;
  const int registered = registrations();
  const auto leaving = new_recorder(), staying = new_recorder();
  std::vector<std::unique_ptr<Channel>> sources;
  std::vector<std::unique_ptr<TestFile>> files;
  std::vector<TransferId> ids;
  for (size_t i = 0; i < 2 * kEach; ++i) {
    sources.push_back(std::make_unique<Channel>(Kind::unix_stream));
    files.push_back(std::make_unique<TestFile>(0, 4713));
    sources.back()->put_all(pattern(0, 1000));
    ids.push_back(submit_splice(engine, sources.back()->source(), file_end(*files.back()),
                                i % 2 == 0 ? leaving : staying));
  }
  engine.cancel_all(leaving.get());
  engine.cancel_all(leaving.get());
  CHECK(leaving->wait_until(kEach));
  for (size_t i = 0; i < 2 * kEach; ++i) {
    sources[i]->close_in();
    if (i % 2 == 0) {
      const Completion completion = leaving->wait_for(ids[i]);
      CHECK(completion.outcome == Outcome::cancelled);
      check_conserved(completion, content_of(files[i]->fd()), receive_rest(sources[i]->out()),
                      1000);
    } else {
      check_done(staying->wait_for(ids[i]), 1000, Backend::splice);
      CHECK(difference(content_of(files[i]->fd()), pattern(0, 1000)) == "");
    }
  }
  CHECK(leaving->count() == kEach);
  CHECK(staying->count() == kEach);
  CHECK(registrations() == registered);
}

TEST_CASE("streams and copies begun and cancelled from many threads end once each, whole") {
  constexpr size_t kThreads = 4, kTransfers = 40;
  constexpr uint64_t kSize = 50'000;
  Engine& engine = started_engine(3);
  DescriptorGuard guard;
  const int registered = registrations();
  TestFile source(200'000);
  std::atomic<int> wrong{0};
  struct Running {
    Channel in{Kind::unix_stream};
    Channel out{Kind::unix_stream, Buffers::small};
    std::unique_ptr<TestFile> file;
    std::unique_ptr<Feeder> feeder;
    TransferId id = 0;
    size_t kind = 0;  // of the transfer: into a file, into a socket, a copy
  };
  const auto work = [&](size_t thread) {
    const auto recorder = new_recorder();
    std::vector<std::unique_ptr<Running>> all;
    for (size_t i = 0; i < kTransfers; ++i) {
      all.push_back(std::make_unique<Running>());
      Running& one = *all.back();
      one.kind = (i + thread) % 3;
      one.file = std::make_unique<TestFile>(0, 5000 + i % 3);
      one.feeder = std::make_unique<Feeder>(one.in, pattern(0, kSize));
      if (i % 2 == 0) one.feeder->feed();
      one.id = one.kind == 2
                   ? submit_copy(engine, gather(source.range(0, kSize)), *one.file, recorder)
                   : submit_splice(engine, one.in.source(),
                                   one.kind == 0 ? file_end(*one.file) : one.out.sink(), recorder);
      if (i % 3 == 0) engine.cancel(all[i / 2]->id);
      if (i % 7 == thread) engine.cancel(one.id);
    }
    std::vector<Bytes> received(kTransfers);
    for (size_t i = 0; i < kTransfers; ++i) {
      all[i]->feeder->feed();
      if (all[i]->kind == 1 && is_readable(all[i]->out.out()))
        received[i] = receive_available(all[i]->out.out());
      if (i % 4 == 0) engine.cancel(all[kTransfers - 1 - i]->id);
      engine.transferred(all[i]->id);
    }
    engine.cancel_all(recorder.get());
    if (!recorder->wait_until(kTransfers)) ++wrong;
    for (size_t i = 0; i < kTransfers; ++i) {
      Running& one = *all[i];
      const Completion completion = recorder->wait_for(one.id);
      if (recorder->count(one.id) != 1) ++wrong;
      if (completion.outcome != Outcome::done && completion.outcome != Outcome::cancelled) ++wrong;
      one.out.close_in();
      const Bytes accepted = one.kind == 1
                                 ? concatenation({received[i], receive_rest(one.out.out())})
                                 : content_of(one.file->fd());
      const Bytes rest = one.kind == 2
                             ? pattern(completion.transferred, kSize - completion.transferred)
                             : one.feeder->read_rest();
      if (accepted.size() != completion.transferred) ++wrong;
      if (!difference(concatenation({accepted, completion.residual, rest}), pattern(0, kSize))
               .empty())
        ++wrong;
    }
    if (recorder->count() != kTransfers) ++wrong;
  };
  std::vector<std::thread> threads;
  for (size_t thread = 0; thread < kThreads; ++thread) threads.emplace_back(work, thread);
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
  CHECK(registrations() == registered);
}

}  // namespace
}  // namespace zerocopy::test
