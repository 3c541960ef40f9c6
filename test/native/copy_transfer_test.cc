#include "copy_transfer.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>

#include "helpers.h"

namespace zerocopy::test {
namespace {

using Sink = CopyTransfer::Sink;
using Holes = CopyTransfer::Holes;

constexpr uint64_t kMiB = 1024 * 1024;
constexpr int kUnsupported[] = {EXDEV, ENOSYS, EINVAL, EOPNOTSUPP, EPERM, EBADF, EIO};

// What a call does: its first `good` calls move `limit` bytes at most, then it fails. Without an
// error it moves nothing from there on.
struct Plan {
  int good = 1'000'000'000;
  int error = 0;
  size_t limit = ~size_t{0};
};

Plan always(int error) {
  return {0, error};
}

Plan in_pieces(size_t limit, int good, int error) {
  return {good, error, limit};
}

// The calls of each way, counted, and each as planned.
class Ways {
 public:
  explicit Ways(Plan copy = {}, Plan send = {}, Plan read = {}, Plan write = {})
      : copy_seam_([this, copy](int in, loff_t* from, int out, loff_t* to, size_t count) {
          return run(copy, &copies, count,
                     [&](size_t most) { return kernel.copy_file_range(in, from, out, to, most); });
        }),
        send_seam_([this, send](int out, int in, off_t* from, size_t count) {
          return run(send, &sends, count,
                     [&](size_t most) { return kernel.sendfile(out, in, from, most); });
        }),
        read_seam_([this, read](int fd, void* buffer, size_t count, off_t from) {
          return run(read, &reads, count,
                     [&](size_t most) { return kernel.read(fd, buffer, most, from); });
        }),
        write_seam_([this, write](int fd, const iovec* parts, int) {
          return run(write, &writes, parts->iov_len, [&](size_t most) {
            const iovec part{parts->iov_base, most};
            return kernel.write(fd, &part, 1);
          });
        }),
        write_at_seam_([this, write](int fd, const void* data, size_t count, off_t to) {
          return run(write, &writes, count,
                     [&](size_t most) { return kernel.write_at(fd, data, most, to); });
        }) {}

  int copies = 0;
  int sends = 0;
  int reads = 0;
  int writes = 0;
  size_t most = 0;  // that any call was asked for

 private:
  ssize_t run(const Plan& plan, int* calls, size_t count,
              const std::function<ssize_t(size_t)>& call) {
    most = std::max(most, count);
    if ((*calls)++ >= plan.good) return plan.error == 0 ? 0 : fail_with(plan.error);
    return call(std::min(count, plan.limit));
  }

  Seam<&Calls::copy_file_range> copy_seam_;
  Seam<&Calls::sendfile> send_seam_;
  Seam<&Calls::read> read_seam_;
  Seam<&Calls::write> write_seam_;
  Seam<&Calls::write_at> write_at_seam_;
};

// Each way, by what has to fail before it.
struct Way {
  Backend backend;
  Plan copy;
  Plan send;
};

const Way kWays[] = {
    {Backend::copy_file_range, {}, {}},
    {Backend::sendfile, always(EXDEV), {}},
    {Backend::read, always(EXDEV), always(EINVAL)},
};

Outcome finish(Transfer& transfer, uint64_t budget = kStepBytes) {
  Outcome outcome;
  while ((outcome = transfer.step(budget)) == Outcome::again) {
  }
  return outcome;
}

off_t position(int fd) {
  return ::lseek(fd, 0, SEEK_CUR);
}

void set_position(int fd, off_t offset) {
  REQUIRE(::lseek(fd, offset, SEEK_SET) == offset);
}

uint64_t bytes_on_disk(int fd) {
  struct stat status;
  REQUIRE(::fsync(fd) == 0);
  REQUIRE(::fstat(fd, &status) == 0);
  return static_cast<uint64_t>(status.st_blocks) * 512;
}

void check_failure(const Transfer& transfer, Call call, int error) {
  CHECK(transfer.failed_call() == call);
  CHECK(transfer.error() == error);
}

// A sink at an offset, whose position is the transfer's to move.
Sink seekable(const TestFile& file, int64_t offset) {
  Sink sink{file.fd(), offset, file.device()};
  sink.may_seek = true;
  return sink;
}

Sink empty_sink(const TestFile& file, Holes holes = Holes::kept) {
  Sink sink = seekable(file, 0);
  sink.holes = holes;
  return sink;
}

TEST_CASE("a range of any size is copied, each way, at an offset and at the position") {
  DescriptorGuard guard;
  TestFile source(200'000);
  for (const Way& way : kWays) {
    for (const uint64_t size : kSizes) {
      for (const bool at_offset : {true, false}) {
        CAPTURE(static_cast<int>(way.backend));
        CAPTURE(size);
        CAPTURE(at_offset);
        TestFile sink(0);
        Ways ways(way.copy, way.send);
        set_position(source.fd(), 11);
        set_position(sink.fd(), 4097);
        CopyTransfer transfer(at_offset ? seekable(sink, 4097) : Sink{sink.fd()},
                              gather(source.range(4095, size)));
        CHECK(finish(transfer) == Outcome::done);
        CHECK(transfer.transferred() == size);
        CHECK(transfer.backend() == (size == 0 ? Backend::copy_file_range : way.backend));
        check_failure(transfer, Call::none, 0);
        CHECK_FALSE(transfer.source_failed());
        CHECK(transfer.residual().empty());
        const Bytes content = content_of(sink.fd());
        CHECK(difference(content,
                         concatenation({Bytes(size == 0 ? 0 : 4097), pattern(4095, size)})) == "");
        CHECK(position(source.fd()) == 11);
        if (!at_offset) CHECK(position(sink.fd()) == static_cast<off_t>(4097 + size));
      }
    }
  }
}

TEST_CASE("a sink whose position is not the transfer's stays where it is") {
  DescriptorGuard guard;
  TestFile source(200'000);
  for (const Way& way : kWays) {
    CAPTURE(static_cast<int>(way.backend));
    TestFile sink(100);
    set_position(sink.fd(), 7);
    Ways ways(way.copy, way.send);
    CopyTransfer transfer({sink.fd(), 50, 0}, gather(source.range(0, 65'537)));
    CHECK(finish(transfer) == Outcome::done);
    CHECK(position(sink.fd()) == 7);
    CHECK(ways.sends == 0);
    CHECK(transfer.backend() != Backend::sendfile);
    CHECK(difference(content_of(sink.fd()), concatenation({pattern(0, 50), pattern(0, 65'537)})) ==
          "");
  }
}

TEST_CASE("a copy says where it may block, and waits for nothing") {
  TestFile source(1), sink(0);
  CopyTransfer transfer({sink.fd(), 0, 4711}, gather(source.range(0, 1)));
  CHECK(transfer.may_block());
  CHECK(transfer.device() == 4711);
  CHECK(transfer.sink_fd() == sink.fd());
  CHECK(transfer.source_fd() == -1);
}

TEST_CASE("whatever may mean that a way can't serve leads to the next") {
  DescriptorGuard guard;
  TestFile source(100'000);
  for (const int error : kUnsupported) {
    for (const int next_error : {0, EINVAL, EIO, ENOSYS}) {
      for (const bool at_offset : {true, false}) {
        CAPTURE(error);
        CAPTURE(next_error);
        CAPTURE(at_offset);
        TestFile sink(0);
        Ways ways(always(error), next_error == 0 ? Plan{} : always(next_error));
        CopyTransfer transfer(at_offset ? seekable(sink, 0) : Sink{sink.fd()},
                              gather(source.range(3, 65'537)));
        CHECK(finish(transfer) == Outcome::done);
        check_failure(transfer, Call::none, 0);
        CHECK(transfer.backend() == (next_error == 0 ? Backend::sendfile : Backend::read));
        CHECK(ways.copies == 1);
        CHECK(ways.sends >= 1);
        CHECK((ways.reads == 0) == (next_error == 0));
        CHECK(difference(content_of(sink.fd()), pattern(3, 65'537)) == "");
      }
    }
  }
}

TEST_CASE("what is an error in every way is one at once") {
  DescriptorGuard guard;
  TestFile source(100'000);
  for (const int error : {ENOSPC, EFBIG, EDQUOT, ENOMEM, EROFS}) {
    CAPTURE(error);
    {
      TestFile sink(0);
      Ways ways(always(error));
      CopyTransfer transfer({sink.fd(), 0, 0}, gather(source.range(0, 65'537)));
      CHECK(finish(transfer) == Outcome::failed);
      check_failure(transfer, Call::copy_file_range, error);
      CHECK(ways.copies + ways.sends + ways.reads == 1);
    }
    {
      TestFile sink(0);
      Ways ways(always(EXDEV), always(error));
      CopyTransfer transfer({sink.fd()}, gather(source.range(0, 65'537)));
      CHECK(finish(transfer) == Outcome::failed);
      check_failure(transfer, Call::sendfile, error);
      CHECK(ways.reads == 0);
    }
    {
      TestFile sink(0);
      Ways ways(always(EXDEV), always(EINVAL), {}, always(error));
      CopyTransfer transfer({sink.fd()}, gather(source.range(0, 65'537)));
      CHECK(finish(transfer) == Outcome::failed);
      check_failure(transfer, Call::write, error);
      CHECK(transfer.transferred() == 0);
    }
  }
}

TEST_CASE("the last way's errors are what they are") {
  DescriptorGuard guard;
  TestFile source(100'000), sink(0);
  for (const int error : kUnsupported) {
    CAPTURE(error);
    {
      Ways ways(always(error), always(error), always(error));
      CopyTransfer transfer({sink.fd()}, gather(source.range(0, 65'537)));
      CHECK(finish(transfer) == Outcome::failed);
      check_failure(transfer, Call::read, error);
    }
    {
      Ways ways(always(error), always(error), {}, always(error));
      CopyTransfer transfer({sink.fd(), 0, 0}, gather(source.range(0, 65'537)));
      CHECK(finish(transfer) == Outcome::failed);
      check_failure(transfer, Call::write, error);
    }
  }
}

TEST_CASE("after a segment's first bytes any error is a failure, and tells how far it has come") {
  DescriptorGuard guard;
  TestFile source(100'000);
  for (const int error : {EXDEV, EINVAL, EIO, ENOSPC, EFBIG, EBADF}) {
    for (const bool at_offset : {true, false}) {
      CAPTURE(error);
      CAPTURE(at_offset);
      const Plan plan = in_pieces(5000, 3, error);
      const auto check = [&](Call call, Plan copy, Plan send, Plan read, Plan write) {
        TestFile sink(0);
        Ways ways(copy, send, read, write);
        CopyTransfer transfer(at_offset ? seekable(sink, 0) : Sink{sink.fd()},
                              gather(source.range(1, 65'537)));
        CHECK(finish(transfer) == Outcome::failed);
        check_failure(transfer, call, error);
        CHECK(transfer.transferred() == 15'000);
        CHECK(difference(content_of(sink.fd()), pattern(1, 15'000)) == "");
      };
      check(Call::copy_file_range, plan, {}, {}, {});
      check(Call::sendfile, always(EXDEV), plan, {}, {});
      check(Call::read, always(EXDEV), always(EINVAL), plan, {});
      check(Call::write, always(EXDEV), always(EINVAL), {}, plan);
    }
  }
}

TEST_CASE("a sink whose position can't be set is no failure of sendfile") {
  DescriptorGuard guard;
  TestFile source(100'000);
  for (const int error : {EINVAL, ESPIPE}) {
    CAPTURE(error);
    TestFile sink(0);
    Ways ways(always(EXDEV));
    Seam<&Calls::seek> seeks([error](int, off_t, int) -> off_t { return fail_with(error); });
    CopyTransfer transfer(seekable(sink, 0), gather(source.range(1, 65'537)));
    const bool has_another_way = error == EINVAL;
    CHECK(finish(transfer) == (has_another_way ? Outcome::done : Outcome::failed));
    check_failure(transfer, has_another_way ? Call::none : Call::lseek,
                  has_another_way ? 0 : error);
    CHECK(ways.sends == 0);
  }
}

TEST_CASE("each segment begins with the best way, and the slowest is told") {
  DescriptorGuard guard;
  TestFile first(100'000), second(100'000);
  const auto copy = [&](const Plan& copy_plan, const Plan& send_plan) {
    TestFile sink(0);
    int copies = 0, sends = 0;
    Seam<&Calls::copy_file_range> copy_seam(
        [&](int in, loff_t* from, int out, loff_t* to, size_t count) -> ssize_t {
          return copies++ < copy_plan.good ? fail_with(copy_plan.error)
                                           : kernel.copy_file_range(in, from, out, to, count);
        });
    Seam<&Calls::sendfile> send_seam([&](int out, int in, off_t* from, size_t count) -> ssize_t {
      return sends++ < send_plan.good ? fail_with(send_plan.error)
                                      : kernel.sendfile(out, in, from, count);
    });
    CopyTransfer transfer({sink.fd()}, gather(first.range(0, 30'000), second.range(5, 30'000)));
    CHECK(finish(transfer) == Outcome::done);
    CHECK(copies == 2);
    CHECK(difference(content_of(sink.fd()),
                     concatenation({pattern(0, 30'000), pattern(5, 30'000)})) == "");
    return transfer.backend();
  };
  CHECK(copy({0, 0}, {0, 0}) == Backend::copy_file_range);
  CHECK(copy({1, EXDEV}, {0, 0}) == Backend::sendfile);
  CHECK(copy({1, EXDEV}, {1, EINVAL}) == Backend::read);
  CHECK(copy({2, EXDEV}, {1, EINVAL}) == Backend::read);
  CHECK(copy({2, EXDEV}, {0, 0}) == Backend::sendfile);
}

TEST_CASE("a gather list is written in its order, each way") {
  DescriptorGuard guard;
  TestFile first(100'000), second(100'000);
  const Bytes header = pattern(1'000'000, 100), middle = pattern(2'000'000, 70'000),
              trailer = pattern(3'000'000, 1), none;
  const Bytes expected = concatenation(
      {header, pattern(1, 65'537), middle, pattern(4096, 4096), pattern(0, 1), trailer});
  for (const Way& way : kWays) {
    for (const bool at_offset : {true, false}) {
      for (const size_t limit : {~size_t{0}, size_t{997}}) {
        CAPTURE(static_cast<int>(way.backend));
        CAPTURE(at_offset);
        CAPTURE(limit);
        const Plan whole{1'000'000'000, 0, limit};
        TestFile sink(0);
        Ways ways(way.backend == Backend::copy_file_range ? whole : way.copy,
                  way.backend == Backend::sendfile ? whole : way.send, whole, whole);
        CopyTransfer transfer(
            at_offset ? seekable(sink, 0) : Sink{sink.fd()},
            gather(memory(none), memory(header), first.range(0, 0), first.range(1, 65'537),
                   memory(none), memory(middle), second.range(4096, 4096), first.range(0, 1),
                   second.range(9, 0), memory(trailer), memory(none)));
        CHECK(finish(transfer) == Outcome::done);
        CHECK(difference(content_of(sink.fd()), expected) == "");
        CHECK(transfer.transferred() == expected.size());
        CHECK(transfer.backend() == way.backend);
      }
    }
  }
}

TEST_CASE("memory alone goes by writing") {
  DescriptorGuard guard;
  const Bytes bytes = pattern(0, 70'000);
  for (const int64_t offset : {-1, 0, 100}) {
    CAPTURE(offset);
    TestFile sink(0);
    Ways ways;
    CopyTransfer transfer({sink.fd(), offset, 0}, gather(memory(bytes)));
    CHECK(finish(transfer) == Outcome::done);
    CHECK(ways.writes == 1);
    CHECK(difference(content_of(sink.fd()),
                     concatenation(
                         {Bytes(static_cast<size_t>(std::max<int64_t>(0, offset))), bytes})) == "");
  }
  CHECK(CopyTransfer({-1}, {}).step() == Outcome::done);
}

TEST_CASE("a write that fails tells how much of the memory has gone") {
  DescriptorGuard guard;
  const Bytes bytes = pattern(0, 70'000);
  // 0: a sink that takes none and says nothing.
  for (const int error : {ENOSPC, EFBIG, EIO, EINVAL, EBADF, 0}) {
    for (const int64_t offset : {-1, 0}) {
      CAPTURE(error);
      CAPTURE(offset);
      TestFile sink(0);
      Ways ways({}, {}, {}, in_pieces(5000, 3, error));
      CopyTransfer transfer({sink.fd(), offset, 0}, gather(memory(bytes)));
      CHECK(finish(transfer) == Outcome::failed);
      check_failure(transfer, Call::write, error == 0 ? EIO : error);
      CHECK(transfer.transferred() == 15'000);
      CHECK(difference(content_of(sink.fd()), pattern(0, 15'000)) == "");
    }
  }
}

TEST_CASE("a sink that takes none of what was read is not the end of the source") {
  DescriptorGuard guard;
  TestFile source(100'000);
  for (const uint64_t length : {uint64_t{65'537}, kToTheEnd}) {
    for (const int64_t offset : {-1, 0}) {
      CAPTURE(length);
      CAPTURE(offset);
      TestFile sink(0);
      Ways ways(always(EXDEV), always(EINVAL), {}, in_pieces(5000, 3, 0));
      CopyTransfer transfer({sink.fd(), offset, 0}, gather(source.range(1, length)));
      CHECK(finish(transfer) == Outcome::failed);
      check_failure(transfer, Call::write, EIO);
      CHECK(transfer.transferred() == 15'000);
      CHECK(difference(content_of(sink.fd()), pattern(1, 15'000)) == "");
    }
  }
}

TEST_CASE("a full device and a limit of a file's size, as they really are") {
  DescriptorGuard guard;
  TestFile source(100'000);
  SUBCASE("full") {
    const UniqueFd full(::open("/dev/full", O_WRONLY | O_CLOEXEC));
    REQUIRE(full);
    CopyTransfer transfer({full.get()}, gather(source.range(0, 65'537)));
    CHECK(finish(transfer) == Outcome::failed);
    CHECK(transfer.error() == ENOSPC);
    CHECK(transfer.transferred() == 0);
  }
  SUBCASE("as large as it may be") {
    constexpr rlim_t kMost = 40'000;
    TestFile sink(0);
    const auto before = ::signal(SIGXFSZ, SIG_IGN);
    rlimit limit;
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &limit) == 0);
    const rlimit small{kMost, limit.rlim_max};
    for (const Way& way : kWays) {
      for (const bool at_offset : {true, false}) {
        CAPTURE(static_cast<int>(way.backend));
        CAPTURE(at_offset);
        sink.truncate(0);
        set_position(sink.fd(), 0);
        Ways ways(way.copy, way.send);
        CopyTransfer transfer(at_offset ? seekable(sink, 0) : Sink{sink.fd()},
                              gather(source.range(0, 65'537)));
        REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
        const Outcome outcome = finish(transfer);
        REQUIRE(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
        CHECK(outcome == Outcome::failed);
        CHECK(transfer.error() == EFBIG);
        CHECK(transfer.transferred() <= kMost);
        CHECK(difference(content_of(sink.fd()), pattern(0, transfer.transferred())) == "");
      }
    }
    ::signal(SIGXFSZ, before);
  }
}

TEST_CASE("a source that ends before its range does is truncated, each way") {
  DescriptorGuard guard;
  const Bytes header = pattern(1'000'000, 100);
  for (const Way& way : kWays) {
    for (const bool at_offset : {true, false}) {
      CAPTURE(static_cast<int>(way.backend));
      CAPTURE(at_offset);
      TestFile source(100'000), sink(0);
      const Sink to = at_offset ? seekable(sink, 0) : Sink{sink.fd()};
      source.truncate(50'001);
      {
        Ways ways(way.copy, way.send);
        CopyTransfer transfer(to, gather(memory(header), source.range(1, 99'999), memory(header)));
        CHECK(finish(transfer) == Outcome::truncated);
        CHECK(transfer.transferred() == 50'100);
        CHECK(transfer.backend() == way.backend);
        check_failure(transfer, Call::none, 0);
        CHECK(difference(content_of(sink.fd()), concatenation({header, pattern(1, 50'000)})) == "");
      }
      source.truncate(0);
      sink.truncate(0);
      {
        Ways ways(way.copy, way.send);
        CopyTransfer transfer({sink.fd(), 0, 0}, gather(source.range(0, 100)));
        CHECK(finish(transfer) == Outcome::truncated);
        CHECK(transfer.transferred() == 0);
      }
      // Between two calls: each is told of the end.
      TestFile shrinking(100'000);
      {
        const Plan plan = in_pieces(5000, 3, 0), nothing = always(0);
        const bool copies = way.backend == Backend::copy_file_range;
        const bool sends = way.backend == Backend::sendfile;
        Ways ways(copies ? plan : way.copy,
                  sends    ? plan
                  : copies ? nothing
                           : way.send,
                  copies || sends ? nothing : plan);
        CopyTransfer transfer(to, gather(shrinking.range(0, 99'999)));
        set_position(sink.fd(), 0);
        CHECK(finish(transfer) == Outcome::truncated);
        CHECK(transfer.transferred() == 15'000);
        CHECK(transfer.backend() == way.backend);
        CHECK(difference(content_of(sink.fd()), pattern(0, 15'000)) == "");
      }
    }
  }
}

TEST_CASE("where a call sees an end that is none, reading has the last word") {
  DescriptorGuard guard;
  TestFile source(100'000);
  for (const int good : {0, 2}) {
    CAPTURE(good);
    TestFile sink(0);
    Ways ways(in_pieces(5000, good, 0), always(0));
    CopyTransfer transfer({sink.fd()}, gather(source.range(0, 65'537)));
    CHECK(finish(transfer) == Outcome::done);
    CHECK(transfer.backend() == Backend::read);
    CHECK(difference(content_of(sink.fd()), pattern(0, 65'537)) == "");
  }
}

TEST_CASE("a range to the end goes by reading to wherever that is") {
  DescriptorGuard guard;
  SUBCASE("of files that say that they are empty") {
    const Bytes header = pattern(0, 100);
    for (const char* path : {"/proc/version", "/proc/filesystems", "/proc/kallsyms"}) {
      CAPTURE(path);
      const auto file =
          std::make_shared<const File>(UniqueFd(::open(path, O_RDONLY | O_CLOEXEC)), uint64_t{1});
      if (file->fd() < 0) continue;  // a kernel without it
      const Bytes expected = content_of(file->fd());
      CHECK_FALSE(expected.empty());
      for (const int64_t offset : {-1, 0}) {
        TestFile sink(0);
        CopyTransfer transfer(
            {sink.fd(), offset, 0},
            gather(memory(header), Segment::of_file(file, 0, kToTheEnd), memory(header)));
        CHECK(finish(transfer) == Outcome::done);
        CHECK(transfer.backend() == Backend::read);
        CHECK(transfer.transferred() == expected.size() + 200);
        CHECK(difference(content_of(sink.fd()), concatenation({header, expected, header})) == "");
      }
    }
  }
  SUBCASE("of others") {
    for (const uint64_t size : kSizes) {
      CAPTURE(size);
      TestFile source(size + 5), sink(0);
      Ways ways({}, {}, {}, {1'000'000'000, 0, 60'000});
      CopyTransfer transfer({sink.fd()}, gather(source.range(5, kToTheEnd)));
      CHECK(finish(transfer) == Outcome::done);
      CHECK(transfer.transferred() == size);
      CHECK(difference(content_of(sink.fd()), pattern(5, size)) == "");
      CHECK(ways.copies + ways.sends == 0);
    }
  }
  SUBCASE("unless that fails") {
    TestFile source(100'000), sink(0);
    for (const int error : {EIO, EINVAL, EISDIR}) {
      Ways ways({}, {}, in_pieces(5000, 3, error));
      CopyTransfer transfer({sink.fd(), 0, 0}, gather(source.range(0, kToTheEnd)));
      CHECK(finish(transfer) == Outcome::failed);
      check_failure(transfer, Call::read, error);
      CHECK(transfer.transferred() == 15'000);
    }
  }
}

TEST_CASE("a step copies what its budget allows") {
  DescriptorGuard guard;
  TestFile source(100'000);
  const Bytes bytes(5000);
  for (const Way& way : kWays) {
    CAPTURE(static_cast<int>(way.backend));
    TestFile sink(0);
    Ways ways(way.copy, way.send);
    CopyTransfer transfer(seekable(sink, 0), gather(source.range(0, 6000), source.range(1, 4500)));
    for (uint64_t step = 1; step <= 10; ++step) {
      CHECK(transfer.step(1000) == Outcome::again);
      CHECK(transfer.transferred() == step * 1000);
    }
    CHECK(transfer.step(1000) == Outcome::done);
    CHECK(ways.most <= 1000);
    CHECK(difference(content_of(sink.fd()), concatenation({pattern(0, 6000), pattern(1, 4500)})) ==
          "");
  }
  SUBCASE("memory goes in one call") {
    TestFile sink(0);
    CopyTransfer transfer({sink.fd()}, gather(memory(bytes), source.range(0, 10)));
    CHECK(transfer.step(1000) == Outcome::again);
    CHECK(transfer.transferred() == 5000);
    CHECK(transfer.step(1000) == Outcome::done);
  }
}

TEST_CASE("ranges of one file are copied within it") {
  DescriptorGuard guard;
  for (const Way& way : kWays) {
    CAPTURE(static_cast<int>(way.backend));
    TestFile file(100'000);
    Ways ways(way.copy, way.send);
    CopyTransfer transfer(seekable(file, 150'000), gather(file.range(7, 65'537)));
    CHECK(finish(transfer) == Outcome::done);
    CHECK(transfer.backend() == way.backend);
    CHECK(difference(content_of(file.fd()), concatenation({pattern(0, 100'000), Bytes(50'000),
                                                           pattern(7, 65'537)})) == "");
  }
}

TEST_CASE("a file opened for appending takes what comes by writing") {
  DescriptorGuard guard;
  TestFile source(100'000), sink(100);
  const UniqueFd appending(::open(sink.path().c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
  CopyTransfer transfer({appending.get()}, gather(source.range(0, 65'537)));
  CHECK(finish(transfer) == Outcome::done);
  CHECK(transfer.backend() == Backend::read);
  CHECK(difference(content_of(sink.fd()), concatenation({pattern(0, 100), pattern(0, 65'537)})) ==
        "");
}

// Data at the beginning, in the middle and, if there is any, at the end; holes between.
struct Sparse {
  static constexpr uint64_t kData = 64 * 1024;

  explicit Sparse(bool ends_with_hole) : file(kData), size(ends_with_hole ? 5 * kMiB : 6 * kMiB) {
    file.truncate(size);
    put(2 * kMiB);
    if (!ends_with_hole) put(size - kData);
    data_bytes = kData * (ends_with_hole ? 2 : 3);
  }

  void put(uint64_t offset) {
    const Bytes bytes = pattern(offset, kData);
    REQUIRE(::pwrite(file.fd(), bytes.data(), bytes.size(), static_cast<off_t>(offset)) ==
            static_cast<ssize_t>(kData));
  }

  TestFile file;
  uint64_t size;
  uint64_t data_bytes;
};

TEST_CASE("holes stay holes where they are to be kept, or get blocks of their own") {
  DescriptorGuard guard;
  for (const Way& way : kWays) {
    for (const bool ends_with_hole : {true, false}) {
      for (const Holes holes : {Holes::any, Holes::kept, Holes::filled}) {
        CAPTURE(static_cast<int>(way.backend));
        CAPTURE(ends_with_hole);
        CAPTURE(static_cast<int>(holes));
        Sparse sparse(ends_with_hole);
        if (bytes_on_disk(sparse.file.fd()) > kMiB) {
          MESSAGE("not here: a file system without holes");
          return;
        }
        TestFile sink(0, sparse.file.device());
        Ways ways(way.copy, way.send);
        CopyTransfer transfer(empty_sink(sink, holes), gather(sparse.file.range(0, sparse.size)));
        CHECK(finish(transfer) == Outcome::done);
        CHECK(transfer.transferred() == sparse.size);
        const bool shares = way.backend == Backend::copy_file_range && holes != Holes::filled;
        CHECK((ways.copies == 0) == (holes == Holes::filled));
        CHECK(transfer.backend() == (shares                         ? Backend::copy_file_range
                                     : way.backend == Backend::read ? Backend::read
                                                                    : Backend::sendfile));
        if (holes == Holes::kept) sink.truncate(sparse.size);
        CHECK(difference(content_of(sink.fd()), content_of(sparse.file.fd())) == "");
        const uint64_t used = bytes_on_disk(sink.fd());
        if (holes == Holes::kept) CHECK(used <= bytes_on_disk(sparse.file.fd()));
        if (holes == Holes::filled) CHECK(used >= sparse.size);
      }
    }
  }
}

TEST_CASE("filled holes are no reason to move a position that is somebody else's") {
  DescriptorGuard guard;
  Sparse sparse(true);
  TestFile sink(0);
  set_position(sink.fd(), 7);
  Ways ways;
  Sink to{sink.fd(), 0, sparse.file.device()};
  to.holes = Holes::filled;
  CopyTransfer transfer(to, gather(sparse.file.range(0, sparse.size)));
  CHECK(finish(transfer) == Outcome::done);
  CHECK(position(sink.fd()) == 7);
  CHECK(ways.sends == 0);
  CHECK(ways.copies == 0);
  CHECK(transfer.backend() == Backend::read);
  CHECK(difference(content_of(sink.fd()), content_of(sparse.file.fd())) == "");
  CHECK(bytes_on_disk(sink.fd()) >= sparse.size);
}

TEST_CASE("a file that is all hole, and one without any") {
  DescriptorGuard guard;
  TestFile hole(0), full(300'000), empty(0);
  hole.truncate(kMiB + 3);
  const std::pair<const TestFile*, uint64_t> cases[] = {
      {&hole, kMiB + 3}, {&full, 300'000}, {&empty, 0}};
  for (const auto& [file, size] : cases) {
    CAPTURE(size);
    TestFile sink(0);
    CopyTransfer transfer(empty_sink(sink), gather(file->range(0, size)));
    CHECK(finish(transfer) == Outcome::done);
    CHECK(transfer.transferred() == size);
    sink.truncate(size);
    CHECK(difference(content_of(sink.fd()), content_of(file->fd())) == "");
    if (file == &hole) CHECK(bytes_on_disk(sink.fd()) == 0);
  }
}

TEST_CASE("holes are kept within a range, and between what else is written") {
  DescriptorGuard guard;
  Sparse sparse(true);
  const Bytes header = pattern(9'000'000, 100);
  TestFile sink(0);
  // From the middle of a hole to the middle of another.
  CopyTransfer transfer(empty_sink(sink),
                        gather(memory(header), sparse.file.range(kMiB + 1, 3 * kMiB),
                               memory(header), sparse.file.range(10, 50)));
  CHECK(finish(transfer) == Outcome::done);
  CHECK(transfer.transferred() == 250 + 3 * kMiB);
  const Bytes whole = content_of(sparse.file.fd());
  const Bytes range(whole.begin() + kMiB + 1, whole.begin() + 4 * kMiB + 1);
  CHECK(difference(content_of(sink.fd()),
                   concatenation({header, range, header, pattern(10, 50)})) == "");
}

TEST_CASE("holes are asked for once a stretch, and steps are in budget") {
  DescriptorGuard guard;
  Sparse sparse(false);
  int asked = 0;
  Seam<&Calls::seek> seeks([&](int fd, off_t offset, int whence) {
    if (whence == SEEK_DATA || whence == SEEK_HOLE) ++asked;
    return kernel.seek(fd, offset, whence);
  });
  TestFile sink(0, sparse.file.device());
  CopyTransfer transfer(empty_sink(sink), gather(sparse.file.range(0, sparse.size)));
  uint64_t steps = 1;
  for (; transfer.step(1000) == Outcome::again; ++steps) {
  }
  CHECK(transfer.transferred() == sparse.size);
  CHECK(steps == sparse.data_bytes / 1000 + 1);  // holes cost nothing
  CHECK(asked == 6);
  CHECK(difference(content_of(sink.fd()), content_of(sparse.file.fd())) == "");
}

TEST_CASE("from another device holes are asked for, and data is warmed, on that device's time") {
  DescriptorGuard guard;
  Sparse sparse(false);
  TestFile sink(0);
  const Bytes header = pattern(1'000'000, 10);
  std::vector<std::string> calls;
  Seam<&Calls::seek> seeks([&](int fd, off_t offset, int whence) {
    if (whence == SEEK_DATA) calls.push_back("look");
    return kernel.seek(fd, offset, whence);
  });
  Seam<&Calls::copy_file_range> copies(
      [&](int, loff_t*, int, loff_t*, size_t) -> ssize_t { return fail_with(EXDEV); });
  Seam<&Calls::sendfile> sends([&](int out_fd, int in_fd, off_t* offset, size_t count) {
    calls.push_back("copy");
    return kernel.sendfile(out_fd, in_fd, offset, count);
  });
  int cold = 0;
  std::unique_ptr<AllCold> everything_cold;
  std::unique_ptr<AllResident> nothing_cold;
  SUBCASE("cold") {
    everything_cold = std::make_unique<AllCold>();
  }
  SUBCASE("resident") {
    nothing_cold = std::make_unique<AllResident>();
  }
  CopyTransfer transfer(empty_sink(sink),
                        gather(memory(header), sparse.file.range(0, sparse.size)));
  for (Outcome outcome = Outcome::again; outcome != Outcome::done;) {
    const uint64_t device = transfer.device();
    const size_t before = calls.size();
    outcome = transfer.step(30'000);
    for (size_t i = before; i < calls.size(); ++i)
      CHECK(device == (calls[i] == "look" ? sparse.file.device() : sink.device()));
    if (outcome != Outcome::cold) continue;
    ++cold;
    CHECK(transfer.cold_range().file == sparse.file.file());
    CHECK(transfer.cold_range().length <= kStepBytes);
    transfer.warmed();
  }
  CHECK(transfer.transferred() == sparse.size + 10);
  CHECK(std::count(calls.begin(), calls.end(), "look") == 3);
  CHECK(cold == (everything_cold ? 3 : 0));
  const Bytes expected = concatenation({header, content_of(sparse.file.fd())});
  CHECK(difference(content_of(sink.fd()), expected) == "");
}

TEST_CASE("what is on the sink's own device, or may not have to be read, is not warmed") {
  DescriptorGuard guard;
  AllCold cold;
  TestFile source(100'000);
  SUBCASE("another device, whose blocks may be shared") {
    TestFile sink(0);
    CopyTransfer transfer(empty_sink(sink), gather(source.range(0, 100'000)));
    CHECK(transfer.step() == Outcome::again);  // holes have been looked for
    CHECK(transfer.step() == Outcome::done);
  }
  SUBCASE("the same device, by reading") {
    Seam<&Calls::copy_file_range> copies(
        [&](int, loff_t*, int, loff_t*, size_t) -> ssize_t { return fail_with(EINVAL); });
    TestFile sink(0, source.device());
    CopyTransfer transfer(empty_sink(sink), gather(source.range(0, 100'000)));
    CHECK(transfer.step() == Outcome::done);
  }
}

TEST_CASE("a file system that knows nothing of holes has none") {
  DescriptorGuard guard;
  TestFile source(100'000);
  for (const int error : {EINVAL, EOPNOTSUPP, ESPIPE}) {
    CAPTURE(error);
    Seam<&Calls::seek> seeks([error](int fd, off_t offset, int whence) -> off_t {
      if (whence == SEEK_DATA || whence == SEEK_HOLE) return fail_with(error);
      return kernel.seek(fd, offset, whence);
    });
    TestFile sink(0);
    CopyTransfer transfer(empty_sink(sink), gather(source.range(1, 65'537)));
    CHECK(finish(transfer, 5000) == Outcome::done);
    CHECK(difference(content_of(sink.fd()), pattern(1, 65'537)) == "");
  }
}

TEST_CASE("where no hole is found, all of it is data") {
  DescriptorGuard guard;
  TestFile source(100'000), sink(0);
  Seam<&Calls::seek> seeks([](int fd, off_t offset, int whence) -> off_t {
    return whence == SEEK_HOLE ? fail_with(ENXIO) : kernel.seek(fd, offset, whence);
  });
  CopyTransfer transfer(empty_sink(sink), gather(source.range(1, 65'537)));
  CHECK(finish(transfer) == Outcome::done);
  CHECK(difference(content_of(sink.fd()), pattern(1, 65'537)) == "");
}

TEST_CASE("no more data is a hole in a file that is long enough, the end in one that has shrunk") {
  DescriptorGuard guard;
  TestFile source(100'000);
  Seam<&Calls::seek> seeks([](int fd, off_t offset, int whence) -> off_t {
    if (whence == SEEK_HOLE) return 30'000;
    if (whence == SEEK_DATA && offset >= 30'000) return fail_with(ENXIO);
    return kernel.seek(fd, offset, whence);
  });
  TestFile sink(0);
  CopyTransfer transfer(empty_sink(sink), gather(source.range(0, 90'000)));
  SUBCASE("a hole") {
    CHECK(finish(transfer) == Outcome::done);
    CHECK(transfer.transferred() == 90'000);
  }
  SUBCASE("the end") {
    source.truncate(89'999);
    CHECK(finish(transfer) == Outcome::truncated);
    CHECK(transfer.transferred() == 30'000);
  }
  SUBCASE("nobody knows") {
    Seam<&Calls::status> statuses([](int, struct statx*) { return fail_with(ESTALE); });
    CHECK(finish(transfer) == Outcome::failed);
    CHECK(transfer.error() == ESTALE);
    CHECK(transfer.transferred() == 30'000);
  }
  CHECK(difference(content_of(sink.fd()), pattern(0, 30'000)) == "");
}

TEST_CASE("a file that shrinks while its holes are looked for is truncated") {
  DescriptorGuard guard;
  Sparse sparse(false);
  int looks = 0;
  Seam<&Calls::seek> seeks([&](int fd, off_t offset, int whence) -> off_t {
    const off_t found = kernel.seek(fd, offset, whence);
    // After the data has been found, and before its end is looked for.
    if (whence == SEEK_DATA && ++looks == 2) CHECK(::ftruncate(fd, 2 * kMiB) == 0);
    return found;
  });
  TestFile sink(0);
  CopyTransfer transfer(empty_sink(sink), gather(sparse.file.range(0, sparse.size)));
  CHECK(finish(transfer) == Outcome::truncated);
  CHECK(transfer.transferred() <= 2 * kMiB);
  CHECK(transfer.transferred() >= Sparse::kData);
}

TEST_CASE("a hole punched where data has just been found is no end of the file") {
  DescriptorGuard guard;
  TestFile source(100'000);
  int wrong = 0;
  Seam<&Calls::seek> seeks([&](int fd, off_t offset, int whence) -> off_t {
    // What SEEK_HOLE finds then is the very offset.
    if (whence == SEEK_HOLE && wrong < 3) return ++wrong, offset;
    return kernel.seek(fd, offset, whence);
  });
  TestFile sink(0);
  CopyTransfer transfer(empty_sink(sink), gather(source.range(0, 65'537)));
  CHECK(finish(transfer) == Outcome::done);
  CHECK(transfer.transferred() == 65'537);
  CHECK(difference(content_of(sink.fd()), pattern(0, 65'537)) == "");
}

TEST_CASE("holes are kept up to an end that is not known before") {
  DescriptorGuard guard;
  for (const uint64_t size : {0, 5000, 100'000}) {
    for (const uint64_t behind : {0, 5000, 1'000'000}) {
      for (const Holes holes : {Holes::any, Holes::kept, Holes::filled}) {
        CAPTURE(size);
        CAPTURE(behind);
        CAPTURE(static_cast<int>(holes));
        TestFile source(size), sink(0, source.device());
        source.truncate(size + behind);
        CopyTransfer transfer(empty_sink(sink, holes), gather(source.range(0, kToTheEnd)));
        CHECK(finish(transfer) == Outcome::done);
        CHECK(transfer.transferred() == size + behind);
        if (holes == Holes::kept) sink.truncate(size + behind);
        CHECK(difference(content_of(sink.fd()), content_of(source.fd())) == "");
      }
    }
  }
}

TEST_CASE("a copy of its own needs neither the caller's memory nor its descriptors") {
  DescriptorGuard guard;
  TestFile source(100'000), sink(0);
  Bytes header = pattern(1'000'000, 30'000);
  const Bytes expected = concatenation({header, pattern(1, 65'537), header});
  UniqueFd caller(::dup(source.fd())), caller_sink(::dup(sink.fd()));
  const auto borrowed = std::make_shared<const File>(caller.get());
  {
    CopyTransfer transfer(
        {caller_sink.get(), 0, 0},
        gather(memory(header), Segment::of_file(borrowed, 1, 65'537), memory(header)));
    REQUIRE(transfer.own() == 0);
    CHECK(transfer.sink_fd() != caller_sink.get());
    CHECK((::fcntl(transfer.sink_fd(), F_GETFD) & FD_CLOEXEC) != 0);
    std::fill(header.begin(), header.end(), uint8_t{0});
    header = {};
    caller.reset();
    caller_sink.reset();
    CHECK(finish(transfer) == Outcome::done);
  }
  CHECK(difference(content_of(sink.fd()), expected) == "");
}

TEST_CASE("what a file system tells when the sink is closed is the copy's failure") {
  DescriptorGuard guard;
  TestFile source(100'000), sink(0);
  for (const int error : {ENOSPC, EINTR}) {
    CAPTURE(error);
    FailingClose closes(error);
    CopyTransfer transfer({sink.fd(), 0, 0}, gather(source.range(1, 65'537)));
    REQUIRE(transfer.own() == 0);
    CHECK(finish(transfer) == (error == EINTR ? Outcome::done : Outcome::failed));
    if (error != EINTR) check_failure(transfer, Call::close, error);
    CHECK(transfer.transferred() == 65'537);
    CHECK(difference(content_of(sink.fd()), pattern(1, 65'537)) == "");
  }
}

TEST_CASE("no descriptor to be had for a copy") {
  DescriptorGuard guard;
  TestFile source(100), sink(0);
  const auto borrowed = std::make_shared<const File>(source.fd());
  for (const int at : {0, 1}) {
    CAPTURE(at);
    int calls = 0;
    Seam<&Calls::duplicate> seam(
        [&](int fd) { return calls++ == at ? fail_with(EMFILE) : kernel.duplicate(fd); });
    CopyTransfer transfer({sink.fd(), 0, 0}, gather(Segment::of_file(borrowed, 0, 100)));
    CHECK(transfer.own() == EMFILE);
    check_failure(transfer, Call::dup, EMFILE);
  }
}

}  // namespace
}  // namespace zerocopy::test
