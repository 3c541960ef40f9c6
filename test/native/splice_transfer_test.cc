#include "splice_transfer.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>

#include "helpers.h"

namespace zerocopy::test {
namespace {

using End = SpliceTransfer::End;

constexpr uint64_t kLarge = 16 * 1024 * 1024 + 3;
constexpr int kUnsupported[] = {ENOSYS, EPERM, EINVAL, EOPNOTSUPP, EXDEV, EIO};

bool means_unsupported(int error) {
  return std::count(std::begin(kUnsupported), std::end(kUnsupported), error) > 0;
}

// splice(2) with its calls written down. `limit` is the most that one call moves. At one call,
// counted from 0, it fails, or answers 0 where there is no error.
class SpliceLog {
 public:
  struct Called {
    int from;
    int to;
    uint64_t count;
    ssize_t moved;
  };

  explicit SpliceLog(size_t limit = ~size_t{0}, int at = -1, int error = 0)
      : seam_([this, limit, at, error](int from, loff_t* from_offset, int to, loff_t* to_offset,
                                       size_t count, unsigned flags) {
          CHECK((flags & SPLICE_F_NONBLOCK) != 0);
          const bool fails = static_cast<int>(calls.size()) == at;
          calls.push_back({from, to, count, 0});
          if (fails) return error == 0 ? 0 : calls.back().moved = fail_with(error);
          return calls.back().moved =
                     kernel.splice(from, from_offset, to, to_offset, std::min(count, limit), flags);
        }) {}

  bool has_come_to(int at) const { return static_cast<int>(calls.size()) > at; }
  // Whether a call before this one has moved anything from the same end.
  bool had_moved(int at) const {
    const int from = calls[static_cast<size_t>(at)].from;
    return std::any_of(calls.begin(), calls.begin() + at, [from](const Called& called) {
      return called.from == from && called.moved > 0;
    });
  }

  std::vector<Called> calls;

 private:
  Seam<&Calls::splice> seam_;
};

// Every pipe that is made has one slot, and stays like that.
class TinyPipes {
 public:
  int made = 0;

 private:
  Seam<&Calls::pipe> pipes_{[this](int fds[2]) {
    ++made;
    const int result = kernel.pipe(fds);
    CHECK(::fcntl(fds[1], F_SETPIPE_SZ, 4096) == 4096);
    return result;
  }};
  Seam<&Calls::set_pipe_size> sizes_{[](int, int) { return fail_with(EPERM); }};
};

bool is_ready(int fd, short events) {
  pollfd polled{fd, events, 0};
  return ::poll(&polled, 1, 0) == 1;
}

bool becomes_ready(int fd, short events) {
  pollfd polled{fd, events, 0};
  return ::poll(&polled, 1, 60'000) == 1;
}

void check_failure(const Transfer& transfer, Call call, int error) {
  CHECK(transfer.failed_call() == call);
  CHECK(transfer.error() == error);
}

// Closes a TCP connection so that its peer is told of a reset.
void reset(Channel& channel) {
  const linger at_once{1, 0};
  REQUIRE(::setsockopt(channel.in(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) == 0);
  channel.close_in();
}

void reset_out(Channel& channel) {
  const linger at_once{1, 0};
  REQUIRE(::setsockopt(channel.out(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) == 0);
  channel.close_out();
}

template <typename Test>
void for_each_pair(Test test) {
  for (const Kind from : kKinds) {
    for (const Kind to : kKinds) {
      CAPTURE(static_cast<int>(from));
      CAPTURE(static_cast<int>(to));
      test(from, to);
    }
  }
}

TEST_CASE("a stream of any size goes from any end to any other") {
  DescriptorGuard guard;
  const Bytes head = pattern(1'000'000, 17);
  for_each_pair([&](Kind from, Kind to) {
    for (const uint64_t size : kSizes) {
      for (const bool with_head : {false, true}) {
        CAPTURE(size);
        CAPTURE(with_head);
        Channel source(from), sink(to);
        Feeder feeder(source, pattern(5, size));
        const Bytes first = with_head ? head : Bytes{};
        SpliceTransfer transfer(source.source(), sink.sink(), first, kToTheEnd);
        const Driven driven = drive(transfer, feeder, &sink);
        CHECK(driven.outcome == Outcome::done);
        CHECK(difference(driven.received, concatenation({first, pattern(5, size)})) == "");
        CHECK(transfer.transferred() == first.size() + size);
        CHECK(transfer.backend() == Backend::splice);
        CHECK_FALSE(transfer.may_block());
        CHECK_FALSE(transfer.source_failed());
        CHECK(transfer.residual().empty());
        check_failure(transfer, Call::none, 0);
      }
    }
  });
}

TEST_CASE("a large stream goes from any end to any other") {
  DescriptorGuard guard;
  const Bytes bytes = pattern(0, kLarge);
  for_each_pair([&](Kind from, Kind to) {
    Channel source(from), sink(to);
    Feeder feeder(source, bytes);
    SpliceTransfer transfer(source.source(), sink.sink(), {}, kToTheEnd);
    const Driven driven = drive(transfer, feeder, &sink);
    CHECK(driven.outcome == Outcome::done);
    CHECK(difference(driven.received, bytes) == "");
    CHECK(transfer.transferred() == kLarge);
  });
}

TEST_CASE("a stream goes through ends with hardly any buffer") {
  DescriptorGuard guard;
  const Bytes bytes = pattern(3, 300'001);
  for_each_pair([&](Kind from, Kind to) {
    Channel source(from, Buffers::small), sink(to, Buffers::small);
    Feeder feeder(source, bytes);
    SpliceTransfer transfer(source.source(), sink.sink(), pattern(0, 3), kToTheEnd);
    const Driven driven = drive(transfer, feeder, &sink);
    CHECK(driven.outcome == Outcome::done);
    CHECK(difference(driven.received, pattern(0, 300'004)) == "");
    CHECK(transfer.transferred() == 300'004);
  });
}

TEST_CASE("a stream goes into a file, at an offset or at its position") {
  DescriptorGuard guard;
  for (const Kind from : kKinds) {
    for (const uint64_t size : kSizes) {
      for (const bool at_offset : {true, false}) {
        CAPTURE(static_cast<int>(from));
        CAPTURE(size);
        CAPTURE(at_offset);
        TestFile file(100);
        Channel source(from);
        Feeder feeder(source, pattern(2'000'017, size));
        REQUIRE(::lseek(file.fd(), 7, SEEK_SET) == 7);
        SpliceTransfer transfer(source.source(),
                                {file.fd(), Endpoint::file, at_offset ? 50 : -1, 4711},
                                pattern(2'000'000, 17), kToTheEnd);
        CHECK(transfer.may_block());
        CHECK(transfer.device() == 4711);
        const Driven driven = drive(transfer, feeder, nullptr);
        CHECK(driven.outcome == Outcome::done);
        CHECK(transfer.transferred() == 17 + size);
        CHECK(transfer.backend() == Backend::splice);
        const uint64_t begin = at_offset ? 50 : 7;
        Bytes expected = concatenation({pattern(0, begin), pattern(2'000'000, 17 + size)});
        if (expected.size() < 100) {
          const Bytes behind = pattern(expected.size(), 100 - expected.size());
          expected.insert(expected.end(), behind.begin(), behind.end());
        }
        CHECK(difference(content_of(file.fd()), expected) == "");
        const auto moved = static_cast<off_t>(17 + size);
        CHECK(::lseek(file.fd(), 0, SEEK_CUR) == (at_offset ? 7 : 7 + moved));
      }
    }
  }
}

TEST_CASE("a large stream goes into a file") {
  DescriptorGuard guard;
  const Bytes bytes = pattern(0, kLarge);
  for (const Kind from : kKinds) {
    CAPTURE(static_cast<int>(from));
    TestFile file(0);
    Channel source(from);
    Feeder feeder(source, bytes);
    SpliceTransfer transfer(source.source(), {file.fd(), Endpoint::file, 0}, {}, kToTheEnd);
    CHECK(drive(transfer, feeder, nullptr).outcome == Outcome::done);
    CHECK(difference(content_of(file.fd()), bytes) == "");
  }
}

TEST_CASE("a length leaves what follows it to the source's next reader") {
  DescriptorGuard guard;
  const Bytes head = pattern(0, 100);
  for_each_pair([&](Kind from, Kind to) {
    for (const uint64_t length : {0, 1, 4096, 4097, 65'537, 131'088}) {
      CAPTURE(length);
      Channel source(from), sink(to);
      Feeder feeder(source, pattern(100, 131'088));
      SpliceTransfer transfer(source.source(), sink.sink(), head, length);
      const Driven driven = drive(transfer, feeder, &sink);
      CHECK(driven.outcome == Outcome::done);
      CHECK(transfer.transferred() == 100 + length);
      CHECK(transfer.residual().empty());
      CHECK(difference(driven.received, pattern(0, 100 + length)) == "");
      CHECK(difference(feeder.read_rest(), pattern(100 + length, 131'088 - length)) == "");
    }
  });
}

TEST_CASE("a source that ends before its length does is done") {
  DescriptorGuard guard;
  for_each_pair([&](Kind from, Kind to) {
    for (const uint64_t size : {0, 4097}) {
      CAPTURE(size);
      Channel source(from), sink(to);
      Feeder feeder(source, pattern(0, size));
      SpliceTransfer transfer(source.source(), sink.sink(), {}, 1'000'000);
      const Driven driven = drive(transfer, feeder, &sink);
      CHECK(driven.outcome == Outcome::done);
      CHECK(transfer.transferred() == size);
      CHECK(difference(driven.received, pattern(0, size)) == "");
    }
  });
}

TEST_CASE("no byte at all needs neither a call nor a pipe") {
  DescriptorGuard guard;
  TinyPipes pipes;
  SpliceLog log;
  Channel source(Kind::tcp), sink(Kind::tcp);
  source.put_all(pattern(0, 10));
  SpliceTransfer transfer(source.source(), sink.sink(), {}, 0);
  CHECK(transfer.step() == Outcome::done);
  CHECK(transfer.step() == Outcome::done);
  CHECK(log.calls.empty());
  CHECK(pipes.made == 0);
}

TEST_CASE("head bytes go first, however few at once") {
  DescriptorGuard guard;
  const auto take_three = [](const iovec* parts) {
    return iovec{parts->iov_base, std::min<size_t>(parts->iov_len, 3)};
  };
  Seam<&Calls::send> sends([&](int fd, const iovec* parts, size_t part_count, int flags) {
    CHECK(part_count == 1);
    CHECK((flags & MSG_MORE) == 0);  // nobody knows when more will come
    const iovec part = take_three(parts);
    return kernel.send(fd, &part, 1, flags);
  });
  Seam<&Calls::write> writes([&](int fd, const iovec* parts, int) {
    const iovec part = take_three(parts);
    return kernel.write(fd, &part, 1);
  });
  Seam<&Calls::write_at> writes_at([](int fd, const void* data, size_t count, off_t offset) {
    return kernel.write_at(fd, data, std::min<size_t>(count, 3), offset);
  });
  for_each_pair([&](Kind from, Kind to) {
    Channel source(from), sink(to);
    Feeder feeder(source, pattern(100, 5000));
    SpliceTransfer transfer(source.source(), sink.sink(), pattern(0, 100), kToTheEnd);
    const Driven driven = drive(transfer, feeder, &sink);
    CHECK(driven.outcome == Outcome::done);
    CHECK(difference(driven.received, pattern(0, 5100)) == "");
  });
  for (const int64_t offset : {0, -1}) {
    TestFile file(0);
    Channel source(Kind::tcp);
    Feeder feeder(source, pattern(100, 5000));
    SpliceTransfer transfer(source.source(), {file.fd(), Endpoint::file, offset}, pattern(0, 100),
                            kToTheEnd);
    CHECK(drive(transfer, feeder, nullptr).outcome == Outcome::done);
    CHECK(difference(content_of(file.fd()), pattern(0, 5100)) == "");
  }
}

TEST_CASE(
    "head bytes that a sink does not take now wait, those that it never takes are left over") {
  DescriptorGuard guard;
  const Bytes head = pattern(0, 300'000);
  for (const Kind from : kKinds) {
    for (const Kind to : kKinds) {
      CAPTURE(static_cast<int>(from));
      CAPTURE(static_cast<int>(to));
      Channel source(from), sink(to, Buffers::small);
      source.put_all(pattern(300'000, 100));
      SpliceTransfer transfer(source.source(), sink.sink(), head, kToTheEnd);
      CHECK(transfer.step() == Outcome::wait_writable);
      CHECK(transfer.transferred() > 0);
      CHECK(transfer.transferred() < head.size());
      check_failure(transfer, Call::none, 0);
      sink.close_out();
      Outcome outcome = Outcome::wait_writable;
      CHECK(eventually([&] { return (outcome = transfer.step()) != Outcome::wait_writable; }));
      CHECK(outcome == Outcome::failed);
      CHECK(transfer.failed_call() == (to == Kind::pipe ? Call::write : Call::sendmsg));
      CHECK((transfer.error() == EPIPE || transfer.error() == ECONNRESET));
      CHECK_FALSE(transfer.source_failed());
      const uint64_t gone = transfer.transferred();
      CHECK(difference(transfer.residual(), pattern(gone, head.size() - gone)) == "");
      CHECK(difference(receive(source.out(), 100), pattern(300'000, 100)) == "");
    }
  }
}

TEST_CASE("an error of the head's call is never unsupported") {
  DescriptorGuard guard;
  const Bytes head = pattern(0, 100);
  TestFile file(0);
  // 0: a sink that takes none and says nothing.
  for (const int error : {EINVAL, ENOSPC, EIO, EPIPE, 0}) {
    CAPTURE(error);
    const auto answer = [error] { return error == 0 ? 0 : fail_with(error); };
    Seam<&Calls::send> sends([answer](int, const iovec*, size_t, int) { return answer(); });
    Seam<&Calls::write> writes([answer](int, const iovec*, int) { return answer(); });
    Seam<&Calls::write_at> writes_at(
        [answer](int, const void*, size_t, off_t) { return answer(); });
    Channel source(Kind::tcp), socket(Kind::tcp), pipe(Kind::pipe);
    const End sinks[] = {socket.sink(),
                         pipe.sink(),
                         {file.fd(), Endpoint::file, 0},
                         {file.fd(), Endpoint::file, -1}};
    for (const End& sink : sinks) {
      SpliceTransfer transfer(source.source(), sink, head, kToTheEnd);
      CHECK(transfer.step() == Outcome::failed);
      check_failure(transfer, sink.kind == Endpoint::socket ? Call::sendmsg : Call::write,
                    error == 0 ? EIO : error);
      CHECK(transfer.transferred() == 0);
      CHECK(difference(transfer.residual(), head) == "");
    }
  }
}

TEST_CASE("an empty source is waited for, without a pipe") {
  DescriptorGuard guard;
  for_each_pair([&](Kind from, Kind to) {
    Channel source(from), sink(to);
    SpliceTransfer transfer(source.source(), sink.sink(), pattern(0, 10), kToTheEnd);
    PipePool::User other;  // keeps the pool from being emptied meanwhile
    const size_t descriptors = count_descriptors();
    CHECK(transfer.step() == Outcome::wait_readable);
    CHECK(transfer.step() == Outcome::wait_readable);
    CHECK(transfer.transferred() == 10);
    check_failure(transfer, Call::none, 0);

    // The pool has it: whoever asks for a pipe now makes none.
    const bool direct = from == Kind::pipe || to == Kind::pipe;
    CHECK(count_descriptors() == descriptors + (direct ? 0 : 2));
    if (!direct) {
      SpliceLog log;
      Seam<&Calls::pipe> none([](int*) { return fail_with(EMFILE); });
      Pipe pipe;
      CHECK(PipePool::instance().take(&pipe) == 0);
      CHECK_FALSE(is_ready(pipe.read.get(), POLLIN));
      PipePool::instance().give_back(std::move(pipe));
    }
    source.put_all(pattern(10, 4097));
    CHECK(becomes_ready(source.out(), POLLIN));
    source.close_in();
    Feeder nothing(source, {});
    const Driven driven = drive(transfer, nothing, &sink);
    CHECK(driven.outcome == Outcome::done);
    CHECK(difference(driven.received, pattern(0, 4107)) == "");
  });
}

TEST_CASE("a full sink is waited for, with nothing lost and nothing sent twice") {
  DescriptorGuard guard;
  for (const Kind from : kKinds) {
    for (const Kind to : {Kind::unix_stream, Kind::pipe}) {
      CAPTURE(static_cast<int>(from));
      CAPTURE(static_cast<int>(to));
      Channel source(from), sink(to, Buffers::small);
      const size_t filled = sink.fill();
      source.put_all(pattern(0, 30'000));
      CHECK(becomes_ready(source.out(), POLLIN));
      SpliceTransfer transfer(source.source(), sink.sink(), {}, kToTheEnd);
      CHECK(transfer.step() == Outcome::wait_writable);
      CHECK(transfer.step() == Outcome::wait_writable);
      CHECK(transfer.transferred() == 0);
      check_failure(transfer, Call::none, 0);
      CHECK(receive(sink.out(), filled).size() == filled);
      source.close_in();
      Feeder nothing(source, {});
      const Driven driven = drive(transfer, nothing, &sink);
      CHECK(driven.outcome == Outcome::done);
      CHECK(difference(driven.received, pattern(0, 30'000)) == "");
    }
  }
}

TEST_CASE("where both ends would block, the source is waited for first") {
  DescriptorGuard guard;
  for (const Kind from : kKinds) {
    for (const Kind to : {Kind::unix_stream, Kind::pipe}) {
      CAPTURE(static_cast<int>(from));
      CAPTURE(static_cast<int>(to));
      Channel source(from), sink(to, Buffers::small);
      sink.fill();
      SpliceTransfer transfer(source.source(), sink.sink(), {}, kToTheEnd);
      CHECK(transfer.step() == Outcome::wait_readable);
      source.put_all(pattern(0, 100));
      CHECK(becomes_ready(source.out(), POLLIN));
      CHECK(transfer.step() == Outcome::wait_writable);
      CHECK(transfer.transferred() == 0);
    }
  }
}

TEST_CASE("a full sink that could not be asked after is not taken for one with room") {
  DescriptorGuard guard;
  Channel source(Kind::unix_stream), sink(Kind::pipe, Buffers::small);
  const size_t filled = sink.fill();
  source.put_all(pattern(0, 100));
  int looks = 0;
  Seam<&Calls::poll> polls([&](pollfd* fds, nfds_t count, int timeout) {
    if (fds->fd != sink.in()) return kernel.poll(fds, count, timeout);
    if (++looks == 1) return fail_with(ENOMEM);
    CHECK(receive(sink.out(), filled).size() == filled);
    return kernel.poll(fds, count, timeout);
  });
  SpliceTransfer transfer(source.source(), sink.sink(), {}, kToTheEnd);
  CHECK(transfer.step() == Outcome::wait_writable);
  CHECK(looks == 1);
}

TEST_CASE("a source that nobody can ask after is taken for empty") {
  DescriptorGuard guard;
  Channel source(Kind::tcp), sink(Kind::pipe);
  Seam<&Calls::poll> polls([](pollfd*, nfds_t, int) { return fail_with(ENOMEM); });
  SpliceTransfer transfer(source.source(), sink.sink(), {}, kToTheEnd);
  CHECK(transfer.step() == Outcome::wait_readable);
}

TEST_CASE("EAGAIN at any call of splice keeps every byte") {
  DescriptorGuard guard;
  const Bytes expected = pattern(0, 20'017);
  for_each_pair([&](Kind from, Kind to) {
    for (int at = 0;; ++at) {
      CAPTURE(at);
      Channel source(from), sink(to);
      Feeder feeder(source, pattern(17, 20'000));
      feeder.feed();
      SpliceLog log(5000, at, EAGAIN);
      SpliceTransfer transfer(source.source(), sink.sink(), pattern(0, 17), kToTheEnd);
      const Driven driven = drive(transfer, feeder, &sink);
      CHECK(driven.outcome == Outcome::done);
      CHECK(difference(driven.received, expected) == "");
      CHECK(transfer.transferred() == expected.size());
      check_failure(transfer, Call::none, 0);
      if (!log.has_come_to(at)) break;
    }
  });
}

TEST_CASE("on its way to a file only the source is ever waited for") {
  // Also where it says EAGAIN and has something a moment later.
  DescriptorGuard guard;
  for (const Kind from : kKinds) {
    for (int at = 0;; ++at) {
      CAPTURE(static_cast<int>(from));
      CAPTURE(at);
      TestFile file(0);
      Channel source(from);
      Feeder feeder(source, pattern(17, 20'000));
      feeder.feed();
      CHECK(becomes_ready(source.out(), POLLIN));
      int sources = 0;
      bool has_failed = false;
      Seam<&Calls::splice> seam([&](int in, loff_t* in_offset, int out, loff_t* out_offset,
                                    size_t count, unsigned flags) -> ssize_t {
        if (in == source.out() && sources++ == at) {
          has_failed = true;
          return fail_with(EAGAIN);
        }
        return kernel.splice(in, in_offset, out, out_offset, std::min<size_t>(count, 5000), flags);
      });
      SpliceTransfer transfer(source.source(), {file.fd(), Endpoint::file, 0}, pattern(0, 17),
                              kToTheEnd);
      Outcome outcome;
      while ((outcome = transfer.step()) == Outcome::wait_readable) {
      }
      CHECK(outcome == Outcome::done);
      CHECK(difference(content_of(file.fd()), pattern(0, 20'017)) == "");
      if (!has_failed) break;
    }
  }
}

TEST_CASE("short counts of splice lose nothing") {
  DescriptorGuard guard;
  for_each_pair([&](Kind from, Kind to) {
    for (const size_t limit : {size_t{1}, size_t{999}}) {
      CAPTURE(limit);
      const uint64_t size = limit * 70 + 3;
      Channel source(from), sink(to);
      Feeder feeder(source, pattern(0, size));
      SpliceLog log(limit);
      SpliceTransfer transfer(source.source(), sink.sink(), {}, kToTheEnd);
      const Driven driven = drive(transfer, feeder, &sink);
      CHECK(driven.outcome == Outcome::done);
      CHECK(difference(driven.received, pattern(0, size)) == "");
      CHECK(log.calls.size() >= 70);
    }
  });
  SUBCASE("of the way out alone") {
    Channel source(Kind::tcp), sink(Kind::tcp);
    Feeder feeder(source, pattern(0, 65'537));
    std::vector<size_t> asked;
    Seam<&Calls::splice> seam(
        [&](int in, loff_t* in_offset, int out, loff_t* out_offset, size_t count, unsigned flags) {
          if (out == sink.in()) asked.push_back(count);
          const size_t most = out == sink.in() ? std::min<size_t>(count, 7001) : count;
          return kernel.splice(in, in_offset, out, out_offset, most, flags);
        });
    SpliceTransfer transfer(source.source(), sink.sink(), {}, kToTheEnd);
    const Driven driven = drive(transfer, feeder, &sink);
    CHECK(driven.outcome == Outcome::done);
    CHECK(difference(driven.received, pattern(0, 65'537)) == "");
    CHECK(asked.size() >= 10);
  }
}

// One run in which one call of splice fails: every byte is somewhere.
struct Failing {
  int at;
  int error;
};

bool check_failing(Kind from, Channel* sink, TestFile* file, Failing failing) {
  constexpr uint64_t kHead = 17, kSize = 20'000;
  Channel source(from);
  Feeder feeder(source, pattern(kHead, kSize));
  feeder.feed();
  SpliceLog log(5000, failing.at, failing.error);
  SpliceTransfer transfer(source.source(), file ? End{file->fd(), Endpoint::file, 0} : sink->sink(),
                          pattern(0, kHead), kToTheEnd);
  const Driven driven = drive(transfer, feeder, sink);
  const bool has_failed = log.has_come_to(failing.at);
  const Bytes residual = transfer.residual();
  const uint64_t gone = transfer.transferred(), taken = gone + residual.size();
  CHECK(difference(file ? content_of(file->fd()) : driven.received, pattern(0, gone)) == "");
  CHECK(difference(residual, pattern(gone, residual.size())) == "");
  CHECK(difference(feeder.read_rest(), pattern(taken, kHead + kSize - taken)) == "");
  if (!has_failed) {
    CHECK(driven.outcome == Outcome::done);
    CHECK(taken == kHead + kSize);
    return false;
  }
  const bool direct = from == Kind::pipe || (sink && sink->kind() == Kind::pipe);
  const bool from_source = log.calls[static_cast<size_t>(failing.at)].from == source.out();
  const bool is_first = !log.had_moved(failing.at);
  CHECK(driven.outcome ==
        (is_first && means_unsupported(failing.error) ? Outcome::unsupported : Outcome::failed));
  check_failure(transfer, Call::splice, failing.error);
  CHECK(transfer.source_failed() ==
        (direct ? from != Kind::pipe && failing.error != EPIPE : from_source));
  CHECK(log.calls.size() == static_cast<size_t>(failing.at) + 1);
  // Only what had been taken into a pipe of the transfer's own is left over.
  CHECK(residual.empty() == (direct || from_source));
  return true;
}

TEST_CASE("an error at any call leaves every byte where it can be told") {
  DescriptorGuard guard;
  for (const int error : {ECONNRESET, EPIPE, ENOMEM, EINVAL, EIO}) {
    CAPTURE(error);
    for_each_pair([&](Kind from, Kind to) {
      for (int at = 0;; ++at) {
        CAPTURE(at);
        Channel sink(to);
        if (!check_failing(from, &sink, nullptr, {at, error})) break;
      }
    });
    for (const Kind from : kKinds) {
      CAPTURE(static_cast<int>(from));
      for (int at = 0;; ++at) {
        CAPTURE(at);
        TestFile file(0);
        if (!check_failing(from, nullptr, &file, {at, error})) break;
      }
    }
  }
}

TEST_CASE("what can't be done is unsupported only while nothing has moved that way") {
  DescriptorGuard guard;
  for (const int error : kUnsupported) {
    CAPTURE(error);
    const auto outcome_at = [error](int at) {
      Channel source(Kind::tcp), sink(Kind::tcp);
      Feeder feeder(source, pattern(0, 20'000));
      feeder.feed();
      CHECK(becomes_ready(source.out(), POLLIN));
      SpliceLog log(5000, at, error);
      SpliceTransfer transfer(source.source(), sink.sink(), {}, kToTheEnd);
      const Driven driven = drive(transfer, feeder, &sink);
      REQUIRE(log.has_come_to(at));
      CHECK(difference(concatenation({driven.received, transfer.residual(), feeder.read_rest()}),
                       pattern(0, 20'000)) == "");
      return driven.outcome;
    };
    CHECK(outcome_at(0) == Outcome::unsupported);  // nothing taken
    CHECK(outcome_at(1) == Outcome::unsupported);  // taken, and none of it sent
    CHECK(outcome_at(2) == Outcome::failed);
    CHECK(outcome_at(3) == Outcome::failed);
  }
}

TEST_CASE("a file opened for appending is unsupported, with what was taken left over") {
  DescriptorGuard guard;
  TestFile file(100);
  const UniqueFd appending(::open(file.path().c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
  REQUIRE(appending);
  for (const Kind from : kKinds) {
    CAPTURE(static_cast<int>(from));
    Channel source(from);
    source.put_all(pattern(0, 4097));
    CHECK(becomes_ready(source.out(), POLLIN));
    SpliceTransfer transfer(source.source(), {appending.get(), Endpoint::file}, {}, kToTheEnd);
    CHECK(transfer.step() == Outcome::unsupported);
    check_failure(transfer, Call::splice, EINVAL);
    const Bytes residual = transfer.residual();
    CHECK(residual.empty() == (from == Kind::pipe));
    source.close_in();
    CHECK(difference(concatenation({residual, receive_rest(source.out())}), pattern(0, 4097)) ==
          "");
    CHECK(difference(content_of(file.fd()), pattern(0, 100)) == "");
  }
}

TEST_CASE("a sink whose reader goes is EPIPE or ECONNRESET, and the rest is left over") {
  constexpr uint64_t kSize = 1'000'000;
  DescriptorGuard guard;
  for_each_pair([&](Kind from, Kind to) {
    Channel source(from), sink(to, Buffers::small);
    Feeder feeder(source, pattern(0, kSize));
    feeder.feed();
    SpliceTransfer transfer(source.source(), sink.sink(), {}, kToTheEnd);
    Outcome outcome = Outcome::again;
    while (outcome != Outcome::wait_writable) {
      REQUIRE((outcome == Outcome::again || outcome == Outcome::wait_readable));
      feeder.feed();
      CHECK(becomes_ready(source.out(), POLLIN));
      outcome = transfer.step();
    }
    Bytes received = receive_available(sink.out());
    CHECK(transfer.transferred() > 0);
    if (to == Kind::tcp) {
      reset_out(sink);
    } else {
      sink.close_out();
    }
    CHECK(eventually([&] {
      outcome = transfer.step();
      return outcome == Outcome::failed;
    }));
    CHECK((transfer.error() == EPIPE || transfer.error() == ECONNRESET));
    CHECK(transfer.failed_call() == Call::splice);
    CHECK_FALSE(transfer.source_failed());
    CHECK(difference(received, pattern(0, received.size())) == "");
    const uint64_t gone = transfer.transferred();
    const Bytes residual = transfer.residual();
    CHECK(difference(concatenation({residual, feeder.read_rest()}), pattern(gone, kSize - gone)) ==
          "");
  });
}

TEST_CASE("a reset is hidden once another call has been told of it") {
  DescriptorGuard guard;
  Channel source(Kind::tcp);
  CHECK_FALSE(hides_reset(source.out()));
  int error = 0;
  socklen_t length = sizeof error;
  SUBCASE("a reset") {
    reset(source);
    CHECK(becomes_ready(source.out(), POLLERR));
    CHECK_FALSE(hides_reset(source.out()));
    REQUIRE(::getsockopt(source.out(), SOL_SOCKET, SO_ERROR, &error, &length) == 0);
    CHECK(error == ECONNRESET);
    CHECK(hides_reset(source.out()));
    Seam<&Calls::poll> polls([](pollfd*, nfds_t, int) { return fail_with(ENOMEM); });
    CHECK_FALSE(hides_reset(source.out()));
  }
  SUBCASE("an end, and a reset behind it") {
    source.close_in();
    CHECK(becomes_ready(source.out(), POLLRDHUP));
    CHECK_FALSE(hides_reset(source.out()));
    const auto be_reset = [&] {
      REQUIRE(::send(source.out(), "!", 1, MSG_NOSIGNAL) == 1);
      CHECK(becomes_ready(source.out(), POLLERR));
    };
    SUBCASE("before it is asked") {
      be_reset();
      CHECK_FALSE(hides_reset(source.out()));
    }
    SUBCASE("while it is asked, after the first of two calls") {
      int calls = 0;
      const auto counted = [&](auto result) {
        if (++calls == 1) be_reset();
        return result;
      };
      Seam<&Calls::tcp_state> states([&](int fd) { return counted(kernel.tcp_state(fd)); });
      Seam<&Calls::poll> polls([&](pollfd* fds, nfds_t count, int timeout) {
        return counted(kernel.poll(fds, count, timeout));
      });
      CHECK_FALSE(hides_reset(source.out()));
      CHECK(calls >= 1);
    }
  }
  SUBCASE("what is not TCP") {
    for (const Kind kind : {Kind::unix_stream, Kind::pipe}) {
      Channel other(kind);
      other.close_in();
      CHECK_FALSE(hides_reset(other.out()));
    }
  }
}

TEST_CASE("a source that is reset has failed, not the sink") {
  DescriptorGuard guard;
  for (const Kind to : kKinds) {
    CAPTURE(static_cast<int>(to));
    Channel source(Kind::tcp), sink(to);
    SpliceTransfer transfer(source.source(), sink.sink(), {}, kToTheEnd);
    source.put_all(pattern(0, 4097));
    CHECK(becomes_ready(source.out(), POLLIN));
    CHECK(transfer.step() == Outcome::wait_readable);
    CHECK(transfer.transferred() == 4097);
    reset(source);
    CHECK(becomes_ready(source.out(), POLLIN));
    CHECK(transfer.step() == Outcome::failed);
    check_failure(transfer, Call::splice, ECONNRESET);
    CHECK(transfer.source_failed());
    CHECK(transfer.residual().empty());
    CHECK(difference(receive(sink.out(), 4097), pattern(0, 4097)) == "");
  }
  SUBCASE("into a file") {
    TestFile file(0);
    Channel source(Kind::tcp);
    source.put_all(pattern(0, 4097));
    CHECK(becomes_ready(source.out(), POLLIN));
    SpliceTransfer transfer(source.source(), {file.fd(), Endpoint::file, 0}, {}, kToTheEnd);
    CHECK(transfer.step() == Outcome::wait_readable);
    reset(source);
    CHECK(becomes_ready(source.out(), POLLIN));
    CHECK(transfer.step() == Outcome::failed);
    CHECK(transfer.source_failed());
    CHECK(difference(content_of(file.fd()), pattern(0, 4097)) == "");
  }
}

TEST_CASE("a splice of nothing is the end only where a socket has nothing to read") {
  DescriptorGuard guard;
  int answer = 0;
  Outcome expected = Outcome::done;
  Call call = Call::none;
  int error = 0;
  bool source_failed = false;
  SUBCASE("the end") {}
  SUBCASE("more to read, which is urgent") {
    answer = 1;
    expected = Outcome::unsupported;
    call = Call::splice;
    error = EINVAL;
  }
  SUBCASE("nothing to read but no end") {
    answer = -EAGAIN;
    expected = Outcome::unsupported;
    call = Call::splice;
    error = EINVAL;
  }
  SUBCASE("a connection that is gone") {
    answer = -ECONNRESET;
    expected = Outcome::failed;
    call = Call::splice;
    error = ECONNRESET;
    source_failed = true;
  }
  Seam<&Calls::peek> peeks([answer](int, void*, size_t count, int flags) -> ssize_t {
    CHECK(count == 1);
    CHECK(flags == (MSG_PEEK | MSG_DONTWAIT));
    return answer < 0 ? fail_with(-answer) : answer;
  });
  for (const Kind to : kKinds) {
    for (const int at : {0, 2}) {
      CAPTURE(static_cast<int>(to));
      CAPTURE(at);
      Channel source(Kind::tcp), sink(to);
      source.put_all(pattern(0, 10'000));
      CHECK(becomes_ready(source.out(), POLLIN));
      // Every second call, to a pipe every one, is about the source.
      SpliceLog log(5000, at, 0);
      SpliceTransfer transfer(source.source(), sink.sink(), {}, 20'000);
      CHECK(transfer.step() == expected);
      REQUIRE(log.has_come_to(at));
      check_failure(transfer, call, error);
      CHECK(transfer.source_failed() == source_failed);
      CHECK(transfer.residual().empty());
      const uint64_t gone = transfer.transferred();
      CHECK(gone <= 10'000);
      CHECK((gone == 0) == (at == 0));
      CHECK(difference(receive(source.out(), 10'000 - gone), pattern(gone, 10'000 - gone)) == "");
    }
  }
}

TEST_CASE("a pipe that gives nothing is at its end, whatever a look would say") {
  DescriptorGuard guard;
  Seam<&Calls::peek> peeks([](int, void*, size_t, int) { return fail_with(ENOTSOCK); });
  Channel source(Kind::pipe), sink(Kind::tcp);
  Feeder feeder(source, pattern(0, 10));
  SpliceTransfer transfer(source.source(), sink.sink(), {}, kToTheEnd);
  CHECK(drive(transfer, feeder, &sink).outcome == Outcome::done);
}

TEST_CASE("a sink that takes nothing and says nothing has failed") {
  DescriptorGuard guard;
  Channel source(Kind::tcp), sink(Kind::tcp);
  source.put_all(pattern(0, 100));
  CHECK(becomes_ready(source.out(), POLLIN));
  SpliceLog log(~size_t{0}, 1, 0);
  SpliceTransfer transfer(source.source(), sink.sink(), {}, kToTheEnd);
  CHECK(transfer.step() == Outcome::failed);
  check_failure(transfer, Call::splice, EIO);
  CHECK_FALSE(transfer.source_failed());
  CHECK(difference(transfer.residual(), pattern(0, 100)) == "");
}

TEST_CASE("a file that takes none of a pipe's bytes and says nothing is not the pipe's end") {
  DescriptorGuard guard;
  for (const int good : {0, 2}) {
    CAPTURE(good);
    TestFile file(0);
    Channel source(Kind::pipe);
    source.put_all(pattern(0, 20'000));
    int calls = 0;
    Seam<&Calls::splice> seam([&](int in, loff_t* in_offset, int out, loff_t* out_offset,
                                  size_t count, unsigned flags) -> ssize_t {
      if (calls++ >= good) return 0;
      return kernel.splice(in, in_offset, out, out_offset, std::min<size_t>(count, 5000), flags);
    });
    SpliceTransfer transfer(source.source(), {file.fd(), Endpoint::file, 0}, {}, kToTheEnd);
    CHECK(transfer.step() == (good == 0 ? Outcome::unsupported : Outcome::failed));
    check_failure(transfer, Call::splice, EIO);
    const auto gone = static_cast<uint64_t>(good) * 5000;
    CHECK(transfer.transferred() == gone);
    CHECK(difference(content_of(file.fd()), pattern(0, gone)) == "");
    CHECK(difference(receive(source.out(), 20'000 - gone), pattern(gone, 20'000 - gone)) == "");
  }
}

TEST_CASE("a file that says EAGAIN is not waited for") {
  DescriptorGuard guard;
  TestFile file(0);
  for (const Kind from : {Kind::tcp, Kind::pipe}) {
    for (const uint64_t head : {0, 17}) {
      CAPTURE(static_cast<int>(from));
      CAPTURE(head);
      Channel source(from);
      source.put_all(pattern(head, 1000));
      CHECK(becomes_ready(source.out(), POLLIN));
      Seam<&Calls::write_at> writes(
          [](int, const void*, size_t, off_t) { return fail_with(EAGAIN); });
      Seam<&Calls::splice> splices([&](int in, loff_t* in_offset, int out, loff_t* out_offset,
                                       size_t count, unsigned flags) -> ssize_t {
        if (out == file.fd()) return fail_with(EAGAIN);
        return kernel.splice(in, in_offset, out, out_offset, count, flags);
      });
      SpliceTransfer transfer(source.source(), {file.fd(), Endpoint::file, 0}, pattern(0, head),
                              kToTheEnd);
      CHECK(transfer.step() == Outcome::failed);
      check_failure(transfer, head > 0 ? Call::write : Call::splice, EAGAIN);
      const Bytes residual = transfer.residual();
      const uint64_t left = head + 1000 - residual.size();
      CHECK(difference(concatenation({residual, receive(source.out(), left)}),
                       pattern(0, head + 1000)) == "");
    }
  }
}

TEST_CASE("what a file system tells when the sink is closed is the transfer's failure") {
  DescriptorGuard guard;
  TestFile file(0);
  for (const Kind from : kKinds) {
    for (const uint64_t length : {uint64_t{1000}, kToTheEnd}) {
      CAPTURE(static_cast<int>(from));
      CAPTURE(length);
      Channel source(from);
      source.put_all(pattern(0, 1000));
      source.close_in();
      CHECK(becomes_ready(source.out(), POLLIN));
      FailingClose closes(EDQUOT);
      SpliceTransfer transfer(source.source(), {file.fd(), Endpoint::file, 0}, {}, length);
      REQUIRE(transfer.own() == 0);
      CHECK(transfer.step() == Outcome::failed);
      check_failure(transfer, Call::close, EDQUOT);
      CHECK_FALSE(transfer.source_failed());
      CHECK(transfer.transferred() == 1000);
    }
  }
}

TEST_CASE("a FIFO whose next writer comes at the end of the one before has not ended") {
  DescriptorGuard guard;
  TestFile file(0);
  Channel source(Kind::pipe);
  source.put_all(pattern(0, 5000));
  int calls = 0;
  Seam<&Calls::splice> seam([&](int in, loff_t* in_offset, int out, loff_t* out_offset,
                                size_t count, unsigned flags) -> ssize_t {
    if (++calls == 2) {  // after that end, and before anybody asks again
      source.put_all(pattern(5000, 700));
      source.close_in();
      return 0;
    }
    return kernel.splice(in, in_offset, out, out_offset, count, flags);
  });
  SpliceTransfer transfer(source.source(), {file.fd(), Endpoint::file, 0}, {}, kToTheEnd);
  CHECK(transfer.step() == Outcome::done);
  CHECK(difference(content_of(file.fd()), pattern(0, 5700)) == "");
}

TEST_CASE("urgent data is not passed over") {
  DescriptorGuard guard;
  for (const Kind to : kKinds) {
    for (const bool ended : {true, false}) {
      CAPTURE(static_cast<int>(to));
      CAPTURE(ended);
      Channel source(Kind::tcp), sink(to);
      SpliceTransfer transfer(source.source(), sink.sink(), {}, kToTheEnd);
      source.put_all(pattern(0, 100));
      CHECK(becomes_ready(source.out(), POLLIN));
      CHECK(transfer.step() == Outcome::wait_readable);
      REQUIRE(::send(source.in(), "!", 1, MSG_OOB) == 1);
      source.put_all(pattern(100, 50));
      if (ended) source.close_in();
      // A socket that is readable must not be waited for: it would be found readable for ever.
      CHECK(becomes_ready(source.out(), POLLIN));
      if (ended) CHECK(becomes_ready(source.out(), POLLRDHUP));
      CHECK(transfer.step() == Outcome::unsupported);
      CHECK(transfer.transferred() == 100);
      CHECK(transfer.residual().empty());
      CHECK(difference(receive(source.out(), 50), pattern(100, 50)) == "");
    }
  }
}

TEST_CASE("no pipe to be had is a failure before anything is taken") {
  DescriptorGuard guard;
  // Or, where pipes are forbidden, a reason to go another way.
  for (const int error : {EMFILE, ENFILE, EPERM, ENOSYS}) {
    CAPTURE(error);
    Seam<&Calls::pipe> pipes([error](int*) { return fail_with(error); });
    Channel source(Kind::tcp), sink(Kind::unix_stream);
    source.put_all(pattern(0, 100));
    SpliceTransfer transfer(source.source(), sink.sink(), {}, kToTheEnd);
    const bool is_forbidden = error == EPERM || error == ENOSYS;
    CHECK(transfer.step() == (is_forbidden ? Outcome::unsupported : Outcome::failed));
    check_failure(transfer, Call::pipe, error);
    CHECK_FALSE(transfer.source_failed());
    CHECK(transfer.residual().empty());
    CHECK(difference(receive(source.out(), 100), pattern(0, 100)) == "");
  }
  SUBCASE("but where an end is a pipe, none is needed") {
    Seam<&Calls::pipe> pipes([](int*) { return fail_with(EMFILE); });
    for (const bool is_source : {true, false}) {
      Channel source(is_source ? Kind::pipe : Kind::tcp), sink(is_source ? Kind::tcp : Kind::pipe);
      Feeder feeder(source, pattern(0, 65'537));
      SpliceTransfer transfer(source.source(), sink.sink(), {}, kToTheEnd);
      const Driven driven = drive(transfer, feeder, &sink);
      CHECK(driven.outcome == Outcome::done);
      CHECK(difference(driven.received, pattern(0, 65'537)) == "");
    }
  }
}

TEST_CASE("a pipe of one slot is enough") {
  DescriptorGuard guard;
  TinyPipes pipes;
  const Bytes bytes = pattern(0, 300'003);
  for (const Kind from : {Kind::unix_stream, Kind::tcp}) {
    for (const Kind to : {Kind::unix_stream, Kind::tcp}) {
      CAPTURE(static_cast<int>(from));
      CAPTURE(static_cast<int>(to));
      Channel source(from), sink(to, Buffers::small);
      Feeder feeder(source, bytes);
      SpliceTransfer transfer(source.source(), sink.sink(), {}, kToTheEnd);
      const Driven driven = drive(transfer, feeder, &sink);
      CHECK(driven.outcome == Outcome::done);
      CHECK(difference(driven.received, bytes) == "");
    }
    TestFile file(0);
    Channel source(from);
    Feeder feeder(source, bytes);
    SpliceTransfer transfer(source.source(), {file.fd(), Endpoint::file, 0}, {}, kToTheEnd);
    CHECK(drive(transfer, feeder, nullptr).outcome == Outcome::done);
    CHECK(difference(content_of(file.fd()), bytes) == "");
  }
  CHECK(pipes.made > 0);
}

TEST_CASE("many small pieces arrive, though each takes a slot of a pipe") {
  DescriptorGuard guard;
  const Bytes bytes = pattern(0, 300'000);
  for_each_pair([&](Kind from, Kind to) {
    Channel source(from), sink(to);
    Feeder feeder(source, bytes, 100);
    SpliceTransfer transfer(source.source(), sink.sink(), {}, kToTheEnd);
    const Driven driven = drive(transfer, feeder, &sink);
    CHECK(driven.outcome == Outcome::done);
    CHECK(difference(driven.received, bytes) == "");
  });
}

class Fifo {
 public:
  Fifo() : directory_(new_folder()), path_(directory_ + "/fifo") {
    REQUIRE(::mkfifo(path_.c_str(), 0600) == 0);
  }
  ~Fifo() {
    ::unlink(path_.c_str());
    ::rmdir(directory_.c_str());
  }
  UniqueFd open(int flags) const {
    UniqueFd fd(::open(path_.c_str(), flags | O_NONBLOCK | O_CLOEXEC));
    REQUIRE(fd);
    return fd;
  }

 private:
  const std::string directory_;
  const std::string path_;
};

TEST_CASE("a FIFO that has no writer yet is waited for") {
  DescriptorGuard guard;
  TestFile file(0);
  Fifo fifo;
  Channel socket(Kind::tcp), pipe(Kind::pipe);
  const End sinks[] = {socket.sink(), pipe.sink(), {file.fd(), Endpoint::file, 0}};
  for (const End& sink : sinks) {
    for (const bool writes : {true, false}) {
      CAPTURE(static_cast<int>(sink.kind));
      CAPTURE(writes);
      // Opened anew: each open file knows of the writers that came since.
      const UniqueFd reading = fifo.open(O_RDONLY);
      SpliceTransfer transfer({reading.get(), Endpoint::pipe}, sink, {}, kToTheEnd);
      CHECK(transfer.step() == Outcome::wait_readable);
      CHECK(transfer.step() == Outcome::wait_readable);
      UniqueFd writing = fifo.open(O_WRONLY);
      CHECK(transfer.step() == Outcome::wait_readable);
      if (writes) {
        REQUIRE(::write(writing.get(), "abc", 3) == 3);
        CHECK(transfer.step() == Outcome::wait_readable);
      }
      writing.reset();
      CHECK(transfer.step() == Outcome::done);
      CHECK(transfer.transferred() == (writes ? 3 : 0));
    }
  }
}

TEST_CASE("a step moves what its budget allows") {
  DescriptorGuard guard;
  const auto check_budgets = [](Channel& source, const End& sink) {
    source.put_all(pattern(0, 10'000));
    CHECK(becomes_ready(source.out(), POLLIN));
    SpliceTransfer transfer(source.source(), sink, pattern(0, 100), kToTheEnd);
    for (uint64_t step = 1; step <= 10; ++step) {
      CHECK(transfer.step(1000) == Outcome::again);
      CHECK(transfer.transferred() == 100 + step * 1000);  // the head is beside it
    }
    CHECK(transfer.step(1000) == Outcome::wait_readable);
    source.put_all(pattern(10'000, 2000));
    CHECK(becomes_ready(source.out(), POLLIN));
    SpliceTransfer last(source.source(), sink, {}, 2000);
    CHECK(last.step(1000) == Outcome::again);
    CHECK(last.step(1000) == Outcome::done);
    CHECK(last.transferred() == 2000);
  };
  for_each_pair([&](Kind from, Kind to) {
    Channel source(from), sink(to);
    check_budgets(source, sink.sink());
    CHECK(difference(receive(sink.out(), 12'100),
                     concatenation({pattern(0, 100), pattern(0, 12'000)})) == "");
  });
  for (const Kind from : kKinds) {
    CAPTURE(static_cast<int>(from));
    TestFile file(0);
    Channel source(from);
    check_budgets(source, {file.fd(), Endpoint::file});
    CHECK(difference(content_of(file.fd()), concatenation({pattern(0, 100), pattern(0, 12'000)})) ==
          "");
  }
}

TEST_CASE("splice is never asked for more than is left, or than the budget") {
  DescriptorGuard guard;
  for_each_pair([&](Kind from, Kind to) {
    Channel source(from), sink(to);
    SpliceLog log;
    Feeder feeder(source, pattern(0, 65'537));
    SpliceTransfer transfer(source.source(), sink.sink(), {}, 65'000);
    uint64_t taken = 0;
    CHECK(drive(transfer, feeder, &sink).outcome == Outcome::done);
    for (const SpliceLog::Called& called : log.calls) {
      if (called.from != source.out()) continue;
      CHECK(called.count == 65'000 - taken);
      taken += static_cast<uint64_t>(std::max<ssize_t>(0, called.moved));
    }
    CHECK(taken == 65'000);
  });
}

TEST_CASE("what is left over is read from the pipe to its last byte, however few at once") {
  DescriptorGuard guard;
  Channel source(Kind::tcp), sink(Kind::unix_stream, Buffers::small);
  sink.fill();
  source.put_all(pattern(0, 10'000));
  CHECK(becomes_ready(source.out(), POLLIN));
  SpliceTransfer transfer(source.source(), sink.sink(), {}, kToTheEnd);
  CHECK(transfer.step() == Outcome::wait_writable);
  PipePool::User other;
  const size_t descriptors = count_descriptors();
  SUBCASE("and its pipe is used again") {
    Seam<&Calls::read_stream> reads([](int fd, void* buffer, size_t count) {
      return kernel.read_stream(fd, buffer, std::min<size_t>(count, 99));
    });
    CHECK(difference(transfer.residual(), pattern(0, 10'000)) == "");
    CHECK(count_descriptors() == descriptors);
    Seam<&Calls::pipe> none([](int*) { return fail_with(EMFILE); });
    Pipe pipe;
    CHECK(PipePool::instance().take(&pipe) == 0);
    CHECK_FALSE(is_ready(pipe.read.get(), POLLIN));
  }
  SUBCASE("but one that can't be read is not, and neither is what was in it") {
    int calls = 0;
    Seam<&Calls::read_stream> reads([&](int fd, void* buffer, size_t count) {
      return calls++ < 3 ? kernel.read_stream(fd, buffer, std::min<size_t>(count, 1000))
                         : fail_with(EIO);
    });
    CHECK(difference(transfer.residual(), pattern(0, 3000)) == "");
    Seam<&Calls::pipe> none([](int*) { return fail_with(EMFILE); });
    Pipe pipe;
    CHECK(PipePool::instance().take(&pipe) == EMFILE);
  }
}

TEST_CASE("a transfer that nobody asks for what is left over takes its pipe with it") {
  DescriptorGuard guard;
  PipePool::User other;
  Channel source(Kind::tcp), sink(Kind::unix_stream, Buffers::small);
  sink.fill();
  source.put_all(pattern(0, 10'000));
  CHECK(becomes_ready(source.out(), POLLIN));
  const size_t descriptors = count_descriptors();
  {
    SpliceTransfer transfer(source.source(), sink.sink(), {}, kToTheEnd);
    CHECK(transfer.step() == Outcome::wait_writable);
    CHECK(count_descriptors() == descriptors + 2);
  }
  CHECK(count_descriptors() == descriptors);
}

TEST_CASE("a transfer of its own needs none of the caller's descriptors") {
  DescriptorGuard guard;
  for_each_pair([&](Kind from, Kind to) {
    Channel source(from), sink(to);
    {
      SpliceTransfer transfer(source.source(), sink.sink(), pattern(0, 10), kToTheEnd);
      source.put_all(pattern(10, 5000));
      CHECK(becomes_ready(source.out(), POLLIN));
      source.close_in();
      CHECK(transfer.source_fd() == source.out());
      CHECK(transfer.sink_fd() == sink.in());
      REQUIRE(transfer.own() == 0);
      for (const int fd : {transfer.source_fd(), transfer.sink_fd()}) {
        CHECK(fd != source.out());
        CHECK(fd != sink.in());
        CHECK((::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
      }
      source.close_out();
      sink.close_in();
      Outcome outcome = Outcome::again;
      CHECK(eventually([&] { return (outcome = transfer.step()) != Outcome::wait_readable; }));
      CHECK(outcome == Outcome::done);
    }
    // Its descriptor was the last of the sink.
    CHECK(difference(receive_rest(sink.out()), pattern(0, 5010)) == "");
  });
}

TEST_CASE("no descriptor to be had for either end") {
  DescriptorGuard guard;
  for (const int at : {0, 1}) {
    CAPTURE(at);
    Channel source(Kind::tcp), sink(Kind::tcp);
    int calls = 0;
    Seam<&Calls::duplicate> seam(
        [&](int fd) { return calls++ == at ? fail_with(EMFILE) : kernel.duplicate(fd); });
    SpliceTransfer transfer(source.source(), sink.sink(), pattern(0, 10), kToTheEnd);
    CHECK(transfer.own() == EMFILE);
    check_failure(transfer, Call::dup, EMFILE);
    CHECK(transfer.transferred() == 0);
    CHECK(difference(transfer.residual(), pattern(0, 10)) == "");
  }
}

}  // namespace
}  // namespace zerocopy::test
