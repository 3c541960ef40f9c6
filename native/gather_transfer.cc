#include "gather_transfer.h"

#include <errno.h>

#include <algorithm>
#include <utility>

#include "residency.h"
#include "syscalls.h"

namespace zerocopy {
namespace {

constexpr size_t kMaxParts = 64;     // of one call; a longer run of memory takes several
constexpr size_t kPageBytes = 4096;  // larger ones (arm64) are many of these

}  // namespace

GatherTransfer::GatherTransfer(int sink, std::vector<Segment> segments, Endpoint sink_kind)
    // MSG_MORE is right only when a non-empty segment follows, so empty ones must not be there.
    : segments_(without_empty(std::move(segments))), sink_(sink), sink_kind_(sink_kind) {
  for (const Segment& segment : segments_) total_ += segment.length;
}

int GatherTransfer::own() {
  Call failed;
  if (const int error = zerocopy::own(&segments_, &failed)) {
    fail(failed, error);
    return error;
  }
  return duplicate(&sink_, &own_sink_);
}

Backend GatherTransfer::backend() const {
  if (read_used_ && !file_sent_) return Backend::read;
  return sink_kind_ == Endpoint::pipe ? Backend::splice : Backend::sendfile;
}

bool GatherTransfer::step_if_short(Outcome* outcome, uint64_t most) {
  if (total_ > most) return false;
  if (send_by_reading(outcome)) return true;
  if (!everything_is_resident()) return false;
  known_resident_ = true;
  *outcome = move(total_);
  known_resident_ = false;
  return true;
}

Outcome GatherTransfer::step(uint64_t budget) {
  Outcome outcome;
  if (transferred() == 0 && send_by_reading(&outcome)) return outcome;
  return move(budget);
}

Outcome GatherTransfer::move(uint64_t budget) {
  Outcome outcome = Outcome::done;
  while (index_ < segments_.size()) {
    if (budget == 0 || is_stopped()) return Outcome::again;
    const bool moved =
        current().file ? send_file(&budget, &outcome) : send_memory(&budget, &outcome);
    if (!moved) return outcome;
  }
  return Outcome::done;
}

bool GatherTransfer::everything_is_resident() const {
  for (const Segment& segment : segments_) {
    if (!segment.file) continue;
    for (uint64_t at = 0; at < segment.length; at += kShortWayProbeBytes) {
      const uint64_t left = segment.length - at;
      const uint64_t length = left > kShortWayProbeBytes ? 1 : left;
      if (probe_residency(*segment.file, segment.offset + at, length) != Residency::resident)
        return false;
    }
  }
  return true;
}

// Never blocks: a pipe is in non-blocking mode, of a socket that isn't taken for granted.
sys::Result GatherTransfer::put(const iovec* parts, size_t count, bool more) {
  return sys::accepted(sink_kind_ == Endpoint::pipe ? sys::write(sink_, parts, count)
                                                    : sys::send(sink_, parts, count, more));
}

Outcome GatherTransfer::refused(int error) {
  if (error == EAGAIN) return Outcome::wait_writable;
  return fail(sink_kind_ == Endpoint::pipe ? Call::write : Call::sendmsg, error);
}

sys::Result GatherTransfer::send_range(int file, uint64_t offset, uint64_t count) {
  if (sink_kind_ != Endpoint::pipe) return sys::sendfile(sink_, file, offset, count);
  const auto from = static_cast<int64_t>(offset);
  return sys::splice(file, &from, sink_, nullptr, count, SPLICE_F_NONBLOCK);
}

// The whole of a tiny transfer in one packet: what is in the page cache is read, without blocking,
// beside what is in memory. False, with nothing moved, when any byte of a file isn't there at once.
bool GatherTransfer::send_by_reading(Outcome* outcome) {
  if (total_ == 0 || total_ > kReadWayBytes || segments_.size() > kMaxParts) return false;
  uint8_t buffer[kReadWayBytes + 1];
  iovec parts[kMaxParts];
  size_t used = 0;
  bool any_file = false;
  for (size_t i = 0; i < segments_.size(); ++i) {
    const Segment& segment = segments_[i];
    if (segment.file) {
      // A byte more, which isn't sent, tells whether the file ends there.
      const sys::Result read =
          sys::read_nowait(segment.file->fd(), buffer + used, segment.length + 1, segment.offset);
      if (!read.ok() || static_cast<uint64_t>(read.value) < segment.length) return false;
      end_seen_ = static_cast<uint64_t>(read.value) == segment.length;
      parts[i] = {buffer + used, segment.length};
      used += segment.length;
      any_file = true;
    } else {
      parts[i] = {const_cast<uint8_t*>(segment.data), segment.length};
    }
  }
  const sys::Result sent = put(parts, segments_.size(), false);
  if (!sent.ok()) {
    *outcome = refused(sent.error);
    return true;
  }
  read_used_ = any_file;
  advance(static_cast<uint64_t>(sent.value));
  read_before_ = within_;
  // A short count does not mean "full": the next step goes on where this one ended.
  *outcome = index_ == segments_.size() ? Outcome::done : Outcome::again;
  return true;
}

// Of a range that begins within a page and follows what is in memory, the bytes up to that page's
// end, which go with that: sendfile(2) moves 16 pages at a time, and beside a header one page more
// than that would take a buffer, and a packet, of its own (twice the CPU for 64 KiB over loopback).
// 0 where there are none, or they aren't known to be in the page cache.
size_t GatherTransfer::read_beginning(const Segment& segment, uint8_t* bytes) const {
  const size_t length = kPageBytes - segment.offset % kPageBytes;
  if (!known_resident_ || length == kPageBytes || segment.length <= length) return 0;
  const sys::Result read = sys::read_nowait(segment.file->fd(), bytes, length, segment.offset);
  return read.ok() && static_cast<size_t>(read.value) == length ? length : 0;
}

// Sends the run of memory segments that begins at the current one.
bool GatherTransfer::send_memory(uint64_t* budget, Outcome* outcome) {
  iovec parts[kMaxParts];
  size_t count = 0;
  size_t next = index_;
  uint64_t skipped = within_;
  for (; next < segments_.size() && !segments_[next].file && count < kMaxParts; ++next) {
    const Segment& segment = segments_[next];
    parts[count++] = {const_cast<uint8_t*>(segment.data) + skipped, segment.length - skipped};
    skipped = 0;
  }
  uint8_t beginning[kPageBytes];
  if (next < segments_.size() && count < kMaxParts) {
    if (const size_t length = read_beginning(segments_[next], beginning))
      parts[count++] = {beginning, length};
  }
  const sys::Result sent = put(parts, count, next < segments_.size());
  if (!sent.ok()) {
    *outcome = refused(sent.error);
    return false;
  }
  const uint64_t moved = static_cast<uint64_t>(sent.value);
  advance(moved);
  read_before_ = within_;
  *budget -= std::min(*budget, moved);
  return true;
}

// Sends what the budget allows of the current file segment.
bool GatherTransfer::send_file(uint64_t* budget, Outcome* outcome) {
  const Segment& segment = current();
  const uint64_t left = segment.length - within_;
  if (within_ >= probed_until_ && !look_ahead(*budget)) {
    *outcome = Outcome::cold;
    return false;
  }
  // Never more than is left of the range: asking for more leaves the tail corked for 200 ms
  // (golang/go#41513). Nor more than was probed. Nor much in one call, which goes on for as long as
  // the peer takes bytes, though somebody may have stopped it: kStepBytes, or as much as has gone
  // already. Where it may wait for a disk, kStepBytes.
  const uint64_t most = residency_unknown_ ? kStepBytes : std::max(kStepBytes, transferred());
  const uint64_t wanted = std::min({most, *budget, left, probed_until_ - within_});
  const uint64_t began = residency_unknown_ ? sys::now(CLOCK_MONOTONIC) : 0;
  const sys::Result sent = send_range(segment.file->fd(), segment.offset + within_, wanted);
  if (residency_unknown_)
    DeviceHistory::instance().record_read(segment.file->device(),
                                          sys::now(CLOCK_MONOTONIC) - began);
  if (!sent.ok()) {
    if (sent.error == EAGAIN) {
      *outcome = Outcome::wait_writable;
    } else {
      const Call call = sink_kind_ == Endpoint::pipe ? Call::splice : Call::sendfile;
      *outcome = fail_or_unsupported(call, sent.error, within_ == read_before_);
    }
    return false;
  }
  if (sent.value == 0) {
    // `wanted` isn't 0, so this is the end of a file that was longer when the transfer started.
    *outcome = Outcome::truncated;
    return false;
  }
  file_sent_ = true;
  const uint64_t moved = static_cast<uint64_t>(sent.value);
  advance(moved);
  *budget -= moved;
  return true;
}

// Whether the beginning of what is left of the current segment may be sent without a warmer: all
// that the budget allows or, where a long stretch isn't all there, its beginning.
bool GatherTransfer::look_ahead(uint64_t budget) {
  const uint64_t left = current().length - within_;
  const uint64_t whole = std::min(left, budget);
  const uint64_t beginning = std::min(left, kStepBytes);
  return look(whole) || (beginning < whole && look(beginning));
}

// Whether the next `window` bytes of the current file segment may be sent without a warmer.
bool GatherTransfer::look(uint64_t window) {
  const File& file = *current().file;
  Residency residency = Residency::resident;
  if (!known_resident_) residency = probe_residency(file, current().offset + within_, window);
  residency_unknown_ = residency == Residency::unknown;
  if (residency == Residency::cold) return false;
  if (residency_unknown_ && may_be_slow(file)) return false;
  probed_until_ = within_ + window;
  return true;
}

void GatherTransfer::advance(uint64_t count) {
  this->count(count);
  while (count > 0) {
    const uint64_t taken = std::min(count, current().length - within_);
    within_ += taken;
    count -= taken;
    if (within_ < current().length) return;
    ++index_;
    within_ = 0;
    probed_until_ = 0;
    read_before_ = 0;
  }
}

bool GatherTransfer::is_at_file_end() const {
  if (segments_.empty() || !segments_.back().file) return false;
  if (read_used_) return end_seen_;
  const Segment& last = segments_.back();
  FileFacts facts;
  return inspect(last.file->fd(), &facts) == 0 && facts.size == last.offset + last.length;
}

FileRange GatherTransfer::cold_range() const {
  const Segment& segment = current();
  return {segment.file, segment.offset + within_, std::min(segment.length - within_, kStepBytes)};
}

void GatherTransfer::warmed() {
  // Not probed again: a file system that says "cold" for ever would never let the range pass.
  probed_until_ = within_ + std::min(current().length - within_, kStepBytes);
  residency_unknown_ = false;
}

}  // namespace zerocopy
