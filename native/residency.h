#pragma once

#include <cstdint>
#include <mutex>
#include <unordered_set>

#include "file.h"

namespace zerocopy {

// Whether a range of a file is in the page cache, so that reading it can't block on a disk.
enum class Residency { resident, cold, unknown };

// A hint: the kernel may evict the range a moment later, and only its first and last page are
// asked about.
Residency probe_residency(const File& file, uint64_t offset, uint64_t length);

// Whether reading what nobody can tell to be resident may wait: what is served, at any time, since
// nothing tells when a server has stopped answering.
bool may_be_slow(const File& file);

// Brings a range into the page cache. Blocks for as long as the disk takes.
void warm(const File& file, uint64_t offset, uint64_t length);

// What the devices of this machine whose file systems can't tell what is resident (overlayfs, tmpfs
// with holes) have shown so far: whether reading from them had to wait for a disk. A slow read of
// any kind marks a device; only a whole range that was quick to warm clears it, since a read that
// was quick may have had nothing to read.
class DeviceHistory {
 public:
  static DeviceHistory& instance();
  void record_read(uint64_t device, uint64_t nanoseconds);
  void record_warming(uint64_t device, uint64_t nanoseconds);
  bool was_slow(uint64_t device);

 private:
  std::mutex mutex_;
  std::unordered_set<uint64_t> slow_;
};

}  // namespace zerocopy
