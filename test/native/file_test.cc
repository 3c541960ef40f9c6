#include "file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "helpers.h"

namespace zerocopy::test {
namespace {

bool is_open(int fd) {
  return ::fcntl(fd, F_GETFD) >= 0;
}

UniqueFd open_for_reading(const char* path) {
  return UniqueFd(::open(path, O_RDONLY | O_CLOEXEC));
}

FileKind kind_of(int fd) {
  FileFacts facts{};
  REQUIRE(inspect(fd, &facts) == 0);
  return facts.kind;
}

// What inspect() makes of a regular file of `size` bytes and `blocks` blocks, where looking at its
// first byte comes to `value` and `error`.
bool size_known(uint64_t size, uint64_t blocks, ssize_t value, int error) {
  Seam<&Calls::status> status([&](int, struct statx* status) {
    *status = {};
    status->stx_mode = S_IFREG | 0644;
    status->stx_size = size;
    status->stx_blocks = blocks;
    return 0;
  });
  Seam<&Calls::read_nowait> read([&](int, void*, size_t, off_t) {
    errno = error;
    return value;
  });
  FileFacts facts{};
  REQUIRE(inspect(0, &facts) == 0);
  CHECK(facts.size == size);
  return facts.size_known;
}

TEST_CASE("inspect knows a regular file's size, device and inode") {
  DescriptorGuard guard;
  for (const uint64_t size : kSizes) {
    if (size == 0) continue;
    CAPTURE(size);
    TestFile file(size);
    struct stat expected;
    REQUIRE(::fstat(file.fd(), &expected) == 0);
    FileFacts facts{};
    REQUIRE(inspect(file.fd(), &facts) == 0);
    CHECK(facts.kind == FileKind::regular);
    CHECK(facts.size == size);
    CHECK((facts.device >> 32) == major(expected.st_dev));
    CHECK((facts.device & 0xffffffff) == minor(expected.st_dev));
    CHECK(facts.inode == expected.st_ino);
  }
}

TEST_CASE("inspect tells the kinds of files apart") {
  DescriptorGuard guard;
  TestFile regular(1);
  SocketPair pair(Family::tcp);
  int fds[2];
  REQUIRE(sys::pipe(fds).ok());
  const UniqueFd reading(fds[0]), writing(fds[1]);
  const UniqueFd directory = open_for_reading("/");
  const UniqueFd null = open_for_reading("/dev/null");
  CHECK(kind_of(regular.fd()) == FileKind::regular);
  CHECK(kind_of(pair.sender()) == FileKind::socket);
  CHECK(kind_of(reading.get()) == FileKind::fifo);
  CHECK(kind_of(directory.get()) == FileKind::directory);
  CHECK(kind_of(null.get()) == FileKind::character_device);

  Seam<&Calls::status> block_device([&](int, struct statx* status) {
    *status = {};
    status->stx_mode = S_IFBLK;
    return 0;
  });
  CHECK(kind_of(0) == FileKind::block_device);
}

TEST_CASE("only a regular file's size is known") {
  DescriptorGuard guard;
  const UniqueFd directory = open_for_reading("/");
  FileFacts facts{};
  REQUIRE(inspect(directory.get(), &facts) == 0);
  CHECK_FALSE(facts.size_known);
}

TEST_CASE("the sizes of pseudo files mean nothing") {
  DescriptorGuard guard;
  for (const char* path : {"/proc/self/status", "/proc/self/maps", "/sys/kernel/uevent_seqnum"}) {
    CAPTURE(path);
    const UniqueFd fd = open_for_reading(path);
    if (!fd) continue;
    FileFacts facts{};
    REQUIRE(inspect(fd.get(), &facts) == 0);
    CHECK(facts.kind == FileKind::regular);
    CHECK_FALSE(facts.size_known);
  }
}

TEST_CASE("a file without blocks is known by its first byte") {
  CHECK(size_known(10, 8, -1, EIO));  // it has blocks: nobody looks
  CHECK(size_known(10, 0, 1, 0));     // stored in its inode, or a hole
  CHECK(size_known(10, 0, -1, EAGAIN));
  CHECK(size_known(0, 0, 0, 0));
  CHECK(size_known(64 * 1024 + 1, 0, -1, EOPNOTSUPP));  // more than pseudo files claim to have
  CHECK_FALSE(size_known(0, 0, 1, 0));                  // as procfs
  CHECK_FALSE(size_known(4096, 0, 0, 0));               // as sysfs
  CHECK_FALSE(size_known(4096, 0, -1, EOPNOTSUPP));
  CHECK_FALSE(size_known(0, 0, -1, EOPNOTSUPP));
}

TEST_CASE("inspect returns the errno") {
  FileFacts facts{};
  CHECK(inspect(-1, &facts) == EBADF);
  Seam<&Calls::status> seam([&](int, struct statx*) { return fail_with(EIO); });
  CHECK(inspect(0, &facts) == EIO);
}

TEST_CASE("a file is closed when the last who holds it lets go") {
  DescriptorGuard guard;
  UniqueFd opened = open_for_reading("/dev/null");
  const int fd = opened.get();
  auto first = std::make_shared<const File>(std::move(opened), 42);
  auto second = first;
  CHECK(first->fd() == fd);
  CHECK(first->device() == 42);
  first.reset();
  CHECK(is_open(fd));
  second.reset();
  CHECK_FALSE(is_open(fd));
}

TEST_CASE("what is served is closed on another thread, as long as there are any") {
  TestFile test(10);
  for (const FileSystem system : {FileSystem::disk, FileSystem::memory, FileSystem::served}) {
    for (const bool threads_to_be_had : {true, false}) {
      CAPTURE(static_cast<int>(system));
      CAPTURE(threads_to_be_had);
      // Of a device of its own: a closer that is still there would take it.
      static uint64_t device = 77'000;
      const int fd = ::dup(test.fd());
      REQUIRE(fd >= 0);
      int asked = 0;
      Seam<&Calls::thread_create> threads([&](void* (*body)(void*), void* argument) {
        ++asked;
        return threads_to_be_had ? kernel.thread_create(body, argument) : EAGAIN;
      });
      std::make_shared<const File>(UniqueFd(fd), ++device, system).reset();
      if (system != FileSystem::served) CHECK(asked == 0);
      if (system != FileSystem::served) CHECK_FALSE(is_open(fd));
      CHECK(eventually([&] { return !is_open(fd); }));
    }
  }
}

TEST_CASE("a UniqueFd closes what it owns, once") {
  DescriptorGuard guard;
  UniqueFd first = open_for_reading("/dev/null");
  UniqueFd second = open_for_reading("/dev/null");
  const int first_fd = first.get(), second_fd = second.get();

  second = std::move(first);
  CHECK_FALSE(is_open(second_fd));
  CHECK(is_open(first_fd));
  CHECK(second.get() == first_fd);
  CHECK_FALSE(first);

  UniqueFd& itself = second;
  second = std::move(itself);
  CHECK(second.get() == first_fd);
  CHECK(is_open(first_fd));

  const int released = second.release();
  CHECK(released == first_fd);
  CHECK_FALSE(second);
  CHECK(is_open(released));

  UniqueFd third(released);
  third.reset();
  third.reset();
  CHECK_FALSE(is_open(released));
  CHECK(third.get() == -1);
}

}  // namespace
}  // namespace zerocopy::test
