#pragma once

#include <cstdint>
#include <mutex>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

namespace zerocopy {

// Who answers for the files of a file system, where the page cache doesn't.
enum class FileSystem {
  disk,    // a disk of this machine, or the kernel: to open what it has found before, and to close,
           // waits for nobody
  memory,  // tmpfs and its like: no page of the page cache is still on its way from anywhere
  served,  // a server (NFS) or a process (FUSE), for which every call may wait; or nobody knows
};

// What is mounted, as /proc/self/mountinfo tells it: without asking any file system.
class Mounts {
 public:
  struct Table {
    std::unordered_map<uint64_t, FileSystem> by_device;
    // IDs of the mounts of btrfs, each of whose subvolumes has a device of its own. (So have the
    // lower layers of overlayfs, which may be served: those stay unknown.)
    std::unordered_set<uint64_t> btrfs;
  };

  static Mounts& instance();

  // Of a device, 0 where it isn't known, and of an open file there, which tells its mount.
  FileSystem of(uint64_t device, int fd);
  // Whether there is a mount that isn't of this machine, or might be.
  bool any_served();

  // Of the text of a mountinfo. Devices are named as in FileFacts.
  static Table parse(std::string_view text);

 private:
  void refresh();
  void read();

  std::mutex mutex_;
  int fd_ = -1;
  uint64_t looked_at_ = 0;
  bool is_read_ = false;
  bool any_served_ = true;
  Table table_;
};

}  // namespace zerocopy
