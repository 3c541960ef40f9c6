#include "copy_transfer.h"

#include <errno.h>

#include <algorithm>
#include <utility>

#include "residency.h"

namespace zerocopy {
namespace {

constexpr uint64_t kBufferBytes = 128 * 1024;

}  // namespace

CopyTransfer::CopyTransfer(Sink sink, std::vector<Segment> segments)
    : segments_(without_empty(std::move(segments))), sink_(sink), way_(first_way()) {}

// Where blocks are shared, holes are too.
CopyTransfer::Way CopyTransfer::first_way() const {
  return sink_.holes == Holes::filled ? second_way() : Way::copy_file_range;
}

// sendfile writes at the sink's own position, which only its owner may move.
CopyTransfer::Way CopyTransfer::second_way() const {
  return sink_.offset < 0 || sink_.may_seek ? Way::sendfile : Way::read;
}

int CopyTransfer::own() {
  Call failed;
  if (const int error = zerocopy::own(&segments_, &failed)) {
    fail(failed, error);
    return error;
  }
  return duplicate(&sink_.fd, &own_sink_);
}

// Of a file on another device than the sink's.
bool CopyTransfer::is_across() const {
  return index_ < segments_.size() && current().file && current().file->device() != sink_.device;
}

// Whether the source is to be asked where its next data is.
bool CopyTransfer::looks_for_data() const {
  return sink_.holes == Holes::kept && within_ >= data_until_ && within_ < current().length;
}

// On which the next step may block.
uint64_t CopyTransfer::device() const {
  return is_across() && looks_for_data() ? current().file->device() : sink_.device;
}

Outcome CopyTransfer::step(uint64_t budget) {
  Outcome outcome = Outcome::done;
  if (is_across() && looks_for_data()) return skip_hole(&outcome) ? Outcome::again : outcome;
  while (index_ < segments_.size()) {
    if (budget == 0 || is_stopped() || (is_across() && looks_for_data())) return Outcome::again;
    const bool moved =
        current().file ? copy_file(&budget, &outcome) : write_memory(&budget, &outcome);
    if (!moved) return outcome;
  }
  return close_file(own_sink_.get());
}

bool CopyTransfer::write_memory(uint64_t* budget, Outcome* outcome) {
  const sys::Result written = write(current().data + within_, current().length - within_);
  if (!written.ok()) {
    *outcome = fail(Call::write, written.error);
    return false;
  }
  const auto bytes = static_cast<uint64_t>(written.value);
  advance(bytes);
  *budget -= std::min(*budget, bytes);
  return true;
}

bool CopyTransfer::copy_file(uint64_t* budget, Outcome* outcome) {
  const bool skip = sink_.holes == Holes::kept;
  if (looks_for_data() && !skip_hole(outcome)) return false;
  if (within_ == current().length) {  // all of it has been a hole
    advance(0);
    return true;
  }
  const uint64_t until = skip ? data_until_ : current().length;
  uint64_t count = std::min(*budget, until - within_);
  if (!may_read(&count)) {
    *outcome = Outcome::cold;
    return false;
  }
  Call call = Call::none;
  const sys::Result copied = copy_some(count, &call);
  if (copied.ok() && copied.value > 0) {
    const auto bytes = static_cast<uint64_t>(copied.value);
    way_has_moved_ = true;
    advance(bytes);
    *budget -= bytes;
    return true;
  }
  if (copied.ok()) {
    // The end of the file. But copy_file_range sees one where a file says that it is empty (/proc,
    // golang/go#44272): reading has the last word.
    if (way_ != Way::read) return try_next_way();
    if (current().length == kToTheEnd) {
      segments_[index_].length = within_;
      advance(0);
      return true;
    }
    *outcome = Outcome::truncated;
    return false;
  }
  // EBADF: copy_file_range to a file opened with O_APPEND.
  const Outcome failure =
      fail_or_unsupported(call, copied.error == EBADF ? EINVAL : copied.error, !way_has_moved_);
  fail(call, copied.error);
  if (failure == Outcome::unsupported && way_ != Way::read) return try_next_way();
  *outcome = Outcome::failed;
  return false;
}

bool CopyTransfer::try_next_way() {
  way_ = way_ == Way::copy_file_range ? second_way() : Way::read;
  way_has_moved_ = false;
  fail(Call::none, 0);
  return true;
}

// Whether the next bytes may be read, up to `count`, without a wait for another disk than the
// sink's.
bool CopyTransfer::may_read(uint64_t* count) {
  const Segment& segment = current();
  const bool reads = way_ != Way::copy_file_range || segment.length == kToTheEnd;
  if (!is_across() || !reads) return true;
  if (within_ >= warm_until_) {
    const Residency residency = probe_residency(*segment.file, segment.offset + within_, *count);
    if (residency == Residency::cold) return false;
    if (residency == Residency::unknown && may_be_slow(*segment.file)) return false;
    warm_until_ = within_ + *count;
  }
  *count = std::min(*count, warm_until_ - within_);
  return true;
}

FileRange CopyTransfer::cold_range() const {
  const Segment& segment = current();
  return {segment.file, segment.offset + within_, std::min(segment.length - within_, kStepBytes)};
}

void CopyTransfer::warmed() {
  warm_until_ = within_ + cold_range().length;
}

// To where the source has data again.
bool CopyTransfer::skip_hole(Outcome* outcome) {
  const Segment& segment = current();
  const int fd = segment.file->fd();
  const uint64_t at = segment.offset + within_;
  const uint64_t end = segment.offset + segment.length;
  const sys::Result data = sys::find_data(fd, at);
  uint64_t begin = end;
  if (data.ok()) {
    begin = std::min(static_cast<uint64_t>(data.value), end);
    const sys::Result hole = sys::find_hole(fd, begin);
    const uint64_t until = hole.ok() ? std::min(static_cast<uint64_t>(hole.value), end) : end;
    // A byte at least, should what has just been found have become a hole since.
    data_until_ = std::min(std::max(until, begin + 1), end) - segment.offset;
  } else if (data.error == ENXIO) {
    FileFacts facts;
    if (const int error = inspect(fd, &facts)) {
      *outcome = fail(Call::lseek, error);
      return false;
    }
    if (segment.length == kToTheEnd) {
      begin = std::max(at, facts.size);
      segments_[index_].length = begin - segment.offset;
    } else if (facts.size < end) {
      *outcome = Outcome::truncated;
      return false;
    }
  } else {
    // EINVAL: a file system that knows nothing of holes.
    begin = at;
    data_until_ = segment.length;
  }
  const uint64_t skipped = begin - at;
  within_ += skipped;
  sink_.offset += static_cast<int64_t>(skipped);
  count(skipped);
  return true;
}

sys::Result CopyTransfer::copy_some(uint64_t count, Call* call) {
  const int source = current().file->fd();
  const auto from = static_cast<int64_t>(current().offset + within_);
  const int64_t* to = sink_.offset < 0 ? nullptr : &sink_.offset;
  sys::Result copied;
  Backend backend = Backend::read;
  switch (current().length == kToTheEnd ? Way::read : way_) {
    case Way::copy_file_range:
      *call = Call::copy_file_range;
      backend = Backend::copy_file_range;
      copied = sys::copy_file_range(source, &from, sink_.fd, to, count);
      break;
    case Way::sendfile:
      *call = Call::sendfile;
      backend = Backend::sendfile;
      if (to) {
        *call = Call::lseek;
        const sys::Result sought = sys::seek(sink_.fd, *to);
        if (!sought.ok()) return sought;
        *call = Call::sendfile;
      }
      copied = sys::sendfile(sink_.fd, source, static_cast<uint64_t>(from), count);
      break;
    case Way::read:
      way_ = Way::read;
      copied = read_and_write(count, call);
      break;
  }
  if (!copied.ok() || copied.value == 0) return copied;
  if (to && backend != Backend::read) sink_.offset += copied.value;
  // The slowest of those that were used.
  if (!backend_known_ || backend == Backend::read ||
      (backend == Backend::sendfile && backend_ == Backend::copy_file_range)) {
    backend_ = backend;
    backend_known_ = true;
  }
  return copied;
}

sys::Result CopyTransfer::read_and_write(uint64_t count, Call* call) {
  if (!buffer_) buffer_ = sys::allocate(kBufferBytes);
  if (!buffer_) {
    *call = Call::malloc;
    return {-1, ENOMEM};
  }
  *call = Call::read;
  const sys::Result read = sys::read(current().file->fd(), buffer_.get(),
                                     std::min(count, kBufferBytes), current().offset + within_);
  if (!read.ok() || read.value == 0) return read;
  *call = Call::write;
  // What a short write leaves is read once more.
  return write(buffer_.get(), static_cast<uint64_t>(read.value));
}

sys::Result CopyTransfer::write(const uint8_t* data, uint64_t length) {
  if (sink_.offset < 0) {
    const iovec part{const_cast<uint8_t*>(data), length};
    return sys::accepted(sys::write(sink_.fd, &part, 1));
  }
  const sys::Result written =
      sys::accepted(sys::write_at(sink_.fd, data, length, static_cast<uint64_t>(sink_.offset)));
  if (written.ok()) sink_.offset += written.value;
  return written;
}

void CopyTransfer::advance(uint64_t bytes) {
  count(bytes);
  within_ += bytes;
  if (within_ < current().length) return;
  ++index_;
  within_ = 0;
  data_until_ = 0;
  warm_until_ = 0;
  way_ = first_way();
  way_has_moved_ = false;
}

}  // namespace zerocopy
