#pragma once

#include <cstdint>

#include "syscalls.h"

namespace zerocopy {

// Opens a path at once: what the kernel finds in its caches, of a file system that asks nobody.
// EAGAIN where that would take longer.
sys::Result open_at_once(const char* path, int flags);

// The device (as in FileFacts) that whoever opens a path may have to wait for: as far as the kernel
// knows the way, which ends where it would have to ask.
uint64_t device_towards(const char* path);

}  // namespace zerocopy
