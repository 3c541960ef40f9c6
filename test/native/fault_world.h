#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "helpers.h"

namespace zerocopy::test {

enum class Movement { gather, splice, copy };

// A transfer, what it is to move, and the ends at which that can be seen.
struct Flow {
  Movement movement = Movement::gather;
  std::unique_ptr<Transfer> transfer;

  // What comes to the sink when all goes well, and what the source has behind that.
  Bytes all;
  Bytes behind;
  Bytes before;  // what somebody has sent to the sink

  // How it ends when no call goes wrong.
  Outcome outcome = Outcome::done;
  Call failing = Call::none;
  int error = 0;

  // Of gather lists: the ranges of files, and where in all they begin.
  struct Range {
    uint64_t offset, length, at;
  };
  std::vector<Range> ranges;
  bool to_the_end = false;   // reading tells where the last range ends
  bool at_file_end = false;  // and there is nothing behind it

  Endpoint source_kind = Endpoint::file;
  Endpoint sink_kind = Endpoint::socket;
  // Our ends, the peers', and the transfer's own once it has some. Of files only the sink.
  int source = -1, sink = -1;
  int feeder = -1, receiver = -1;
  int own_source = -1, own_sink = -1;
  uint64_t sink_offset = 0;  // in a file
  bool at_position = false;  // which is the file's own position

  // What the peers have to do, and have done.
  Bytes feed;
  size_t fed = 0;
  bool ends = true;  // the source, behind the last byte that is fed
  bool has_ended = false;
  Bytes received;
};

// Whatever the transfers of one run need.
class World {
 public:
  std::deque<Flow> flows;
  // Peers do a little at a time while the transfers run, and not all before and after that.
  bool is_gradual = false;
  size_t little = 3000;

  // Descriptors that the peers have closed.
  size_t closed() const { return closed_; }

  Channel& channel(Kind kind, Buffers buffers = Buffers::usual);
  // Memory that stays as long as the world.
  Segment memory(uint64_t offset, uint64_t length);

  // Closes the end of a channel at which its reader is.
  void close(int& fd);

  // Adds a flow from a channel, or from files, to a channel or to a file.
  Flow& add(Movement movement, const Channel* source, const Channel* sink);
  // The flow's sink is this file, emptied, from `offset` on; less than 0: at its position, of 5.
  void into(Flow& flow, TestFile& file, int64_t offset);

  // One turn of the peers. False when there was nothing to do.
  bool turn();
  // When the transfers are over: what has come to a flow's sink that says it has taken so much.
  Bytes arrived(Flow& flow, uint64_t transferred);
  // And what its source has.
  Bytes left(Flow& flow);

 private:
  bool feed(Flow& flow, size_t most);
  void end_input(int fd);

  std::deque<Channel> channels_;
  std::deque<Bytes> memory_;
  size_t closed_ = 0;
};

}  // namespace zerocopy::test
