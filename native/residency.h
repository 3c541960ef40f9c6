#pragma once

#include <cstdint>
#include <mutex>
#include <unordered_map>

#include "file.h"

namespace zerocopy {

// Whether a range of a file is in the page cache, so that reading it can't block on a disk.
enum class Residency { resident, cold, unknown };

// A hint: the kernel may evict the range a moment later, and only its first and last page are
// asked about.
Residency probe_residency(const File& file, uint64_t offset, uint64_t length);

// Brings a range into the page cache. Blocks for as long as the disk takes.
void warm(const File& file, uint64_t offset, uint64_t length);

// What the file systems that can't tell what is resident (overlayfs, tmpfs with holes, FUSE) have
// shown so far: whether the last read from a device had to wait for its disk.
class DeviceHistory {
 public:
  static DeviceHistory& instance();
  void record(uint64_t device, uint64_t nanoseconds);
  bool was_slow(uint64_t device);

 private:
  std::mutex mutex_;
  std::unordered_map<uint64_t, bool> slow_;
};

// CLOCK_MONOTONIC, in nanoseconds.
uint64_t monotonic_now();

}  // namespace zerocopy
