#include "fault_world.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>

namespace zerocopy::test {
namespace {

constexpr size_t kMuch = 256 * 1024;
constexpr uint64_t kStartPosition = 5;
// What has gone is there, or arrives within moments; nothing more ever does.
constexpr int kPatienceMs = 10'000;

// Appends what there is by now. Less than 0 with EAGAIN when that is nothing, 0 at the end.
ssize_t read_some(int fd, size_t most, Bytes* bytes) {
  const size_t before = bytes->size();
  bytes->resize(before + most);
  const ssize_t n = ::read(fd, bytes->data() + before, most);
  bytes->resize(before + static_cast<size_t>(std::max<ssize_t>(0, n)));
  return n;
}

void read_to_the_end(int fd, Bytes* bytes) {
  for (;;) {
    const ssize_t n = read_some(fd, kMuch, bytes);
    if (n > 0) continue;
    pollfd ready{fd, POLLIN, 0};
    if (n == 0 || errno != EAGAIN || ::poll(&ready, 1, kPatienceMs) <= 0) return;
  }
}

}  // namespace

Channel& World::channel(Kind kind, Buffers buffers) {
  channels_.emplace_back(kind, buffers);
  Channel& channel = channels_.back();
  // Room for many small pieces, each of which takes a slot.
  if (kind == Kind::pipe && buffers == Buffers::usual)
    CHECK(::fcntl(channel.in(), F_SETPIPE_SZ, 1024 * 1024) >= 0);
  return channel;
}

Segment World::memory(uint64_t offset, uint64_t length) {
  memory_.push_back(pattern(offset, length));
  return test::memory(memory_.back());
}

Flow& World::add(Movement movement, const Channel* source, const Channel* sink) {
  Flow& flow = flows.emplace_back();
  flow.movement = movement;
  if (source) {
    flow.source_kind = source->endpoint();
    flow.source = source->out();
    flow.feeder = source->in();
  }
  if (sink) {
    flow.sink_kind = sink->endpoint();
    flow.sink = sink->in();
    flow.receiver = sink->out();
  }
  return flow;
}

void World::into(Flow& flow, TestFile& file, int64_t offset) {
  file.truncate(0);
  flow.sink_kind = Endpoint::file;
  flow.sink = file.fd();
  flow.at_position = offset < 0;
  flow.sink_offset = flow.at_position ? kStartPosition : static_cast<uint64_t>(offset);
  ::lseek(file.fd(), kStartPosition, SEEK_SET);
}

bool World::turn() {
  bool any = false;
  for (Flow& flow : flows) {
    if (flow.feeder >= 0) any |= feed(flow, is_gradual ? little : flow.feed.size());
    if (is_gradual && flow.receiver >= 0)
      any |= read_some(flow.receiver, little, &flow.received) > 0;
  }
  return any;
}

bool World::feed(Flow& flow, size_t most) {
  const size_t count = std::min(most, flow.feed.size() - flow.fed);
  if (count > 0) {
    const ssize_t n = ::write(flow.feeder, flow.feed.data() + flow.fed, count);
    if (n <= 0) return false;
    flow.fed += static_cast<size_t>(n);
  }
  const bool ends = flow.ends && !flow.has_ended && flow.fed == flow.feed.size();
  if (ends) {
    end_input(flow.feeder);
    flow.has_ended = true;
  }
  return count > 0 || ends;
}

// Of what is written to `fd`: whoever reads it finds the end, whoever else has `fd` open.
void World::end_input(int fd) {
  for (Channel& channel : channels_) {
    if (channel.kind() != Kind::pipe || channel.in() != fd) continue;
    ++closed_;
    return channel.close_in();
  }
  ::shutdown(fd, SHUT_WR);
}

void World::close(int& fd) {
  for (Channel& channel : channels_)
    if (channel.out() == fd) channel.close_out();
  fd = -1;
}

Bytes World::arrived(Flow& flow, uint64_t transferred) {
  if (flow.receiver < 0 && flow.sink_kind != Endpoint::file) return {};
  if (flow.sink_kind != Endpoint::file) {
    end_input(flow.sink);
    read_to_the_end(flow.receiver, &flow.received);
    return flow.received;
  }
  Bytes content = content_of(flow.sink);
  // A hole at the end has not made it longer.
  content.resize(std::max<size_t>(content.size(), flow.sink_offset + transferred));
  return Bytes(content.begin() + static_cast<ptrdiff_t>(flow.sink_offset), content.end());
}

Bytes World::left(Flow& flow) {
  Bytes bytes;
  flow.ends = true;
  while (!flow.has_ended) {
    feed(flow, flow.feed.size());
    read_some(flow.source, kMuch, &bytes);
  }
  read_to_the_end(flow.source, &bytes);
  return bytes;
}

}  // namespace zerocopy::test
