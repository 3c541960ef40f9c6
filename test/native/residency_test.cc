#include "residency.h"

#include <time.h>

#include "helpers.h"

namespace zerocopy::test {
namespace {

using Offsets = std::vector<int64_t>;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kSlowNs = 5'000'000;

// How many pages the file system says are cached, or an errno.
struct CachedPages {
  ssize_t count;
  int error;
};

// Both tests of residency, replaced: the answer for each page that is looked at, in turn.
class Oracle {
 public:
  explicit Oracle(std::vector<int> page_errors, CachedPages pages = {-1, ENOSYS})
      : errors_(std::move(page_errors)),
        looks_([this](int, void*, size_t count, off_t offset) {
          CHECK(count == 1);
          looked_at.push_back(offset);
          const size_t look = looked_at.size() - 1;
          CHECK(look < errors_.size());
          return look >= errors_.size() || errors_[look] == 0 ? 1 : fail_with(errors_[look]);
        }),
        counts_([this, pages](int, uint64_t offset, uint64_t length) {
          counted.emplace_back(offset, length);
          errno = pages.error;
          return pages.error == 0 ? pages.count : -1;
        }) {}

  Offsets looked_at;
  std::vector<std::pair<uint64_t, uint64_t>> counted;

 private:
  const std::vector<int> errors_;
  Seam<&Calls::read_nowait> looks_;
  Seam<&Calls::cached_pages> counts_;
};

void sleep_for_more_than(uint64_t nanoseconds) {
  timespec time{0, static_cast<long>(nanoseconds + nanoseconds / 5)};
  ::nanosleep(&time, nullptr);
}

// What a warm pass touches.
struct Pass {
  Offsets read_at;
  std::vector<std::pair<int64_t, size_t>> read_ahead;
};

Pass observe_warming(const TestFile& file, uint64_t offset, uint64_t length,
                     const std::function<ssize_t(size_t)>& answer) {
  Pass pass;
  Seam<&Calls::read> read([&](int, void*, size_t, off_t at) {
    pass.read_at.push_back(at);
    return answer(pass.read_at.size());
  });
  Seam<&Calls::readahead> readahead([&](int, off_t at, size_t count) {
    pass.read_ahead.emplace_back(at, count);
    return 0;
  });
  warm(*file.file(), offset, length);
  return pass;
}

ssize_t one_byte(size_t) {
  return 1;
}

TEST_CASE("a range is judged by its first and its last page") {
  TestFile file(1);
  SUBCASE("both in the page cache") {
    Oracle oracle({0, 0});
    CHECK(probe_residency(*file.file(), 100, 1'000'000) == Residency::resident);
    CHECK(oracle.looked_at == Offsets{100, 1'000'099});
    CHECK(oracle.counted.empty());
  }
  SUBCASE("the first on disk") {
    Oracle oracle({EAGAIN});
    CHECK(probe_residency(*file.file(), 100, 1'000'000) == Residency::cold);
    CHECK(oracle.counted.empty());
  }
  SUBCASE("the last on disk") {
    Oracle oracle({0, EAGAIN});
    CHECK(probe_residency(*file.file(), 100, 1'000'000) == Residency::cold);
    CHECK(oracle.counted.empty());
  }
}

TEST_CASE("one look is enough for a range within a page") {
  TestFile file(1);
  SUBCASE("the whole page") {
    Oracle oracle({0});
    CHECK(probe_residency(*file.file(), kPage, kPage) == Residency::resident);
    CHECK(oracle.looked_at == Offsets{4096});
  }
  SUBCASE("two bytes on either side of a boundary are two pages") {
    Oracle oracle({0, 0});
    CHECK(probe_residency(*file.file(), kPage - 1, 2) == Residency::resident);
    CHECK(oracle.looked_at == Offsets{4095, 4096});
  }
}

TEST_CASE("nothing is resident without a look") {
  TestFile file(1);
  Oracle oracle({});
  CHECK(probe_residency(*file.file(), 5, 0) == Residency::resident);
  CHECK(oracle.looked_at.empty());
}

TEST_CASE("the end of a file that shrank is no reason to wait for a disk") {
  TestFile file(1);
  Seam<&Calls::read_nowait> seam([](int, void*, size_t, off_t) { return 0; });
  CHECK(probe_residency(*file.file(), 4096, 8192) == Residency::resident);
}

TEST_CASE("where RWF_NOWAIT is not to be had, pages are counted") {
  DescriptorGuard guard;
  TestFile memory(1, FileSystem::memory), disk(1), served(1, FileSystem::served);
  for (const int error : {EOPNOTSUPP, ENOSYS, EPERM}) {
    CAPTURE(error);
    const std::pair<CachedPages, Residency> cases[] = {
        {{-1, ENOSYS}, Residency::unknown}, {{-1, EPERM}, Residency::unknown},
        {{0, 0}, Residency::unknown},       {{1, 0}, Residency::cold},
        {{2, 0}, Residency::cold},          {{3, 0}, Residency::resident},
        {{4, 0}, Residency::resident},
    };
    for (const TestFile* file : {&memory, &disk, &served}) {
      for (const auto& [pages, expected] : cases) {
        CAPTURE(pages.count);
        Oracle oracle({error}, pages);
        // 4095 to 8192: three pages, of two of them one byte each.
        const Residency residency = probe_residency(*file->file(), kPage - 1, kPage + 2);
        // Where pages can be on their way, those that count may be.
        const bool believed = file == &memory || expected != Residency::resident;
        CHECK(residency == (believed ? expected : Residency::unknown));
        CHECK(oracle.looked_at.size() == 1);
        REQUIRE(oracle.counted.size() == 1);
        CHECK(oracle.counted[0] == std::make_pair(kPage - 1, kPage + 2));
      }
    }
  }
}

TEST_CASE("of a borrowed file the kernel is asked whether pages that are counted are there") {
  TestFile file(1);
  const File borrowed(file.fd());
  Seam<&Calls::status> somewhere([](int, struct statx* status) {
    *status = {};
    status->stx_dev_major = 0xfff;  // no such device
    return 0;
  });
  Oracle oracle({EOPNOTSUPP}, {1, 0});
  CHECK(probe_residency(borrowed, 0, 1) == Residency::unknown);
}

TEST_CASE("a last page that can't be looked at makes the pages count") {
  TestFile file(1, FileSystem::memory);
  Oracle oracle({0, EOPNOTSUPP}, {2, 0});
  CHECK(probe_residency(*file.file(), 0, 2 * kPage) == Residency::resident);
  CHECK(oracle.counted.size() == 1);
}

TEST_CASE("warming touches each page of the range once, and reads ahead beyond it") {
  TestFile file(1);
  SUBCASE("aligned") {
    const Pass pass = observe_warming(file, kPage, 3 * kPage, one_byte);
    CHECK(pass.read_at == Offsets{4096, 8192, 12288});
    REQUIRE(pass.read_ahead.size() == 1);
    CHECK(pass.read_ahead[0] == std::make_pair(int64_t{4096}, size_t{6 * kPage}));
  }
  SUBCASE("not aligned") {
    const Pass pass = observe_warming(file, kPage - 1, kPage + 2, one_byte);
    CHECK(pass.read_at == Offsets{4095, 4096, 8192});
  }
  SUBCASE("one byte") {
    CHECK(observe_warming(file, 5, 1, one_byte).read_at == Offsets{5});
  }
}

TEST_CASE("warming stops where reading does") {
  TestFile file(1);
  const auto end_at = [](size_t end) {
    return [end](size_t reads) { return reads < end ? 1 : 0; };
  };
  CHECK(observe_warming(file, 0, 5 * kPage, end_at(3)).read_at == Offsets{0, 4096, 8192});
  const auto fail = [](size_t) { return fail_with(EIO); };
  CHECK(observe_warming(file, 0, 5 * kPage, fail).read_at == Offsets{0});
}

TEST_CASE("a warm pass that waited makes its device slow, a quick one quick again") {
  TestFile file(1), other(1);
  DeviceHistory& history = DeviceHistory::instance();
  CHECK_FALSE(history.was_slow(file.device()));
  observe_warming(file, 0, 1, [](size_t) {
    sleep_for_more_than(kSlowNs);
    return 1;
  });
  CHECK(history.was_slow(file.device()));
  CHECK_FALSE(history.was_slow(other.device()));
  // How quick it is depends on what else runs here: one of many will be.
  CHECK(eventually([&] {
    observe_warming(file, 0, 1, one_byte);
    return !history.was_slow(file.device());
  }));
}

TEST_CASE("a slow read marks a device, and only a quick warming clears it") {
  DeviceHistory history;
  history.record_read(1, kSlowNs);
  CHECK_FALSE(history.was_slow(1));
  history.record_read(1, kSlowNs + 1);
  CHECK(history.was_slow(1));
  CHECK_FALSE(history.was_slow(2));
  history.record_warming(2, 0);
  history.record_read(1, 0);
  CHECK(history.was_slow(1));
  history.record_warming(1, kSlowNs + 1);
  CHECK(history.was_slow(1));
  history.record_warming(1, kSlowNs);
  CHECK_FALSE(history.was_slow(1));
}

TEST_CASE("what is served may be slow, however quick it has been") {
  DescriptorGuard guard;
  TestFile disk(1), served(1, FileSystem::served);
  for (const TestFile* file : {&disk, &served}) {
    DeviceHistory::instance().record_warming(file->device(), 0);
    CHECK(may_be_slow(*file->file()) == (file == &served));
  }
  DeviceHistory::instance().record_read(disk.device(), kSlowNs + 1);
  CHECK(may_be_slow(*disk.file()));
}

TEST_CASE("a range that has been warmed is resident, where the file system can tell") {
  DescriptorGuard guard;
  TestFile file(64 * kPage);
  if (!file.evict()) {
    MESSAGE("not here: the file stays in the page cache, or nobody can tell");
    return;
  }
  CHECK(probe_residency(*file.file(), 10 * kPage, 20 * kPage) == Residency::cold);
  warm(*file.file(), 10 * kPage, 20 * kPage);
  CHECK(probe_residency(*file.file(), 10 * kPage, 20 * kPage) == Residency::resident);
}

}  // namespace
}  // namespace zerocopy::test
