#include "transfer.h"

#include <errno.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "syscalls.h"

namespace zerocopy {
namespace {

constexpr size_t kMaxParts = 64;  // of one sendmsg; a longer run of memory takes several

// Whether sendfile(2) can't serve this pair at all. Asked only before a segment's first byte.
bool means_unsupported(int error) {
  switch (error) {
    case ENOSYS:      // seccomp profiles, gVisor
    case EPERM:       // seccomp profiles of older container engines
    case EINVAL:      // the file system has no splice_read (some FUSE and proc files)
    case EOPNOTSUPP:  // stacked file systems whose lower layer has none
    case EIO:         // CIFS on read (golang/go#42334); a disk's own EIO shows again when reading
      return true;
    default:
      return false;
  }
}

}  // namespace

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

Transfer::Transfer(int socket, std::vector<Segment> segments)
    : segments_(std::move(segments)), socket_(socket) {
  // MSG_MORE is right only when a non-empty segment follows, so empty ones must not be there.
  segments_.erase(std::remove_if(segments_.begin(), segments_.end(),
                                 [](const Segment& segment) { return segment.length == 0; }),
                  segments_.end());
  for (const Segment& segment : segments_) total_ += segment.length;
}

int Transfer::own() {
  const File* borrowed = nullptr;
  std::shared_ptr<const File> owned;
  for (Segment& segment : segments_) {
    if (segment.file && segment.file->is_borrowed()) {
      // Segments of one file follow each other as a rule.
      if (segment.file.get() != borrowed) {
        int error;
        borrowed = segment.file.get();
        owned = borrowed->duplicate(&error);
        if (!owned) {
          fail(Call::dup, error);
          return error;
        }
      }
      segment.file = owned;
    }
    if (segment.file || segment.storage) continue;
    segment.storage.reset(new uint8_t[segment.length]);
    std::memcpy(segment.storage.get(), segment.data, segment.length);
    segment.data = segment.storage.get();
  }
  const sys::Result copy = sys::duplicate(socket_);
  if (!copy.ok()) {
    fail(Call::dup, copy.error);
    return copy.error;
  }
  own_socket_ = UniqueFd(static_cast<int>(copy.value));
  socket_ = own_socket_.get();
  return 0;
}

bool Transfer::step_if_short(Outcome* outcome) {
  if (total_ > kShortWayBytes) return false;
  if (send_by_reading(outcome)) return true;
  if (!everything_is_resident()) return false;
  known_resident_ = true;
  *outcome = move(kStepBytes);
  known_resident_ = false;
  return true;
}

Outcome Transfer::step(uint64_t budget) {
  Outcome outcome;
  if (transferred() == 0 && send_by_reading(&outcome)) return outcome;
  return move(budget);
}

Outcome Transfer::move(uint64_t budget) {
  Outcome outcome = Outcome::done;
  while (index_ < segments_.size()) {
    if (budget == 0) return Outcome::again;
    const bool moved =
        current().file ? send_file(&budget, &outcome) : send_memory(&budget, &outcome);
    if (!moved) return outcome;
  }
  return Outcome::done;
}

bool Transfer::everything_is_resident() const {
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

// The whole of a tiny transfer in one packet: what is in the page cache is read, without blocking,
// beside what is in memory. False, with nothing moved, when any byte of a file isn't there at once.
bool Transfer::send_by_reading(Outcome* outcome) {
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
  const sys::Result sent = sys::send(socket_, parts, segments_.size(), false);
  if (!sent.ok()) {
    *outcome = sent.error == EAGAIN ? Outcome::wait_writable : fail(Call::sendmsg, sent.error);
    return true;
  }
  read_used_ = any_file;
  advance(static_cast<uint64_t>(sent.value));
  // A short count does not mean "full": the next step goes on where this one ended.
  *outcome = index_ == segments_.size() ? Outcome::done : Outcome::again;
  return true;
}

// Sends the run of memory segments that begins at the current one.
bool Transfer::send_memory(uint64_t* budget, Outcome* outcome) {
  iovec parts[kMaxParts];
  size_t count = 0;
  size_t next = index_;
  uint64_t skipped = within_;
  for (; next < segments_.size() && !segments_[next].file && count < kMaxParts; ++next) {
    const Segment& segment = segments_[next];
    parts[count++] = {const_cast<uint8_t*>(segment.data) + skipped, segment.length - skipped};
    skipped = 0;
  }
  const sys::Result sent = sys::send(socket_, parts, count, next < segments_.size());
  if (!sent.ok()) {
    *outcome = sent.error == EAGAIN ? Outcome::wait_writable : fail(Call::sendmsg, sent.error);
    return false;
  }
  const uint64_t moved = static_cast<uint64_t>(sent.value);
  advance(moved);
  *budget -= std::min(*budget, moved);
  return true;
}

// Sends what the budget allows of the current file segment.
bool Transfer::send_file(uint64_t* budget, Outcome* outcome) {
  const Segment& segment = current();
  const uint64_t left = segment.length - within_;
  if (within_ >= probed_until_ && !look_ahead(*budget)) {
    *outcome = Outcome::cold;
    return false;
  }
  // Never more than is left of the range: asking for more leaves the tail corked for 200 ms
  // (golang/go#41513). Nor more than was probed.
  const uint64_t wanted = std::min({*budget, left, probed_until_ - within_});
  const uint64_t began = residency_unknown_ ? monotonic_now() : 0;
  const sys::Result sent =
      sys::sendfile(socket_, segment.file->fd(), segment.offset + within_, wanted);
  if (residency_unknown_)
    DeviceHistory::instance().record_read(segment.file->device(), monotonic_now() - began);
  if (!sent.ok()) {
    if (sent.error == EAGAIN) {
      *outcome = Outcome::wait_writable;
    } else {
      *outcome = fail(Call::sendfile, sent.error);
      if (within_ == 0 && means_unsupported(sent.error)) *outcome = Outcome::unsupported;
    }
    return false;
  }
  if (sent.value == 0) {
    // `wanted` isn't 0, so this is the end of a file that was longer when the transfer started.
    *outcome = Outcome::truncated;
    return false;
  }
  sendfile_used_ = true;
  const uint64_t moved = static_cast<uint64_t>(sent.value);
  advance(moved);
  *budget -= moved;
  return true;
}

// Whether the beginning of what is left of the current segment may be sent without a warmer: all
// that the budget allows or, where a long stretch isn't all there, its beginning.
bool Transfer::look_ahead(uint64_t budget) {
  const uint64_t left = current().length - within_;
  const uint64_t whole = std::min(left, budget);
  const uint64_t beginning = std::min(left, kStepBytes);
  return look(whole) || (beginning < whole && look(beginning));
}

// Whether the next `window` bytes of the current file segment may be sent without a warmer.
bool Transfer::look(uint64_t window) {
  const File& file = *current().file;
  Residency residency = Residency::resident;
  if (!known_resident_) residency = probe_residency(file, current().offset + within_, window);
  residency_unknown_ = residency == Residency::unknown;
  if (residency == Residency::cold) return false;
  if (residency_unknown_ && DeviceHistory::instance().was_slow(file.device())) return false;
  probed_until_ = within_ + window;
  return true;
}

void Transfer::advance(uint64_t count) {
  transferred_.store(transferred() + count, std::memory_order_relaxed);
  while (count > 0) {
    const uint64_t taken = std::min(count, current().length - within_);
    within_ += taken;
    count -= taken;
    if (within_ < current().length) return;
    ++index_;
    within_ = 0;
    probed_until_ = 0;
  }
}

bool Transfer::is_at_file_end() const {
  if (segments_.empty() || !segments_.back().file) return false;
  if (read_used_) return end_seen_;
  const Segment& last = segments_.back();
  FileFacts facts;
  return inspect(last.file->fd(), &facts) == 0 && facts.size == last.offset + last.length;
}

FileRange Transfer::cold_range() const {
  const Segment& segment = current();
  return {segment.file, segment.offset + within_, std::min(segment.length - within_, kStepBytes)};
}

void Transfer::warmed() {
  // Not probed again: a file system that says "cold" for ever would never let the range pass.
  probed_until_ = within_ + std::min(current().length - within_, kStepBytes);
  residency_unknown_ = false;
}

Outcome Transfer::fail(Call call, int error) {
  failed_call_ = call;
  error_ = error;
  return Outcome::failed;
}

}  // namespace zerocopy
