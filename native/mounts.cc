#include "mounts.h"

#include <fcntl.h>
#include <poll.h>

#include <algorithm>
#include <cstdlib>
#include <string>

#include "syscalls.h"
#include "unique_fd.h"

namespace zerocopy {
namespace {

constexpr std::string_view kSeparator = " - ";  // before the type
constexpr size_t kIdField = 0;
constexpr size_t kDeviceField = 2;
constexpr std::string_view kMountId = "mnt_id:\t";  // in an fdinfo

// Those of which it is known. Any other is taken for served: that costs time, never more. So is
// bcachefs, whose snapshots have the device and the inode numbers of what they are of.
FileSystem file_system_of(std::string_view type) {
  static const std::unordered_set<std::string_view>& memory =
      *new std::unordered_set<std::string_view>{"tmpfs", "ramfs", "devtmpfs", "rootfs"};
  static const std::unordered_set<std::string_view>& disk =
      *new std::unordered_set<std::string_view>{
          "ext2",    "ext3",       "ext4",      "xfs",         "btrfs",   "f2fs",       "zfs",
          "jfs",     "nilfs2",     "reiserfs",  "vfat",        "msdos",   "exfat",      "ntfs3",
          "hfs",     "hfsplus",    "iso9660",   "udf",         "ubifs",   "jffs2",      "squashfs",
          "erofs",   "cramfs",     "romfs",     "overlay",     "aufs",    "proc",       "sysfs",
          "devpts",  "cgroup",     "cgroup2",   "cpuset",      "mqueue",  "hugetlbfs",  "debugfs",
          "tracefs", "securityfs", "selinuxfs", "smackfs",     "pstore",  "efivarfs",   "configfs",
          "bpf",     "autofs",     "nsfs",      "binfmt_misc", "fusectl", "rpc_pipefs", "nfsd",
          "resctrl"};
  if (memory.count(type)) return FileSystem::memory;
  return disk.count(type) ? FileSystem::disk : FileSystem::served;
}

std::string_view field(std::string_view line, size_t index) {
  size_t begin = 0;
  for (; index > 0 && begin < line.size(); --index) {
    const size_t space = line.find(' ', begin);
    begin = space == line.npos ? line.size() : space + 1;
  }
  return line.substr(begin, line.find(' ', begin) - begin);
}

uint64_t number_of(std::string_view digits) {
  return std::strtoull(std::string(digits).c_str(), nullptr, 10);
}

// "8:1"
uint64_t device_of(std::string_view numbers) {
  const size_t colon = std::min(numbers.find(':'), numbers.size());
  const std::string_view minor = numbers.substr(std::min(colon + 1, numbers.size()));
  return number_of(numbers.substr(0, colon)) << 32 | number_of(minor);
}

// The ID of the mount by which a file has been opened, as proc(5) tells it of a descriptor; 0,
// which none has, where it doesn't.
uint64_t mount_of(int fd) {
  const std::string name = "/proc/self/fdinfo/" + std::to_string(fd);
  const sys::Result opened = sys::open(name.c_str(), O_RDONLY);
  if (!opened.ok()) return 0;
  const UniqueFd info(static_cast<int>(opened.value));
  char block[512];
  const sys::Result read = sys::read(info.get(), block, sizeof block, 0);
  const std::string_view text(block, read.ok() ? static_cast<size_t>(read.value) : 0);
  const size_t at = text.find(kMountId);
  return at == text.npos ? 0 : number_of(text.substr(at + kMountId.size()));
}

}  // namespace

Mounts& Mounts::instance() {
  static Mounts& mounts = *new Mounts;  // leaked: threads outlive static destructors
  return mounts;
}

FileSystem Mounts::of(uint64_t device, int fd) {
  if (device == 0) return FileSystem::served;
  std::lock_guard<std::mutex> lock(mutex_);
  refresh();
  const auto known = table_.by_device.find(device);
  if (known != table_.by_device.end()) return known->second;
  if (table_.btrfs.empty() || !table_.btrfs.count(mount_of(fd))) return FileSystem::served;
  // Asked once for each, until something is mounted or unmounted.
  return table_.by_device[device] = FileSystem::disk;
}

bool Mounts::any_served() {
  std::lock_guard<std::mutex> lock(mutex_);
  refresh();
  return any_served_;
}

Mounts::Table Mounts::parse(std::string_view text) {
  Table table;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    const size_t separator = line.find(kSeparator);
    if (separator == line.npos) continue;
    const std::string_view type = field(line.substr(separator + kSeparator.size()), 0);
    table.by_device[device_of(field(line, kDeviceField))] = file_system_of(type);
    if (type == "btrfs") table.btrfs.insert(number_of(field(line, kIdField)));
  }
  return table;
}

// With the mutex held.
void Mounts::refresh() {
  // It advances every few milliseconds, and costs next to nothing.
  const uint64_t now = sys::now(CLOCK_MONOTONIC_COARSE);
  if (now == looked_at_) return;
  looked_at_ = now;
  if (fd_ < 0) {
    const sys::Result opened = sys::open("/proc/self/mountinfo", O_RDONLY);
    if (!opened.ok()) return;
    fd_ = static_cast<int>(opened.value);
  }
  // An event comes once for all changes since the last look.
  if (!is_read_ || sys::poll(fd_, POLLPRI).value != 0) read();
}

void Mounts::read() {
  std::string text;
  char block[16 * 1024];
  sys::Result read;
  do {
    read = sys::read(fd_, block, sizeof block, text.size());
    if (read.ok()) text.append(block, static_cast<size_t>(read.value));
  } while (read.ok() && read.value > 0);
  is_read_ = read.ok();
  table_ = is_read_ ? parse(text) : Table();
  const auto& devices = table_.by_device;
  any_served_ = !is_read_ || std::any_of(devices.begin(), devices.end(), [](const auto& entry) {
    return entry.second == FileSystem::served;
  });
}

}  // namespace zerocopy
