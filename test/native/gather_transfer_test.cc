#include "gather_transfer.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <time.h>

#include <algorithm>

#include "helpers.h"

namespace zerocopy::test {
namespace {

constexpr int kUnsupported[] = {ENOSYS, EPERM, EINVAL, EOPNOTSUPP, EIO};

struct Asked {
  int file;
  uint64_t offset;
  uint64_t count;
};

// sendfile(2) with its arguments written down. `limit` is the most that one call moves.
class SendfileLog {
 public:
  explicit SendfileLog(size_t limit = ~size_t{0})
      : seam_([this, limit](int out_fd, int in_fd, off_t* offset, size_t count) {
          calls.push_back({in_fd, static_cast<uint64_t>(*offset), count});
          return kernel.sendfile(out_fd, in_fd, offset, std::min(count, limit));
        }) {}

  std::vector<Asked> calls;

 private:
  Seam<&Calls::sendfile> seam_;
};

// sendmsg(2) the same way. `limit` is the most that one call takes of all its parts.
class SendLog {
 public:
  struct Sent {
    size_t parts;
    bool more;
  };

  explicit SendLog(size_t limit = ~size_t{0})
      : seam_([this, limit](int fd, const iovec* parts, size_t part_count, int flags) {
          calls.push_back({part_count, (flags & MSG_MORE) != 0});
          std::vector<iovec> taken(parts, parts + part_count);
          size_t left = limit;
          for (iovec& part : taken) {
            part.iov_len = std::min(part.iov_len, left);
            left -= part.iov_len;
          }
          return kernel.send(fd, taken.data(), taken.size(), flags);
        }) {}

  std::vector<Sent> calls;

 private:
  Seam<&Calls::send> seam_;
};

// A sendfile(2) that fails at one call, counted from 0 in the transfer.
class FailingSendfile {
 public:
  FailingSendfile(int at, int error)
      : seam_([this, at, error](int out_fd, int in_fd, off_t* offset, size_t count) -> ssize_t {
          if (calls++ == at) return fail_with(error);
          return kernel.sendfile(out_fd, in_fd, offset, std::min<size_t>(count, 5000));
        }) {}

  int calls = 0;

 private:
  Seam<&Calls::sendfile> seam_;
};

void check_failure(const Transfer& transfer, Call call, int error) {
  CHECK(transfer.failed_call() == call);
  CHECK(transfer.error() == error);
}

TEST_CASE("a range of any size arrives whole") {
  DescriptorGuard guard;
  AllResident resident;
  TestFile file(200'000);
  for (const Family family : kFamilies) {
    for (const uint64_t size : kSizes) {
      for (const uint64_t offset : {uint64_t{0}, uint64_t{4095}}) {
        CAPTURE(static_cast<int>(family));
        CAPTURE(size);
        CAPTURE(offset);
        SocketPair pair(family);
        GatherTransfer transfer(pair.sender(), gather(file.range(offset, size)));
        const Driven driven = drive(transfer, pair);
        CHECK(driven.outcome == Outcome::done);
        CHECK(difference(driven.received, pattern(offset, size)) == "");
        CHECK(transfer.transferred() == size);
        const bool tiny = size > 0 && size <= kReadWayBytes;
        CHECK(transfer.backend() == (tiny ? Backend::read : Backend::sendfile));
        check_failure(transfer, Call::none, 0);
      }
    }
  }
}

TEST_CASE("a range goes through a socket with hardly any buffer") {
  DescriptorGuard guard;
  AllResident resident;
  TestFile file(200'000);
  for (const Family family : kFamilies) {
    for (const uint64_t size : kSizes) {
      CAPTURE(static_cast<int>(family));
      CAPTURE(size);
      SocketPair pair(family, Buffers::small);
      GatherTransfer transfer(pair.sender(), gather(file.range(4097, size)));
      const Driven driven = drive(transfer, pair);
      CHECK(driven.outcome == Outcome::done);
      CHECK(difference(driven.received, pattern(4097, size)) == "");
      CHECK(transfer.transferred() == size);
      if (size > kReadWayBytes) CHECK(transfer.backend() == Backend::sendfile);
    }
  }
}

TEST_CASE("a gather list arrives in its order") {
  DescriptorGuard guard;
  AllResident resident;
  TestFile first(100'000), second(100'000);
  const Bytes header = pattern(1'000'000, 100), middle = pattern(2'000'000, 70'000),
              trailer = pattern(3'000'000, 1), none;
  const Bytes expected = concatenation(
      {header, pattern(1, 65'537), middle, pattern(4096, 4096), pattern(0, 1), trailer});
  for (const Family family : kFamilies) {
    for (const Buffers buffers : {Buffers::usual, Buffers::small}) {
      CAPTURE(static_cast<int>(family));
      SocketPair pair(family, buffers);
      GatherTransfer transfer(
          pair.sender(),
          gather(memory(none), memory(header), first.range(0, 0), first.range(1, 65'537),
                 memory(none), memory(middle), second.range(4096, 4096), first.range(0, 1),
                 second.range(9, 0), memory(trailer), memory(none)));
      const Driven driven = drive(transfer, pair);
      CHECK(driven.outcome == Outcome::done);
      CHECK(difference(driven.received, expected) == "");
      CHECK(transfer.transferred() == expected.size());
      CHECK(transfer.backend() == Backend::sendfile);
    }
  }
}

TEST_CASE("nothing at all is done at once") {
  DescriptorGuard guard;
  TestFile file(1);
  const Bytes none;
  SocketPair pair(Family::unix_stream);
  SendLog sends;
  SendfileLog sendfiles;
  SUBCASE("no segment") {
    CHECK(GatherTransfer(pair.sender(), {}).step() == Outcome::done);
  }
  SUBCASE("empty segments") {
    GatherTransfer transfer(pair.sender(), gather(memory(none), file.range(0, 0)));
    CHECK(transfer.step() == Outcome::done);
  }
  SUBCASE("on the caller's thread") {
    Outcome outcome = Outcome::failed;
    CHECK(GatherTransfer(pair.sender(), {}).step_if_short(&outcome));
    CHECK(outcome == Outcome::done);
  }
  CHECK(sends.calls.empty());
  CHECK(sendfiles.calls.empty());
}

TEST_CASE("short counts lose nothing") {
  DescriptorGuard guard;
  AllResident resident;
  TestFile file(200'000);
  const Bytes header = pattern(1'000'000, 301), trailer = pattern(2'000'000, 7);
  SocketPair pair(Family::tcp);
  SUBCASE("of sendfile") {
    SendfileLog log(999);
    GatherTransfer transfer(pair.sender(),
                            gather(memory(header), file.range(3, 65'537), memory(trailer)));
    const Driven driven = drive(transfer, pair);
    CHECK(driven.outcome == Outcome::done);
    CHECK(difference(driven.received, concatenation({header, pattern(3, 65'537), trailer})) == "");
    CHECK(log.calls.size() >= 66);
  }
  SUBCASE("of sendmsg") {
    SendLog log(1);
    GatherTransfer transfer(pair.sender(), gather(memory(header), file.range(3, 65'537),
                                                  memory(trailer), memory(header)));
    const Driven driven = drive(transfer, pair);
    CHECK(driven.outcome == Outcome::done);
    CHECK(difference(driven.received,
                     concatenation({header, pattern(3, 65'537), trailer, header})) == "");
    CHECK(log.calls.size() >= header.size() + trailer.size() + header.size());
  }
  SUBCASE("of sendmsg, where all was read at once") {
    SendLog log(1);
    SendfileLog sendfiles;
    GatherTransfer transfer(pair.sender(),
                            gather(file.range(3, 4097), memory(trailer), file.range(9, 11)));
    CHECK(transfer.step() == Outcome::again);
    CHECK(transfer.transferred() == 1);
    CHECK(transfer.backend() == Backend::read);
    const Driven driven = drive(transfer, pair);
    CHECK(driven.outcome == Outcome::done);
    CHECK(difference(driven.received, concatenation({pattern(3, 4097), trailer, pattern(9, 11)})) ==
          "");
    CHECK(transfer.backend() == Backend::sendfile);
    REQUIRE_FALSE(sendfiles.calls.empty());
    CHECK(sendfiles.calls[0].offset == 4);
    CHECK(sendfiles.calls[0].count == 4096);
  }
}

TEST_CASE("a full socket is waited for, with nothing lost and nothing sent twice") {
  DescriptorGuard guard;
  AllResident resident;
  TestFile file(200'000);
  const Bytes bytes = pattern(1'000'000, 70'000);
  SocketPair pair(Family::unix_stream, Buffers::small);
  const size_t filled = pair.fill();
  std::vector<Segment> segments;
  Bytes expected;
  SUBCASE("a file") {
    segments = gather(file.range(1, 131'088));
    expected = pattern(1, 131'088);
  }
  SUBCASE("memory") {
    segments = gather(memory(bytes));
    expected = bytes;
  }
  SUBCASE("a tiny file, which is read") {
    segments = gather(file.range(1, 4097));
    expected = pattern(1, 4097);
  }
  GatherTransfer transfer(pair.sender(), std::move(segments));
  CHECK(transfer.step() == Outcome::wait_writable);
  CHECK(transfer.step() == Outcome::wait_writable);
  CHECK(transfer.transferred() == 0);
  check_failure(transfer, Call::none, 0);
  CHECK(receive(pair.receiver(), filled).size() == filled);
  const Driven driven = drive(transfer, pair);
  CHECK(driven.outcome == Outcome::done);
  CHECK(difference(driven.received, expected) == "");
}

TEST_CASE("EAGAIN in the middle keeps the position") {
  DescriptorGuard guard;
  AllResident resident;
  TestFile file(200'000);
  SocketPair pair(Family::tcp);
  FailingSendfile seam(2, EAGAIN);
  GatherTransfer transfer(pair.sender(), gather(file.range(7, 65'537)));
  CHECK(transfer.step() == Outcome::wait_writable);
  CHECK(transfer.transferred() == 10'000);
  const Driven driven = drive(transfer, pair);
  CHECK(driven.outcome == Outcome::done);
  CHECK(difference(driven.received, pattern(7, 65'537)) == "");
}

TEST_CASE("what the kernel can't do at a segment's first call is unsupported") {
  DescriptorGuard guard;
  AllResident resident;
  TestFile file(200'000);
  const Bytes header = pattern(1'000'000, 70'000);
  const auto check_unsupported = [](int at, int error, std::vector<Segment> segments,
                                    const Bytes& gone_before) {
    CAPTURE(error);
    SocketPair pair(Family::tcp);
    FailingSendfile seam(at, error);
    GatherTransfer transfer(pair.sender(), std::move(segments));
    const Driven driven = drive(transfer, pair);
    CHECK(driven.outcome == Outcome::unsupported);
    CHECK(difference(driven.received, gone_before) == "");
    CHECK(transfer.transferred() == gone_before.size());
    CHECK(seam.calls == at + 1);
    check_failure(transfer, Call::sendfile, error);
  };
  for (const int error : kUnsupported) {
    check_unsupported(0, error, gather(file.range(0, 65'537)), {});
    check_unsupported(0, error, gather(memory(header), file.range(0, 65'537)), header);
    // Six calls of 5000 bytes, and the next one is the second range's first.
    check_unsupported(6, error, gather(file.range(0, 30'000), file.range(1, 30'000)),
                      pattern(0, 30'000));
  }
}

TEST_CASE("the same errors after a segment's first bytes are failures") {
  DescriptorGuard guard;
  AllResident resident;
  TestFile file(200'000);
  for (const int error : kUnsupported) {
    CAPTURE(error);
    SocketPair pair(Family::tcp);
    FailingSendfile seam(8, error);
    GatherTransfer transfer(pair.sender(), gather(file.range(0, 30'000), file.range(1, 30'000)));
    const Driven driven = drive(transfer, pair);
    CHECK(driven.outcome == Outcome::failed);
    CHECK(difference(driven.received, concatenation({pattern(0, 30'000), pattern(1, 10'000)})) ==
          "");
    CHECK(transfer.transferred() == 40'000);
    check_failure(transfer, Call::sendfile, error);
  }
}

TEST_CASE("a connection that is gone is a failure, at whatever call") {
  DescriptorGuard guard;
  AllResident resident;
  TestFile file(200'000);
  for (const int error : {EPIPE, ECONNRESET, ETIMEDOUT, ENOBUFS}) {
    for (const int at : {0, 3}) {
      CAPTURE(error);
      CAPTURE(at);
      SocketPair pair(Family::tcp);
      FailingSendfile seam(at, error);
      GatherTransfer transfer(pair.sender(), gather(file.range(0, 65'537)));
      const Driven driven = drive(transfer, pair);
      CHECK(driven.outcome == Outcome::failed);
      CHECK(transfer.transferred() == static_cast<uint64_t>(at) * 5000);
      CHECK(difference(driven.received, pattern(0, transfer.transferred())) == "");
      check_failure(transfer, Call::sendfile, error);
    }
  }
}

TEST_CASE("an error of sendmsg is never unsupported") {
  DescriptorGuard guard;
  AllResident resident;
  TestFile file(200'000);
  const Bytes bytes = pattern(0, 30'000);
  for (const int error : {EPIPE, ECONNRESET, EINVAL, EIO, EPERM, EOPNOTSUPP, ENOSYS}) {
    CAPTURE(error);
    Seam<&Calls::send> seam([error](int, const iovec*, size_t, int) { return fail_with(error); });
    SocketPair pair(Family::tcp);
    GatherTransfer from_memory(pair.sender(), gather(memory(bytes), file.range(0, 1)));
    CHECK(from_memory.step() == Outcome::failed);
    check_failure(from_memory, Call::sendmsg, error);
    GatherTransfer by_reading(pair.sender(), gather(file.range(0, 4097)));
    CHECK(by_reading.step() == Outcome::failed);
    check_failure(by_reading, Call::sendmsg, error);
    CHECK(by_reading.transferred() == 0);
  }
}

TEST_CASE("a sink that takes none of what is in memory and says nothing has failed") {
  DescriptorGuard guard;
  AllResident resident;
  TestFile file(200'000);
  const Bytes bytes = pattern(0, 30'000);
  Seam<&Calls::send> sends([](int, const iovec*, size_t, int) { return 0; });
  Seam<&Calls::write> writes([](int, const iovec*, int) { return 0; });
  Channel socket(Kind::tcp), pipe(Kind::pipe);
  for (const Channel* sink : {&socket, &pipe}) {
    const Call call = sink == &pipe ? Call::write : Call::sendmsg;
    GatherTransfer from_memory(sink->in(), gather(memory(bytes), file.range(0, 1)),
                               sink->endpoint());
    CHECK(from_memory.step() == Outcome::failed);
    check_failure(from_memory, call, EIO);
    GatherTransfer by_reading(sink->in(), gather(file.range(0, 4097)), sink->endpoint());
    Outcome outcome = Outcome::done;
    CHECK(by_reading.step_if_short(&outcome));
    CHECK(outcome == Outcome::failed);
    check_failure(by_reading, call, EIO);
  }
}

TEST_CASE("a peer that closes is EPIPE or ECONNRESET") {
  DescriptorGuard guard;
  AllResident resident;
  TestFile file(400'000);
  const Bytes bytes = pattern(0, 400'000);
  for (const Family family : kFamilies) {
    for (const bool from_file : {true, false}) {
      CAPTURE(static_cast<int>(family));
      CAPTURE(from_file);
      SocketPair pair(family, Buffers::small);
      GatherTransfer transfer(pair.sender(),
                              from_file ? gather(file.range(0, 400'000)) : gather(memory(bytes)));
      CHECK(transfer.step() == Outcome::wait_writable);
      CHECK(transfer.transferred() > 0);
      pair.close_receiver();
      Outcome outcome = Outcome::wait_writable;
      CHECK(eventually([&] { return (outcome = transfer.step()) != Outcome::wait_writable; }));
      CHECK(outcome == Outcome::failed);
      CHECK((transfer.error() == EPIPE || transfer.error() == ECONNRESET));
      CHECK(transfer.failed_call() == (from_file ? Call::sendfile : Call::sendmsg));
      CHECK(transfer.transferred() < 400'000);
    }
  }
}

TEST_CASE("a file that ends before its range does is truncated") {
  DescriptorGuard guard;
  AllResident resident;
  const Bytes header = pattern(1'000'000, 100);
  SocketPair pair(Family::tcp);
  SUBCASE("it shrank before the transfer") {
    TestFile file(100'000);
    file.truncate(50'001);
    GatherTransfer transfer(pair.sender(), gather(memory(header), file.range(1, 99'999)));
    const Driven driven = drive(transfer, pair);
    CHECK(driven.outcome == Outcome::truncated);
    CHECK(difference(driven.received, concatenation({header, pattern(1, 50'000)})) == "");
    CHECK(transfer.transferred() == 50'100);
  }
  SUBCASE("it shrank to nothing") {
    TestFile file(100'000);
    file.truncate(0);
    GatherTransfer transfer(pair.sender(), gather(file.range(1, 99'999)));
    const Driven driven = drive(transfer, pair);
    CHECK(driven.outcome == Outcome::truncated);
    CHECK(driven.received.empty());
    CHECK(transfer.transferred() == 0);
  }
  SUBCASE("it is tiny") {
    TestFile file(4097);
    GatherTransfer transfer(pair.sender(),
                            gather(memory(header), file.range(0, 4098), memory(header)));
    const Driven driven = drive(transfer, pair);
    CHECK(driven.outcome == Outcome::truncated);
    CHECK(difference(driven.received, concatenation({header, pattern(0, 4097)})) == "");
    CHECK(transfer.backend() == Backend::sendfile);
  }
  SUBCASE("it shrinks between two calls") {
    TestFile file(100'000);
    int calls = 0;
    Seam<&Calls::sendfile> seam([&](int out_fd, int in_fd, off_t* offset, size_t count) {
      return ++calls > 3 ? 0
                         : kernel.sendfile(out_fd, in_fd, offset, std::min<size_t>(count, 5000));
    });
    GatherTransfer transfer(pair.sender(), gather(file.range(0, 99'999)));
    const Driven driven = drive(transfer, pair);
    CHECK(driven.outcome == Outcome::truncated);
    CHECK(difference(driven.received, pattern(0, 15'000)) == "");
    CHECK(calls == 4);
  }
}

TEST_CASE("sendfile is never asked for more than is left of the range") {
  DescriptorGuard guard;
  AllResident resident;
  TestFile file(3 * kStepBytes);
  for (const size_t limit : {size_t{5000}, size_t{65'536}, ~size_t{0}}) {
    CAPTURE(limit);
    const uint64_t length = limit == 5000 ? 131'088 : 2 * kStepBytes + 4097;
    SocketPair pair(Family::tcp);
    SendfileLog log(limit);
    GatherTransfer transfer(pair.sender(), gather(file.range(9, length)));
    const Driven driven = drive(transfer, pair);
    CHECK(driven.outcome == Outcome::done);
    CHECK(difference(driven.received, pattern(9, length)) == "");
    uint64_t most = 0, furthest = 0;
    for (const Asked& asked : log.calls) {
      most = std::max(most, asked.count);
      furthest = std::max(furthest, asked.offset + asked.count);
    }
    CHECK(most <= kStepBytes);
    CHECK(furthest == 9 + length);
  }
}

TEST_CASE("a range of many GiB goes in steps") {
  // Nobody has a disk and a socket for that here: the call says that it moved what it was asked to.
  constexpr uint64_t kLength = (uint64_t{5} << 30) + 4097;
  constexpr uint64_t kOffset = uint64_t{1} << 40;
  TestFile file(1);
  uint64_t next = kOffset;
  Seam<&Calls::read_nowait> looks([](int, void*, size_t, off_t) { return 1; });
  uint64_t most = 0;
  bool in_order = true, in_steps = true;
  Seam<&Calls::sendfile> seam([&](int, int, off_t* offset, size_t count) {
    in_order = in_order && static_cast<uint64_t>(*offset) == next;
    next += count;
    most = std::max<uint64_t>(most, count);
    return static_cast<ssize_t>(count);
  });
  GatherTransfer transfer(-1, gather(file.range(kOffset, kLength)));
  int steps = 1;
  for (; transfer.step() == Outcome::again; ++steps) {
    in_steps = in_steps && transfer.transferred() == static_cast<uint64_t>(steps) * kStepBytes;
  }
  CHECK(in_order);
  CHECK(in_steps);
  CHECK(steps == static_cast<int>(kLength / kStepBytes) + 1);
  CHECK(next == kOffset + kLength);
  CHECK(transfer.transferred() == kLength);
  CHECK(most <= sys::kMaxBytesPerCall);
}

TEST_CASE("a step that may be long takes what is there of the beginning of a stretch") {
  // The first 2 MiB are resident. Nobody has a socket for more: the call says that it has moved it.
  constexpr uint64_t kThere = 2 * kStepBytes;
  TestFile file(1);
  Seam<&Calls::read_nowait> looks([](int, void*, size_t, off_t offset) {
    return static_cast<uint64_t>(offset) < kThere ? 1 : fail_with(EAGAIN);
  });
  std::vector<uint64_t> counts;
  Seam<&Calls::sendfile> seam([&](int, int, off_t*, size_t count) {
    counts.push_back(count);
    return static_cast<ssize_t>(count);
  });
  GatherTransfer transfer(-1, gather(file.range(0, 2 * kStepBytesAlone)));
  CHECK(transfer.step(kStepBytesAlone) == Outcome::cold);
  CHECK(transfer.transferred() == kThere);
  CHECK(counts == std::vector<uint64_t>{kStepBytes, kStepBytes});
  CHECK(transfer.cold_range().offset == kThere);
  CHECK(transfer.cold_range().length == kStepBytes);
}

TEST_CASE("one call moves a step at most, or as much as has gone where no disk is waited for") {
  constexpr uint64_t kLength = 2 * kStepBytesAlone;
  TestFile file(1);
  bool blind = false;
  Seam<&Calls::read_nowait> looks(
      [&](int, void*, size_t, off_t) -> ssize_t { return blind ? fail_with(EOPNOTSUPP) : 1; });
  Seam<&Calls::cached_pages> silent([](int, uint64_t, uint64_t) { return fail_with(ENOSYS); });
  std::vector<uint64_t> calls;
  Seam<&Calls::sendfile> seam([&](int, int, off_t*, size_t count) {
    calls.push_back(count / kStepBytes);
    return static_cast<ssize_t>(count);
  });
  GatherTransfer transfer(-1, gather(file.range(0, kLength)));
  CHECK(transfer.step(kStepBytesAlone) == Outcome::again);
  CHECK(transfer.step(kStepBytesAlone) == Outcome::done);
  CHECK(calls == std::vector<uint64_t>{1, 1, 2, 4, 8});

  calls.clear();
  blind = true;
  GatherTransfer unknown(-1, gather(file.range(0, kLength)));
  CHECK(unknown.step(kStepBytesAlone) == Outcome::again);
  CHECK(calls == std::vector<uint64_t>(8, 1));
}

TEST_CASE("a step's budget spans segments") {
  DescriptorGuard guard;
  AllResident resident;
  TestFile file(1);
  const Bytes bytes(kStepBytes + 1);
  std::vector<uint64_t> counts;
  Seam<&Calls::sendfile> sendfile([&](int, int, off_t*, size_t count) {
    counts.push_back(count);
    return static_cast<ssize_t>(count);
  });
  Seam<&Calls::send> send([&](int, const iovec* parts, size_t part_count, int) {
    ssize_t sum = 0;
    for (size_t i = 0; i < part_count; ++i) sum += static_cast<ssize_t>(parts[i].iov_len);
    return sum;
  });
  SUBCASE("of files") {
    GatherTransfer transfer(-1, gather(file.range(0, kStepBytes - 5), file.range(0, 10)));
    CHECK(transfer.step() == Outcome::again);
    CHECK(transfer.transferred() == kStepBytes);
    CHECK(transfer.step() == Outcome::done);
    CHECK(counts == std::vector<uint64_t>{kStepBytes - 5, 5, 5});
  }
  SUBCASE("of memory, which goes in one call") {
    GatherTransfer transfer(-1, gather(memory(bytes), file.range(0, 10)));
    CHECK(transfer.step() == Outcome::again);
    CHECK(transfer.transferred() == kStepBytes + 1);
    CHECK(transfer.step() == Outcome::done);
    CHECK(counts == std::vector<uint64_t>{10});
  }
}

TEST_CASE("memory is held back only for a segment that certainly follows") {
  DescriptorGuard guard;
  AllResident resident;
  TestFile file(100'000);
  const Bytes bytes = pattern(1'000'000, 30'000), none;
  const uint64_t length = 30'000;
  SendLog log;
  std::vector<bool> more;
  std::vector<Segment> segments;
  SUBCASE("a file follows") {
    segments = gather(memory(bytes), file.range(0, length));
    more = {true};
  }
  SUBCASE("nothing follows") {
    segments = gather(memory(bytes));
    more = {false};
  }
  SUBCASE("only empty segments follow") {
    segments = gather(memory(bytes), file.range(0, 0), memory(none));
    more = {false};
  }
  SUBCASE("a file follows after empty segments") {
    segments = gather(memory(bytes), memory(none), file.range(0, 0), file.range(0, length));
    more = {true};
  }
  SUBCASE("memory that follows goes in the same call") {
    segments = gather(memory(bytes), file.range(0, 0), memory(bytes));
    more = {false};
  }
  SUBCASE("last after a file") {
    segments = gather(file.range(0, length), memory(bytes));
    more = {false};
  }
  SUBCASE("between files, and last") {
    segments = gather(memory(bytes), file.range(0, length), memory(bytes), file.range(0, 1),
                      memory(bytes), memory(none));
    more = {true, true, false};
  }
  Bytes expected;
  for (const Segment& segment : segments) {
    const Bytes part = segment.file ? pattern(segment.offset, segment.length)
                                    : Bytes(segment.data, segment.data + segment.length);
    expected.insert(expected.end(), part.begin(), part.end());
  }
  SocketPair pair(Family::unix_stream);
  GatherTransfer transfer(pair.sender(), std::move(segments));
  const Driven driven = drive(transfer, pair);
  CHECK(driven.outcome == Outcome::done);
  CHECK(difference(driven.received, expected) == "");
  std::vector<bool> seen;
  for (const SendLog::Sent& sent : log.calls) seen.push_back(sent.more);
  CHECK(seen == more);
}

TEST_CASE("a short count of memory before a file is held back until the file") {
  DescriptorGuard guard;
  AllResident resident;
  TestFile file(100'000);
  const Bytes bytes = pattern(1'000'000, 30);
  SocketPair pair(Family::tcp);
  SendLog log(10);
  GatherTransfer transfer(pair.sender(),
                          gather(memory(bytes), file.range(0, 65'537), memory(bytes)));
  CHECK(difference(drive(transfer, pair).received,
                   concatenation({bytes, pattern(0, 65'537), bytes})) == "");
  REQUIRE(log.calls.size() == 6);
  for (size_t i = 0; i < 6; ++i) {
    CHECK(log.calls[i].more == (i < 3));
  }
}

TEST_CASE("more memory segments than one call takes") {
  DescriptorGuard guard;
  AllResident resident;
  std::vector<Bytes> pieces;
  for (uint64_t i = 0; i < 200; ++i) pieces.push_back(pattern(i * 1000, 300 + i));
  Bytes expected;
  std::vector<Segment> segments;
  for (const Bytes& piece : pieces) {
    segments.push_back(memory(piece));
    expected.insert(expected.end(), piece.begin(), piece.end());
  }
  SUBCASE("each call but the last says that more follow") {
    SocketPair pair(Family::unix_stream);
    SendLog log;
    GatherTransfer transfer(pair.sender(), std::move(segments));
    CHECK(difference(drive(transfer, pair).received, expected) == "");
    REQUIRE(log.calls.size() == 4);
    for (size_t i = 0; i < 4; ++i) {
      CHECK(log.calls[i].parts == (i < 3 ? 64 : 8));
      CHECK(log.calls[i].more == (i < 3));
    }
  }
  SUBCASE("short counts end within a segment") {
    SocketPair pair(Family::tcp);
    SendLog log(997);
    GatherTransfer transfer(pair.sender(), std::move(segments));
    CHECK(difference(drive(transfer, pair).received, expected) == "");
  }
}

TEST_CASE("a tiny transfer is read and sent in one packet") {
  DescriptorGuard guard;
  AllResident resident;
  TestFile file(100'000);
  const Bytes header = pattern(1'000'000, 200);
  SendLog sends;
  SendfileLog sendfiles;
  SocketPair pair(Family::tcp);
  SUBCASE("of one file") {
    GatherTransfer transfer(pair.sender(), gather(file.range(5, kReadWayBytes)));
    const Driven driven = drive(transfer, pair);
    CHECK(driven.outcome == Outcome::done);
    CHECK(difference(driven.received, pattern(5, kReadWayBytes)) == "");
    CHECK(transfer.backend() == Backend::read);
    REQUIRE(sends.calls.size() == 1);
    CHECK(sends.calls[0].parts == 1);
  }
  SUBCASE("of header, range, header, range") {
    GatherTransfer transfer(
        pair.sender(), gather(memory(header), file.range(5, 4097), memory(header), file.range(0, 0),
                              file.range(90'000, 1)));
    const Driven driven = drive(transfer, pair);
    CHECK(driven.outcome == Outcome::done);
    CHECK(difference(driven.received,
                     concatenation({header, pattern(5, 4097), header, pattern(90'000, 1)})) == "");
    CHECK(transfer.backend() == Backend::read);
    REQUIRE(sends.calls.size() == 1);
    CHECK(sends.calls[0].parts == 4);
  }
  CHECK_FALSE(sends.calls[0].more);
  CHECK(sendfiles.calls.empty());
}

TEST_CASE("memory alone was not read from anywhere") {
  DescriptorGuard guard;
  const Bytes bytes = pattern(1'000'000, 200);
  SocketPair pair(Family::tcp);
  GatherTransfer transfer(pair.sender(), gather(memory(bytes)));
  CHECK(difference(drive(transfer, pair).received, bytes) == "");
  CHECK(transfer.backend() == Backend::sendfile);
}

TEST_CASE("beyond the limit of reading it is sendfile") {
  DescriptorGuard guard;
  AllResident resident;
  TestFile file(100'000);
  const Bytes bytes = pattern(1'000'000, 20'000);
  std::vector<Segment> segments;
  Bytes expected;
  SUBCASE("a byte more in the file") {
    segments = gather(file.range(5, kBeyondReadWay));
    expected = pattern(5, kBeyondReadWay);
  }
  SUBCASE("a byte more with its header") {
    segments = gather(memory(bytes), file.range(5, kBeyondReadWay - 20'000));
    expected = concatenation({bytes, pattern(5, kBeyondReadWay - 20'000)});
  }
  SUBCASE("more segments than one call takes") {
    for (uint64_t i = 0; i < 65; ++i) {
      segments.push_back(file.range(i * 3, 10));
      const Bytes part = pattern(i * 3, 10);
      expected.insert(expected.end(), part.begin(), part.end());
    }
  }
  SocketPair pair(Family::tcp);
  GatherTransfer transfer(pair.sender(), std::move(segments));
  const Driven driven = drive(transfer, pair);
  CHECK(driven.outcome == Outcome::done);
  CHECK(difference(driven.received, expected) == "");
  CHECK(transfer.backend() == Backend::sendfile);
}

TEST_CASE("what is not in the page cache to its last byte is not read") {
  DescriptorGuard guard;
  TestFile file(100'000);
  const Bytes header = pattern(1'000'000, 200);
  SocketPair pair(Family::tcp);
  std::function<ssize_t(int, void*, size_t, off_t)> answer;
  SUBCASE("nothing is") {
    answer = [](int, void*, size_t, off_t) { return fail_with(EAGAIN); };
  }
  SUBCASE("nobody knows") {
    answer = [](int, void*, size_t, off_t) { return fail_with(EOPNOTSUPP); };
  }
  SUBCASE("only its first page is") {
    answer = [](int fd, void* buffer, size_t count, off_t offset) {
      return kernel.read(fd, buffer, std::min<size_t>(count, 4096), offset);
    };
  }
  SUBCASE("the second range is not") {
    answer = [](int fd, void* buffer, size_t count, off_t offset) {
      return offset >= 50'000 ? fail_with(EAGAIN) : kernel.read(fd, buffer, count, offset);
    };
  }
  Seam<&Calls::read_nowait> seam(answer);
  Seam<&Calls::cached_pages> nobody_counts(
      [](int, uint64_t, uint64_t) { return fail_with(ENOSYS); });
  GatherTransfer transfer(pair.sender(),
                          gather(memory(header), file.range(0, 4097), file.range(50'000, 10)));
  const Driven driven = drive(transfer, pair);
  CHECK(driven.outcome == Outcome::done);
  CHECK(difference(driven.received,
                   concatenation({header, pattern(0, 4097), pattern(50'000, 10)})) == "");
  CHECK(transfer.backend() == Backend::sendfile);
}

TEST_CASE("a cold range is warmed, then sent without another look") {
  DescriptorGuard guard;
  AllCold cold;
  TestFile file(5 * kStepBytes / 2);
  const Bytes header = pattern(1'000'000, 70'000);
  const uint64_t length = 2 * kStepBytes + 4097;
  SocketPair pair(Family::tcp);
  GatherTransfer transfer(pair.sender(), gather(memory(header), file.range(3, length)));

  CHECK(transfer.step() == Outcome::cold);
  CHECK(transfer.transferred() == header.size());
  CHECK(transfer.cold_range().file->fd() == file.fd());
  CHECK(transfer.cold_range().offset == 3);
  CHECK(transfer.cold_range().length == kStepBytes);
  CHECK(transfer.step() == Outcome::cold);
  CHECK(transfer.transferred() == header.size());
  check_failure(transfer, Call::none, 0);

  // A file system that says "cold" for ever doesn't hold the transfer: each range is warmed once.
  std::vector<std::pair<int64_t, size_t>> warmed;
  Seam<&Calls::readahead> passes([&](int fd, off_t offset, size_t count) {
    warmed.emplace_back(offset, count / 2);
    return kernel.readahead(fd, offset, count);
  });
  const Driven driven = drive(transfer, pair);
  CHECK(driven.outcome == Outcome::done);
  CHECK(difference(driven.received, concatenation({header, pattern(3, length)})) == "");
  CHECK(warmed == std::vector<std::pair<int64_t, size_t>>{
                      {3, kStepBytes}, {3 + kStepBytes, kStepBytes}, {3 + 2 * kStepBytes, 4097}});
}

TEST_CASE("a file that is really on disk") {
  DescriptorGuard guard;
  TestFile file(kStepBytes + 70'000);
  if (!file.evict()) {
    MESSAGE("not here: the file stays in the page cache, or nobody can tell");
    return;
  }
  SocketPair pair(Family::tcp);
  GatherTransfer transfer(pair.sender(), gather(file.range(0, kStepBytes + 70'000)));
  CHECK(transfer.step() == Outcome::cold);
  CHECK(transfer.transferred() == 0);
  const Driven driven = drive(transfer, pair);
  CHECK(driven.outcome == Outcome::done);
  CHECK(difference(driven.received, pattern(0, kStepBytes + 70'000)) == "");
}

TEST_CASE("where nobody knows, a slow read sends the next range to be warmed, a quick one not") {
  constexpr uint64_t kRange = 8192;
  DescriptorGuard guard;
  NobodyKnows nobody;
  // What is quick here depends on what else runs on this machine: one of several tries will do.
  CHECK(eventually([&] {
    TestFile file(5 * kRange);
    std::vector<Segment> segments;
    for (uint64_t i = 0; i < 5; ++i) segments.push_back(file.range(i * kRange, kRange));
    int calls = 0;
    Seam<&Calls::sendfile> seam([&](int out_fd, int in_fd, off_t* offset, size_t count) {
      const timespec slow{0, 6'000'000};
      if (calls++ == 0) ::nanosleep(&slow, nullptr);
      return kernel.sendfile(out_fd, in_fd, offset, count);
    });
    std::vector<int64_t> warmed;
    Seam<&Calls::readahead> passes([&](int, off_t offset, size_t) {
      warmed.push_back(offset);
      return 0;
    });
    SocketPair pair(Family::unix_stream);
    GatherTransfer transfer(pair.sender(), std::move(segments));
    const Driven driven = drive(transfer, pair);
    CHECK(driven.outcome == Outcome::done);
    CHECK(difference(driven.received, pattern(0, 5 * kRange)) == "");
    REQUIRE_FALSE(warmed.empty());
    CHECK(warmed[0] == static_cast<int64_t>(kRange));
    return warmed.size() == 1;
  }));
}

TEST_CASE("where nobody knows but pages can be counted, the count decides") {
  DescriptorGuard guard;
  TestFile file(131'088, FileSystem::memory);
  ssize_t pages = 0;
  Seam<&Calls::read_nowait> looks([](int, void*, size_t, off_t) { return fail_with(EOPNOTSUPP); });
  Seam<&Calls::cached_pages> counts([&](int, uint64_t, uint64_t) { return pages; });
  const auto first_step = [&](ssize_t count) {
    pages = count;
    SocketPair pair(Family::unix_stream);
    GatherTransfer transfer(pair.sender(), gather(file.range(0, 65'537)));
    const Outcome outcome = transfer.step();
    CHECK(difference(receive(pair.receiver(), transfer.transferred()),
                     pattern(0, transfer.transferred())) == "");
    return outcome;
  };
  CHECK(first_step(17) == Outcome::done);
  CHECK(first_step(16) == Outcome::cold);
  CHECK(first_step(1) == Outcome::cold);
  CHECK(first_step(0) == Outcome::done);  // means nothing, and the device has never been slow
}

TEST_CASE(
    "what is served is warmed, range by range, whatever was counted and however quick it is") {
  DescriptorGuard guard;
  TestFile file(kStepBytes + 131'088, FileSystem::served);
  DeviceHistory::instance().record_warming(file.device(), 0);
  Seam<&Calls::read_nowait> looks([](int, void*, size_t, off_t) { return fail_with(EOPNOTSUPP); });
  Seam<&Calls::cached_pages> counts(
      [&](int, uint64_t, uint64_t length) { return static_cast<ssize_t>(length); });
  SocketPair pair(Family::unix_stream);
  GatherTransfer transfer(pair.sender(), gather(file.range(0, kStepBytes + 131'088)));
  Outcome outcome;
  CHECK_FALSE(transfer.step_if_short(&outcome, kStepBytes + 131'088));
  CHECK(transfer.step() == Outcome::cold);
  CHECK(transfer.transferred() == 0);
  int warmed = 0;
  Seam<&Calls::readahead> passes([&](int, off_t, size_t) {
    ++warmed;
    return 0;
  });
  const Driven driven = drive(transfer, pair);
  CHECK(driven.outcome == Outcome::done);
  CHECK(difference(driven.received, pattern(0, kStepBytes + 131'088)) == "");
  CHECK(warmed == 2);
}

TEST_CASE("the short way is for what is short and in the page cache") {
  DescriptorGuard guard;
  TestFile file(200'000);
  const Bytes header = pattern(1'000'000, 100);
  SocketPair pair(Family::unix_stream);
  Outcome outcome = Outcome::cancelled;
  SUBCASE("it is") {
    AllResident resident;
    GatherTransfer transfer(pair.sender(), gather(memory(header), file.range(1, 50'000)));
    CHECK(transfer.step_if_short(&outcome));
    CHECK(outcome == Outcome::done);
    CHECK(difference(receive(pair.receiver(), 50'100),
                     concatenation({header, pattern(1, 50'000)})) == "");
    CHECK(transfer.backend() == Backend::sendfile);
  }
  SUBCASE("it is, to the last byte") {
    AllResident resident;
    Seam<&Calls::sendfile> all([](int, int, off_t*, size_t count) { return count; });
    GatherTransfer transfer(pair.sender(), gather(file.range(1, kShortWayBytes)));
    CHECK(transfer.step_if_short(&outcome));
    CHECK(outcome == Outcome::done);
    CHECK(transfer.transferred() == kShortWayBytes);
  }
  SUBCASE("it is tiny") {
    AllResident resident;
    GatherTransfer transfer(pair.sender(), gather(memory(header), file.range(1, 4097)));
    CHECK(transfer.step_if_short(&outcome));
    CHECK(outcome == Outcome::done);
    CHECK(transfer.backend() == Backend::read);
    CHECK(difference(receive(pair.receiver(), 4197), concatenation({header, pattern(1, 4097)})) ==
          "");
  }
  SUBCASE("a byte too long") {
    AllResident resident;
    GatherTransfer transfer(pair.sender(), gather(file.range(1, kShortWayBytes + 1)));
    CHECK_FALSE(transfer.step_if_short(&outcome));
    CHECK(transfer.transferred() == 0);
  }
  SUBCASE("a byte too long, but not for a stretch of a stream") {
    AllResident resident;
    Seam<&Calls::sendfile> all([](int, int, off_t*, size_t count) { return count; });
    GatherTransfer transfer(pair.sender(), gather(file.range(1, kShortWayBytes + 1)));
    CHECK(transfer.step_if_short(&outcome, kShortStretchBytes));
    CHECK(outcome == Outcome::done);
    CHECK(transfer.transferred() == kShortWayBytes + 1);
  }
  SUBCASE("on disk") {
    AllCold cold;
    GatherTransfer transfer(pair.sender(), gather(memory(header), file.range(1, 4097)));
    CHECK_FALSE(transfer.step_if_short(&outcome));
    CHECK(transfer.transferred() == 0);
  }
  SUBCASE("nobody knows") {
    NobodyKnows nobody;
    GatherTransfer transfer(pair.sender(), gather(memory(header), file.range(1, 4097)));
    CHECK_FALSE(transfer.step_if_short(&outcome));
    CHECK(transfer.transferred() == 0);
  }
  SUBCASE("its last range is on disk") {
    Seam<&Calls::read_nowait> seam([&](int fd, void* buffer, size_t count, off_t offset) {
      return offset >= 50'000 ? fail_with(EAGAIN) : kernel.read(fd, buffer, count, offset);
    });
    GatherTransfer transfer(pair.sender(), gather(file.range(1, 30'000), file.range(50'000, 1)));
    CHECK_FALSE(transfer.step_if_short(&outcome));
    CHECK(transfer.transferred() == 0);
  }
  pair.close_sender();
  CHECK(receive_rest(pair.receiver()).empty());
}

TEST_CASE(
    "on the short way a range goes from a page's beginning on; what is before goes with memory") {
  DescriptorGuard guard;
  int looks = 0;
  bool is_gone = false;
  Seam<&Calls::read_nowait> seam([&](int fd, void* buffer, size_t count, off_t offset) {
    looks += count > 1;
    return is_gone && count > 1 ? fail_with(EAGAIN) : kernel.read(fd, buffer, count, offset);
  });
  TestFile file(200'000);
  const Bytes header = pattern(1'000'000, 100);
  SendLog sends;
  std::vector<off_t> offsets;
  bool is_refused = false;
  Seam<&Calls::sendfile> sendfiles([&](int to, int from, off_t* offset, size_t count) {
    offsets.push_back(*offset);
    return is_refused ? fail_with(EINVAL) : kernel.sendfile(to, from, offset, count);
  });
  SocketPair pair(Family::unix_stream);
  Outcome outcome = Outcome::cancelled;
  const auto send = [&](std::vector<Segment> segments) {
    GatherTransfer transfer(pair.sender(), std::move(segments));
    CHECK(transfer.step_if_short(&outcome));
    CHECK(transfer.backend() == Backend::sendfile);
    return transfer.transferred();
  };
  SUBCASE("it begins within a page") {
    CHECK(send(gather(memory(header), file.range(5000, 30'000))) == 30'100);
    CHECK(outcome == Outcome::done);
    CHECK(sends.calls.size() == 1);
    CHECK(sends.calls[0].parts == 2);
    CHECK(sends.calls[0].more);
    CHECK(offsets == std::vector<off_t>{8192});
    CHECK(difference(receive(pair.receiver(), 30'100),
                     concatenation({header, pattern(5000, 30'000)})) == "");
  }
  SUBCASE("it begins where a page does, or nothing is before it") {
    CHECK(send(gather(memory(header), file.range(8192, 30'000))) == 30'100);
    CHECK(sends.calls[0].parts == 1);
    CHECK(send(gather(file.range(5000, 30'000))) == 30'000);
    CHECK(sends.calls.size() == 1);
    CHECK(difference(receive(pair.receiver(), 60'100),
                     concatenation({header, pattern(8192, 30'000), pattern(5000, 30'000)})) == "");
  }
  SUBCASE("its beginning has gone from the page cache") {
    is_gone = true;
    CHECK(send(gather(memory(header), file.range(5000, 30'000))) == 30'100);
    CHECK(looks == 1);
    CHECK(offsets == std::vector<off_t>{5000});
    CHECK(difference(receive(pair.receiver(), 30'100),
                     concatenation({header, pattern(5000, 30'000)})) == "");
  }
  SUBCASE("sendfile can't serve it after all: what has gone is counted") {
    is_refused = true;
    CHECK(send(gather(memory(header), file.range(5000, 30'000))) == 100 + 8192 - 5000);
    CHECK(outcome == Outcome::unsupported);
    CHECK(difference(receive(pair.receiver(), 100 + 8192 - 5000),
                     concatenation({header, pattern(5000, 8192 - 5000)})) == "");
  }
}

TEST_CASE("the short way ends where the socket is full, and goes on from there") {
  DescriptorGuard guard;
  AllResident resident;
  TestFile file(200'000);
  const Bytes header = pattern(1'000'000, 30'000);
  SocketPair pair(Family::unix_stream, Buffers::small);
  GatherTransfer transfer(pair.sender(), gather(memory(header), file.range(1, 30'000)));
  Outcome outcome = Outcome::cancelled;
  CHECK(transfer.step_if_short(&outcome));
  CHECK(outcome == Outcome::wait_writable);
  CHECK(transfer.transferred() > 0);
  CHECK(transfer.transferred() < 30'000);
  const Driven driven = drive(transfer, pair);
  CHECK(driven.outcome == Outcome::done);
  CHECK(difference(driven.received, concatenation({header, pattern(1, 30'000)})) == "");
}

TEST_CASE("a transfer on the short way looks at each range once") {
  DescriptorGuard guard;
  TestFile file(200'000);
  std::vector<off_t> looked_at;
  Seam<&Calls::read_nowait> looks([&](int, void*, size_t, off_t offset) {
    looked_at.push_back(offset);
    return 1;
  });
  SocketPair pair(Family::unix_stream);
  GatherTransfer transfer(pair.sender(),
                          gather(file.range(0, 20'000), file.range(100'000, 10'000)));
  Outcome outcome = Outcome::cancelled;
  CHECK(transfer.step_if_short(&outcome));
  CHECK(outcome == Outcome::done);
  CHECK(looked_at == std::vector<off_t>{0, 19'999, 100'000, 109'999});
  CHECK(difference(receive(pair.receiver(), 30'000),
                   concatenation({pattern(0, 20'000), pattern(100'000, 10'000)})) == "");
}

TEST_CASE("of a longer one, still short, a page in each stretch is looked at") {
  DescriptorGuard guard;
  TestFile file(100);
  constexpr off_t kEnd = 3 * kShortWayProbeBytes + 5000;
  std::vector<off_t> looked_at;
  off_t missing = -1;
  Seam<&Calls::read_nowait> looks([&](int, void*, size_t, off_t offset) {
    looked_at.push_back(offset);
    return offset == missing ? fail_with(EAGAIN) : 1;
  });
  Seam<&Calls::sendfile> all([](int, int, off_t*, size_t count) { return count; });
  SocketPair pair(Family::unix_stream);
  GatherTransfer transfer(pair.sender(), gather(file.range(0, kEnd)));
  Outcome outcome = Outcome::cancelled;
  SUBCASE("all are there") {
    CHECK(transfer.step_if_short(&outcome, kShortStretchBytes));
    CHECK(outcome == Outcome::done);
    const off_t stretch = kShortWayProbeBytes;
    CHECK(looked_at == std::vector<off_t>{0, stretch, 2 * stretch, 3 * stretch, kEnd - 1});
  }
  SUBCASE("one in the middle isn't") {
    missing = 2 * kShortWayProbeBytes;
    CHECK_FALSE(transfer.step_if_short(&outcome, kShortStretchBytes));
    CHECK(transfer.transferred() == 0);
  }
}

TEST_CASE("whether the file ends where the transfer does") {
  DescriptorGuard guard;
  AllResident resident;
  uint64_t size = 0;
  SUBCASE("by reading") {
    size = 4097;
  }
  SUBCASE("by sendfile") {
    size = kBeyondReadWay;
  }
  TestFile file(size);
  SocketPair pair(Family::unix_stream);
  const auto ends = [&](uint64_t length) {
    GatherTransfer transfer(pair.sender(), gather(file.range(0, length)));
    CHECK(transfer.step() == Outcome::done);
    receive(pair.receiver(), length);
    return transfer.is_at_file_end();
  };
  CHECK(ends(size));
  CHECK_FALSE(ends(size - 1));
  file.truncate(size + 1);
  CHECK_FALSE(ends(size));
}

TEST_CASE("a borrowed file becomes the transfer's own with the rest") {
  DescriptorGuard guard;
  AllResident resident;
  TestFile file(100'000);
  SocketPair pair(Family::unix_stream, Buffers::small);
  int caller = ::dup(file.fd());
  const auto borrowed = std::make_shared<const File>(caller);
  CHECK(borrowed->is_borrowed());
  {
    GatherTransfer transfer(pair.sender(), gather(Segment::of_file(borrowed, 1, 60'000),
                                                  Segment::of_file(borrowed, 5, 30'000)));
    CHECK(transfer.step() == Outcome::wait_writable);
    bool is_own = true;
    SUBCASE("there is a descriptor") {
      const size_t before = count_descriptors();
      REQUIRE(transfer.own() == 0);
      CHECK(count_descriptors() == before + 2);  // one for both segments, one for the socket
    }
    SUBCASE("there is none") {
      Seam<&Calls::duplicate> seam([](int) { return fail_with(EMFILE); });
      CHECK(transfer.own() == EMFILE);
      check_failure(transfer, Call::dup, EMFILE);
      is_own = false;
    }
    SUBCASE("the kernel doesn't tell its device") {
      Seam<&Calls::status> seam([](int, struct statx*) { return fail_with(ENOSYS); });
      REQUIRE(transfer.own() == 0);
      check_failure(transfer, Call::none, 0);
    }
    ::close(caller);
    if (!is_own) return;
    Bytes received;
    while (transfer.step() == Outcome::wait_writable) {
      const Bytes some = receive_available(pair.receiver());
      received.insert(received.end(), some.begin(), some.end());
    }
    const Bytes expected = concatenation({pattern(1, 60'000), pattern(5, 30'000)});
    CHECK(transfer.transferred() == expected.size());
    const Bytes rest = receive(pair.receiver(), expected.size() - received.size());
    CHECK(difference(concatenation({received, rest}), expected) == "");
  }
}

TEST_CASE("a transfer of its own needs neither the caller's memory nor its descriptor") {
  DescriptorGuard guard;
  AllResident resident;
  TestFile file(100'000);
  Bytes header = pattern(1'000'000, 30'000);
  const Bytes expected = concatenation({header, pattern(1, 65'537), header});
  SocketPair pair(Family::unix_stream, Buffers::small);
  {
    GatherTransfer transfer(pair.sender(),
                            gather(memory(header), file.range(1, 65'537), memory(header)));
    Bytes received;
    SUBCASE("from the start") {}
    SUBCASE("after a part of it") {
      CHECK(transfer.step() == Outcome::wait_writable);
      CHECK(transfer.transferred() > 0);
      CHECK(transfer.transferred() < header.size());
    }
    REQUIRE(transfer.own() == 0);
    CHECK(transfer.sink_fd() != pair.sender());
    CHECK((::fcntl(transfer.sink_fd(), F_GETFD) & FD_CLOEXEC) != 0);
    std::fill(header.begin(), header.end(), uint8_t{0});
    header = {};
    pair.close_sender();
    while (transfer.step() == Outcome::wait_writable) {
      const Bytes some = receive_available(pair.receiver());
      received.insert(received.end(), some.begin(), some.end());
    }
    CHECK(transfer.transferred() == expected.size());
    const Bytes rest = receive(pair.receiver(), expected.size() - received.size());
    CHECK(difference(concatenation({received, rest}), expected) == "");
  }
  // Its descriptor was the last of the socket.
  CHECK(receive_rest(pair.receiver()).empty());
}

TEST_CASE("no descriptor to be had for the socket") {
  DescriptorGuard guard;
  TestFile file(100);
  SocketPair pair(Family::tcp);
  Seam<&Calls::duplicate> seam([](int) { return fail_with(EMFILE); });
  GatherTransfer transfer(pair.sender(), gather(file.range(0, 100)));
  CHECK(transfer.own() == EMFILE);
  check_failure(transfer, Call::dup, EMFILE);
  CHECK(transfer.transferred() == 0);
  CHECK(transfer.sink_fd() == pair.sender());
}

GatherTransfer to_pipe(const Channel& pipe, std::vector<Segment> segments) {
  return GatherTransfer(pipe.in(), std::move(segments), Endpoint::pipe);
}

TEST_CASE("into a pipe a range of any size arrives whole, by splice or by reading") {
  DescriptorGuard guard;
  AllResident resident;
  TestFile file(200'000);
  Seam<&Calls::sendfile> sendfiles([](int, int, off_t*, size_t) { return fail_with(EBADF); });
  Seam<&Calls::send> sends([](int, const iovec*, size_t, int) { return fail_with(ENOTSOCK); });
  for (const Buffers buffers : {Buffers::usual, Buffers::small}) {
    for (const uint64_t size : kSizes) {
      for (const uint64_t offset : {uint64_t{0}, uint64_t{4095}}) {
        CAPTURE(static_cast<int>(buffers));
        CAPTURE(size);
        CAPTURE(offset);
        REQUIRE(::lseek(file.fd(), 11, SEEK_SET) == 11);
        Channel pipe(Kind::pipe, buffers);
        GatherTransfer transfer = to_pipe(pipe, gather(file.range(offset, size)));
        const Driven driven = drive(transfer, pipe);
        CHECK(driven.outcome == Outcome::done);
        CHECK(difference(driven.received, pattern(offset, size)) == "");
        CHECK(transfer.transferred() == size);
        const bool tiny = size > 0 && size <= kReadWayBytes;
        // What a small pipe doesn't take of what has been read is spliced.
        if (buffers == Buffers::usual || !tiny || size <= 4096)
          CHECK(transfer.backend() == (tiny ? Backend::read : Backend::splice));
        check_failure(transfer, Call::none, 0);
        CHECK(::lseek(file.fd(), 0, SEEK_CUR) == 11);
        CHECK_FALSE(transfer.may_block());
      }
    }
  }
}

TEST_CASE("into a pipe a gather list arrives in its order") {
  DescriptorGuard guard;
  AllResident resident;
  TestFile first(100'000), second(100'000);
  const Bytes header = pattern(1'000'000, 100), middle = pattern(2'000'000, 70'000),
              trailer = pattern(3'000'000, 1), none;
  const Bytes expected = concatenation(
      {header, pattern(1, 65'537), middle, pattern(4096, 4096), pattern(0, 1), trailer});
  for (const Buffers buffers : {Buffers::usual, Buffers::small}) {
    Channel pipe(Kind::pipe, buffers);
    GatherTransfer transfer = to_pipe(
        pipe, gather(memory(none), memory(header), first.range(0, 0), first.range(1, 65'537),
                     memory(none), memory(middle), second.range(4096, 4096), first.range(0, 1),
                     second.range(9, 0), memory(trailer), memory(none)));
    const Driven driven = drive(transfer, pipe);
    CHECK(driven.outcome == Outcome::done);
    CHECK(difference(driven.received, expected) == "");
    CHECK(transfer.transferred() == expected.size());
    CHECK(transfer.backend() == Backend::splice);
  }
  SUBCASE("200 pieces of memory") {
    std::vector<Bytes> pieces;
    for (uint64_t i = 0; i < 200; ++i) pieces.push_back(pattern(i * 1000, 300 + i));
    Bytes all;
    std::vector<Segment> segments;
    for (const Bytes& piece : pieces) {
      segments.push_back(memory(piece));
      all.insert(all.end(), piece.begin(), piece.end());
    }
    Channel pipe(Kind::pipe);
    GatherTransfer transfer = to_pipe(pipe, std::move(segments));
    const Driven driven = drive(transfer, pipe);
    CHECK(driven.outcome == Outcome::done);
    CHECK(difference(driven.received, all) == "");
  }
}

TEST_CASE("into a pipe a large range goes to a slow reader") {
  DescriptorGuard guard;
  AllResident resident;
  constexpr uint64_t kLength = 2 * kStepBytes + 4097;
  TestFile file(kLength + 3);
  Channel pipe(Kind::pipe);
  std::vector<uint64_t> asked;
  Seam<&Calls::splice> splices(
      [&](int in, loff_t* from, int out, loff_t* to, size_t count, unsigned flags) {
        CHECK(in == file.fd());
        CHECK(out == pipe.in());
        CHECK((flags & SPLICE_F_NONBLOCK) != 0);
        asked.push_back(static_cast<uint64_t>(*from) + count);
        return kernel.splice(in, from, out, to, count, flags);
      });
  GatherTransfer transfer = to_pipe(pipe, gather(file.range(3, kLength)));
  CHECK(transfer.step() == Outcome::wait_writable);
  CHECK(transfer.step() == Outcome::wait_writable);
  const uint64_t filled = transfer.transferred();
  CHECK(filled > 0);
  CHECK(filled <= static_cast<uint64_t>(::fcntl(pipe.in(), F_GETPIPE_SZ)));
  check_failure(transfer, Call::none, 0);
  const Driven driven = drive(transfer, pipe);
  CHECK(driven.outcome == Outcome::done);
  CHECK(difference(driven.received, pattern(3, kLength)) == "");
  CHECK(*std::max_element(asked.begin(), asked.end()) <= 3 + kLength);
}

TEST_CASE("into a pipe that is full, memory and what is read wait") {
  DescriptorGuard guard;
  AllResident resident;
  TestFile file(100'000);
  const Bytes bytes = pattern(1'000'000, 70'000);
  Channel pipe(Kind::pipe, Buffers::small);
  const size_t filled = pipe.fill();
  std::vector<Segment> segments;
  Bytes expected;
  SUBCASE("memory") {
    segments = gather(memory(bytes));
    expected = bytes;
  }
  SUBCASE("a tiny file, which is read") {
    segments = gather(file.range(1, 4097));
    expected = pattern(1, 4097);
  }
  SUBCASE("a file") {
    segments = gather(file.range(1, 65'537));
    expected = pattern(1, 65'537);
  }
  GatherTransfer transfer = to_pipe(pipe, std::move(segments));
  CHECK(transfer.step() == Outcome::wait_writable);
  CHECK(transfer.transferred() == 0);
  CHECK(receive(pipe.out(), filled).size() == filled);
  const Driven driven = drive(transfer, pipe);
  CHECK(driven.outcome == Outcome::done);
  CHECK(difference(driven.received, expected) == "");
}

TEST_CASE("into a pipe whose reader has gone it is EPIPE") {
  DescriptorGuard guard;
  AllResident resident;
  TestFile file(400'000);
  const Bytes bytes = pattern(0, 400'000);
  const std::pair<bool, Call> cases[] = {{true, Call::splice}, {false, Call::write}};
  for (const auto& [from_file, call] : cases) {
    for (const bool at_once : {true, false}) {
      CAPTURE(from_file);
      CAPTURE(at_once);
      Channel pipe(Kind::pipe);
      GatherTransfer transfer =
          to_pipe(pipe, from_file ? gather(file.range(0, 400'000)) : gather(memory(bytes)));
      if (!at_once) CHECK(transfer.step() == Outcome::wait_writable);
      const uint64_t gone = transfer.transferred();
      CHECK((gone == 0) == at_once);
      pipe.close_out();
      CHECK(transfer.step() == Outcome::failed);
      check_failure(transfer, call, EPIPE);
      CHECK(transfer.transferred() == gone);
      CHECK_FALSE(transfer.source_failed());
      CHECK(transfer.residual().empty());
    }
  }
  SUBCASE("by reading") {
    Channel pipe(Kind::pipe);
    pipe.close_out();
    GatherTransfer transfer = to_pipe(pipe, gather(file.range(0, 4097)));
    CHECK(transfer.step() == Outcome::failed);
    check_failure(transfer, Call::write, EPIPE);
  }
}

TEST_CASE("into a pipe what the kernel can't do is unsupported at a segment's first call only") {
  DescriptorGuard guard;
  AllResident resident;
  TestFile file(200'000);
  for (const int error : kUnsupported) {
    const std::pair<int, Outcome> cases[] = {{0, Outcome::unsupported},
                                             {3, Outcome::failed},
                                             {6, Outcome::unsupported},
                                             {8, Outcome::failed}};
    for (const auto& [at, outcome] : cases) {
      CAPTURE(error);
      CAPTURE(at);
      Channel pipe(Kind::pipe);
      REQUIRE(sys::set_pipe_size(pipe.in(), 256 * 1024).ok());
      int calls = 0;
      Seam<&Calls::splice> splices([&, at = at](int in, loff_t* from, int out, loff_t* to,
                                                size_t count, unsigned flags) -> ssize_t {
        if (calls++ == at) return fail_with(error);
        return kernel.splice(in, from, out, to, std::min<size_t>(count, 5000), flags);
      });
      GatherTransfer transfer = to_pipe(pipe, gather(file.range(0, 30'000), file.range(1, 30'000)));
      const Driven driven = drive(transfer, pipe);
      CHECK(driven.outcome == outcome);
      check_failure(transfer, Call::splice, error);
      CHECK(transfer.transferred() == static_cast<uint64_t>(at) * 5000);
      CHECK(driven.received.size() == transfer.transferred());
    }
    Seam<&Calls::write> writes([error](int, const iovec*, int) { return fail_with(error); });
    const Bytes bytes = pattern(0, 100);
    Channel pipe(Kind::pipe);
    GatherTransfer transfer = to_pipe(pipe, gather(memory(bytes)));
    CHECK(transfer.step() == Outcome::failed);
    check_failure(transfer, Call::write, error);
  }
}

TEST_CASE("into a pipe a file that ends before its range does is truncated, a cold one warmed") {
  DescriptorGuard guard;
  TestFile file(100'000);
  SUBCASE("truncated") {
    AllResident resident;
    file.truncate(50'001);
    Channel pipe(Kind::pipe);
    GatherTransfer transfer = to_pipe(pipe, gather(file.range(1, 99'999)));
    const Driven driven = drive(transfer, pipe);
    CHECK(driven.outcome == Outcome::truncated);
    CHECK(difference(driven.received, pattern(1, 50'000)) == "");
  }
  SUBCASE("cold") {
    AllCold cold;
    Channel pipe(Kind::pipe);
    GatherTransfer transfer = to_pipe(pipe, gather(file.range(1, 4097)));
    CHECK(transfer.step() == Outcome::cold);
    CHECK(transfer.cold_range().offset == 1);
    const Driven driven = drive(transfer, pipe);
    CHECK(driven.outcome == Outcome::done);
    CHECK(transfer.backend() == Backend::splice);
    CHECK(difference(driven.received, pattern(1, 4097)) == "");
  }
}

TEST_CASE("into a pipe the short way ends where it is full, and goes on from there") {
  DescriptorGuard guard;
  AllResident resident;
  TestFile file(400'000);
  const Bytes header = pattern(1'000'000, 100);
  Channel pipe(Kind::pipe);
  Outcome outcome = Outcome::cancelled;
  GatherTransfer tiny = to_pipe(pipe, gather(memory(header), file.range(1, 4097)));
  CHECK(tiny.step_if_short(&outcome));
  CHECK(outcome == Outcome::done);
  CHECK(tiny.backend() == Backend::read);
  CHECK(tiny.is_at_file_end() == false);
  CHECK(difference(receive(pipe.out(), 4197), concatenation({header, pattern(1, 4097)})) == "");

  GatherTransfer transfer = to_pipe(pipe, gather(memory(header), file.range(1, 300'000)));
  CHECK(transfer.step_if_short(&outcome, kShortStretchBytes));
  CHECK(outcome == Outcome::wait_writable);
  CHECK(transfer.transferred() > header.size());
  const Driven driven = drive(transfer, pipe);
  CHECK(driven.outcome == Outcome::done);
  CHECK(difference(driven.received, concatenation({header, pattern(1, 300'000)})) == "");
}

}  // namespace
}  // namespace zerocopy::test
