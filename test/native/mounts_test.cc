#include "mounts.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "helpers.h"

namespace zerocopy::test {
namespace {

uint64_t device(uint64_t major, uint64_t minor) {
  return major << 32 | minor;
}

uint64_t device_of(const char* path) {
  struct stat status;
  REQUIRE(::stat(path, &status) == 0);
  return device(major(status.st_dev), minor(status.st_dev));
}

TEST_CASE("a mountinfo tells who answers for each device") {
  const Mounts::Table table = Mounts::parse(
      "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard\n"
      "31 23 0:28 / /run rw shared:5 master:1 - tmpfs tmpfs rw,mode=755\n"
      "40 27 0:37 / /mnt/a\\040b rw - fuse.sshfs host:/a rw,user_id=0\n"
      "41 27 0:38 /sub /mnt/nfs rw - nfs4 host:/ rw,vers=4.2\n"
      "42 27 0:39 / /mnt/x rw - fuseblk /dev/sda1 rw\n"
      "43 27 0:40 / /new rw - whatever none rw\n"
      "44 27 4095:1048575 / /dir - overlay overlay rw");
  CHECK(table.by_device.size() == 7);
  CHECK(table.by_device.at(device(254, 0)) == FileSystem::disk);
  CHECK(table.by_device.at(device(0, 28)) == FileSystem::memory);
  for (const uint64_t minor : {37, 38, 39, 40})
    CHECK(table.by_device.at(device(0, minor)) == FileSystem::served);
  CHECK(table.by_device.at(device(4095, 1048575)) == FileSystem::disk);
  CHECK(table.btrfs.empty());
  CHECK(Mounts::parse("").by_device.empty());
  CHECK(Mounts::parse("no line of this kind\n\n").by_device.empty());
}

TEST_CASE("what is mounted later is seen, and read only when something has changed") {
  FakeMountinfo mountinfo;
  mountinfo.say("27 1 254:0 / / rw - ext4 /dev/vda rw\n");
  Mounts mounts;
  CHECK_FALSE(mounts.any_served());
  CHECK(mounts.of(device(254, 0), -1) == FileSystem::disk);
  CHECK(mounts.of(device(0, 40), -1) == FileSystem::served);  // nobody knows
  for (int i = 0; i < 1000; ++i) mounts.any_served();
  const int reads = mountinfo.reads();
  CHECK(reads <= 2);
  mountinfo.say("27 1 254:0 / / rw - ext4 /dev/vda rw\n40 27 0:40 / /x rw - fuse x rw\n");
  CHECK(eventually([&] { return mounts.any_served(); }));
  mountinfo.say("40 27 0:40 / /x rw - tmpfs x rw\n");
  CHECK(eventually([&] { return mounts.of(device(0, 40), -1) == FileSystem::memory; }));
  CHECK_FALSE(mounts.any_served());
  CHECK(mounts.of(device(254, 0), -1) == FileSystem::served);  // no longer mounted
}

TEST_CASE("a device that no mount has is a disk if its file has been opened by a mount of btrfs") {
  const uint64_t subvolume = device(0, 51);
  const UniqueFd file(::open("/proc/version", O_PATH | O_CLOEXEC));
  std::string mountinfo;
  std::string fdinfo = "pos:\t0\nflags:\t012100000\nmnt_id:\t41\nino:\t7\n";
  std::string* next = nullptr;
  int asked = 0;
  Seam<&Calls::open> opens([&](const char* name, int flags, unsigned mode) {
    const bool is_fdinfo = std::string(name).find("/fdinfo/") != std::string::npos;
    if (is_fdinfo) ++asked;
    next = is_fdinfo ? &fdinfo : &mountinfo;
    return kernel.open(name, flags, mode);
  });
  Seam<&Calls::read> reads([&](int, void* buffer, size_t count, off_t offset) {
    const size_t at = std::min(static_cast<size_t>(offset), next->size());
    const size_t part = std::min(count, next->size() - at);
    std::copy_n(next->data() + at, part, static_cast<char*>(buffer));
    return static_cast<ssize_t>(part);
  });
  const auto of_file = [&](std::string text) {
    mountinfo = std::move(text);
    Mounts mounts;
    const FileSystem first = mounts.of(subvolume, file.get());
    CHECK(mounts.of(subvolume, file.get()) == first);
    CHECK(mounts.of(0, file.get()) == FileSystem::served);
    return first;
  };
  CHECK(of_file("41 27 0:50 / /x rw - btrfs /dev/vdb rw\n") == FileSystem::disk);
  CHECK(asked == 1);
  CHECK(of_file("42 27 0:50 / /x rw - btrfs /dev/vdb rw\n") == FileSystem::served);
  asked = 0;
  CHECK(of_file("41 27 0:50 / /x rw - overlay overlay rw\n") == FileSystem::served);
  CHECK(asked == 0);
}

TEST_CASE("without a mountinfo anything may be served") {
  bool is_there = false;
  Seam<&Calls::open> opens([&](const char* path, int flags, unsigned mode) {
    return is_there ? kernel.open(path, flags, mode) : fail_with(ENOENT);
  });
  Mounts mounts;
  CHECK(mounts.any_served());
  CHECK(mounts.of(device_of("/proc"), -1) == FileSystem::served);
  is_there = true;
  CHECK(eventually([&] { return mounts.of(device_of("/proc"), -1) == FileSystem::disk; }));
}

}  // namespace
}  // namespace zerocopy::test
