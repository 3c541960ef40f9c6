#include "residency.h"

#include <errno.h>

#include <algorithm>

#include "syscalls.h"

namespace zerocopy {
namespace {

const uint64_t kPageBytes = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));

// A step over 8 MiB of cached pages takes about 1 ms; one that waited for a disk, more than this as
// a rule. Too low a limit costs a hop to a warmer, too high a one a mover's time.
constexpr uint64_t kSlowReadNs = 5'000'000;

// Starts reading this many times what is warmed, so that the disk works on while that is sent.
constexpr uint64_t kReadAheadFactor = 2;

Residency probe_page(const File& file, uint64_t offset) {
  char byte;
  const sys::Result read = sys::read_nowait(file.fd(), &byte, 1, offset);
  // 0 is the end of a file that shrank: sending finds that out without waiting for a disk.
  if (read.ok()) return Residency::resident;
  if (read.error == EAGAIN) return Residency::cold;
  // EOPNOTSUPP: overlayfs, tmpfs and FUSE (Linux 6.18). ENOSYS, EPERM: seccomp.
  return Residency::unknown;
}

// cachestat(2) counts pages that are still being read too, for ever if a disk is dead: so a full
// count is believed only where there are no such pages. A partial one means that some are missing,
// and 0 nothing: overlayfs reports it for a hot file.
Residency count_pages(const File& file, uint64_t offset, uint64_t length) {
  const uint64_t first = offset / kPageBytes;
  const uint64_t last = (offset + length - 1) / kPageBytes;
  const sys::Result cached = sys::cached_pages(file.fd(), offset, length);
  if (!cached.ok() || cached.value == 0) return Residency::unknown;
  if (static_cast<uint64_t>(cached.value) <= last - first) return Residency::cold;
  return file.system() == FileSystem::memory ? Residency::resident : Residency::unknown;
}

}  // namespace

Residency probe_residency(const File& file, uint64_t offset, uint64_t length) {
  if (length == 0) return Residency::resident;
  const uint64_t last_byte = offset + length - 1;
  Residency answer = probe_page(file, offset);
  if (answer == Residency::resident && last_byte / kPageBytes != offset / kPageBytes)
    answer = probe_page(file, last_byte);
  return answer == Residency::unknown ? count_pages(file, offset, length) : answer;
}

bool may_be_slow(const File& file) {
  return file.system() == FileSystem::served || DeviceHistory::instance().was_slow(file.device());
}

void warm(const File& file, uint64_t offset, uint64_t length) {
  const uint64_t began = sys::now(CLOCK_MONOTONIC);
  sys::readahead(file.fd(), offset, length * kReadAheadFactor);
  const uint64_t end = offset + length;
  char byte;
  for (uint64_t at = offset; at < end; at = (at / kPageBytes + 1) * kPageBytes) {
    // An error, or the end of a file that shrank, shows again when the range is sent.
    const sys::Result read = sys::read(file.fd(), &byte, 1, at);
    if (!read.ok() || read.value == 0) break;
  }
  DeviceHistory::instance().record_warming(file.device(), sys::now(CLOCK_MONOTONIC) - began);
}

DeviceHistory& DeviceHistory::instance() {
  static DeviceHistory& history = *new DeviceHistory;  // leaked: threads outlive static destructors
  return history;
}

void DeviceHistory::record_read(uint64_t device, uint64_t nanoseconds) {
  if (nanoseconds <= kSlowReadNs) return;
  std::lock_guard<std::mutex> lock(mutex_);
  slow_.insert(device);
}

void DeviceHistory::record_warming(uint64_t device, uint64_t nanoseconds) {
  if (nanoseconds > kSlowReadNs) return record_read(device, nanoseconds);
  std::lock_guard<std::mutex> lock(mutex_);
  slow_.erase(device);
}

bool DeviceHistory::was_slow(uint64_t device) {
  std::lock_guard<std::mutex> lock(mutex_);
  return slow_.count(device) != 0;
}

}  // namespace zerocopy
