#pragma once

#include <cstdint>
#include <mutex>
#include <string_view>
#include <unordered_map>

namespace zerocopy {

// Who answers for the files of a file system, where the page cache doesn't.
enum class FileSystem {
  disk,    // a disk of this machine, or the kernel: to open what it has found before, and to close,
           // waits for nobody
  memory,  // tmpfs and its like: no page of the page cache is still on its way from anywhere
  served,  // a server (NFS) or a process (FUSE), for which every call may wait; or nobody knows
};

// What is mounted, by device, as /proc/self/mountinfo tells it: without asking any file system.
class Mounts {
 public:
  using Table = std::unordered_map<uint64_t, FileSystem>;

  static Mounts& instance();

  FileSystem of(uint64_t device);
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
