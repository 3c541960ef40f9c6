#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "file.h"
#include "syscalls.h"
#include "transfer.h"

namespace zerocopy {

// A piece of a source: bytes in memory, or a range of a file.
struct Segment {
  static Segment of_memory(const uint8_t* data, uint64_t length);
  static Segment of_file(std::shared_ptr<const File> file, uint64_t offset, uint64_t length);

  std::shared_ptr<const File> file;  // null: memory
  uint64_t offset = 0;
  uint64_t length = 0;
  const uint8_t* data = nullptr;  // borrowed from the caller until own()
  sys::Memory storage;            // set by own()
};

// Those that have any bytes.
std::vector<Segment> without_empty(std::vector<Segment> segments);

// Copies memory, and duplicates the descriptors of borrowed files. Where there are none an errno,
// and the call that failed.
int own(std::vector<Segment>* segments, Call* failed);

}  // namespace zerocopy
