#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "segment.h"
#include "syscalls.h"
#include "transfer.h"
#include "unique_fd.h"

namespace zerocopy {

// Most that a transfer may have in all to be tried on the caller's own thread: 64 KiB of a file and
// the headers before it. By a mover, larger ones take that thread half the time or less, and the
// process 5 to 10 % more (128 KiB to 1 MiB over loopback, Linux 6.18).
inline constexpr uint64_t kShortWayBytes = 64 * 1024 + 16 * 1024;

// The same for a stretch of a stream, whose other way is longer: 1 MiB and headers. On this thread
// that is about 150 us of CPU, by a mover 200 to 290, by a stream some 950 (HTTP over loopback).
inline constexpr uint64_t kShortStretchBytes = 1024 * 1024 + 16 * 1024;

// Of such a transfer, which must not block, a page is looked at in each stretch of this length.
inline constexpr uint64_t kShortWayProbeBytes = 128 * 1024;

// Up to here one read that can't block and one write beat sendfile (the `read` backend).
inline constexpr uint64_t kReadWayBytes = 24 * 1024;

// A gather list on its way to a socket or a pipe: by sendfile(2), or by splice(2). Never blocks, as
// long as the sink is in non-blocking mode and what probe_residency() says is true.
class GatherTransfer : public Transfer {
 public:
  // `sink` is borrowed until own().
  GatherTransfer(int sink, std::vector<Segment> segments, Endpoint sink_kind = Endpoint::socket);

  Outcome step(uint64_t budget = kStepBytes) override;

  // A step on the caller's thread, for a transfer that is resident and has at most `most` bytes.
  // False if it isn't, or has more; then nothing was done.
  bool step_if_short(Outcome* outcome, uint64_t most = kShortWayBytes);

  int own() override;
  int sink_fd() const override { return sink_; }
  Backend backend() const override;
  FileRange cold_range() const override;
  void warmed() override;

  // After done: whether the last byte was the last of its file, by then. A system call, maybe.
  bool is_at_file_end() const;

 private:
  const Segment& current() const { return segments_[index_]; }
  void advance(uint64_t count);
  Outcome move(uint64_t budget);
  bool look_ahead(uint64_t budget);
  bool look(uint64_t window);
  bool everything_is_resident() const;
  sys::Result put(const iovec* parts, size_t count, bool more);
  Outcome refused(int error);
  sys::Result send_range(int file, uint64_t offset, uint64_t count);
  bool send_by_reading(Outcome* outcome);
  size_t read_beginning(const Segment& segment, uint8_t* bytes) const;
  bool send_memory(uint64_t* budget, Outcome* outcome);
  bool send_file(uint64_t* budget, Outcome* outcome);

  std::vector<Segment> segments_;  // none of them empty
  int sink_;
  const Endpoint sink_kind_;
  UniqueFd own_sink_;
  uint64_t total_ = 0;
  size_t index_ = 0;           // the current segment
  uint64_t within_ = 0;        // bytes of it that have gone
  uint64_t read_before_ = 0;   // of these, what went by reading
  uint64_t probed_until_ = 0;  // up to here, within it, residency has been looked at
  bool residency_unknown_ = false;
  bool known_resident_ = false;  // the step in hand needs no probe
  bool end_seen_ = false;        // a read that asked for more found the file's end
  bool read_used_ = false;
  bool file_sent_ = false;
};

}  // namespace zerocopy
