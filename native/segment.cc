#include "segment.h"

#include <errno.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace zerocopy {

Segment Segment::of_memory(const uint8_t* data, uint64_t length) {
  Segment segment;
  segment.data = data;
  segment.length = length;
  return segment;
}

Segment Segment::of_file(std::shared_ptr<const File> file, uint64_t offset, uint64_t length) {
  Segment segment;
  segment.file = std::move(file);
  segment.offset = offset;
  segment.length = length;
  return segment;
}

std::vector<Segment> without_empty(std::vector<Segment> segments) {
  segments.erase(std::remove_if(segments.begin(), segments.end(),
                                [](const Segment& segment) { return segment.length == 0; }),
                 segments.end());
  return segments;
}

int own(std::vector<Segment>* segments, Call* failed) {
  const File* borrowed = nullptr;
  std::shared_ptr<const File> owned;
  for (Segment& segment : *segments) {
    if (segment.file && segment.file->is_borrowed()) {
      // Segments of one file follow each other as a rule.
      if (segment.file.get() != borrowed) {
        int error;
        borrowed = segment.file.get();
        owned = borrowed->duplicate(&error);
        if (!owned) {
          *failed = Call::dup;
          return error;
        }
      }
      segment.file = owned;
    }
    if (segment.file || segment.storage) continue;
    segment.storage = sys::allocate(segment.length);
    if (!segment.storage) {
      *failed = Call::malloc;
      return ENOMEM;
    }
    std::memcpy(segment.storage.get(), segment.data, segment.length);
    segment.data = segment.storage.get();
  }
  return 0;
}

}  // namespace zerocopy
