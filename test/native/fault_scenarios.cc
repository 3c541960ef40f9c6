#include "fault_scenarios.h"

#include <fcntl.h>
#include <sys/socket.h>

#include "copy_transfer.h"
#include "gather_transfer.h"
#include "splice_transfer.h"

namespace zerocopy::test {
namespace {

using Holes = CopyTransfer::Holes;
using Looks = Shape::Looks;
using Start = Scenario::Start;

// What each call moves at most: a file of 20,000 bytes takes seven.
constexpr uint64_t kMost = 3000;
// Of sparse files: a block.
constexpr uint64_t kBlock = 4096;

// What a list is made of: ranges of files that begin at `offset`, or with `is_memory` memory.
struct Piece {
  uint64_t offset, length;
  bool is_memory = false;
};

const std::vector<Piece> kRange = {{4097, 20'000}};
const std::vector<Piece> kTiny = {{4097, 10'000}};
const std::vector<Piece> kTinyList = {{0, 100, true}, {4097, 9000}, {1, 30, true}};
const std::vector<Piece> kList = {{0, 100, true},  {4097, 7000},   {1, 50, true},
                                  {2, 4000, true}, {20'000, 5000}, {3, 30, true}};
const std::vector<Piece> kLongList = {
    {0, 100, true}, {4097, 20'000}, {1, 4000, true}, {40'000, 5000}};
const std::vector<Piece> kEndOfFile = {{0, 200, true}, {40'000, 60'000}};
const std::vector<Piece> kManyRanges = {{4097, 4000}, {20'000, 4000}, {50'000, 4000}};

enum class Owner { held, borrowed };

// The list, and what a flow of it comes to.
std::vector<Segment> list_of(World& world, Flow& flow, const TestFile& file,
                             const std::vector<Piece>& pieces, Owner owner = Owner::held) {
  std::vector<Segment> segments;
  const auto borrowed = std::make_shared<const File>(file.fd());
  for (const Piece& piece : pieces) {
    if (piece.is_memory) {
      segments.push_back(world.memory(piece.offset, piece.length));
    } else {
      flow.ranges.push_back({piece.offset, piece.length, flow.all.size()});
      segments.push_back(Segment::of_file(owner == Owner::held ? file.file() : borrowed,
                                          piece.offset, piece.length));
    }
    const Bytes bytes = pattern(piece.offset, piece.length);
    flow.all.insert(flow.all.end(), bytes.begin(), bytes.end());
  }
  return segments;
}

// A gather list on its way to a channel.
auto gather_to(Kind kind, std::vector<Piece> pieces, Owner owner = Owner::held) {
  return [=](World& world, FaultFiles& files) {
    const Channel& sink = world.channel(kind);
    Flow& flow = world.add(Movement::gather, nullptr, &sink);
    flow.transfer = std::make_unique<GatherTransfer>(
        sink.in(), list_of(world, flow, files.source, pieces, owner), sink.endpoint());
    const Piece& last = pieces.back();
    flow.at_file_end = !last.is_memory && last.offset + last.length == 100'000;
  };
}

// The same to a slow reader.
auto gather_slowly_to(Kind kind, std::vector<Piece> pieces) {
  return [=](World& world, FaultFiles& files) {
    const Channel& sink = world.channel(kind, Buffers::small);
    Flow& flow = world.add(Movement::gather, nullptr, &sink);
    flow.transfer = std::make_unique<GatherTransfer>(
        sink.in(), list_of(world, flow, files.source, pieces), sink.endpoint());
    world.is_gradual = true;
  };
}

// Longer than one step, whose budget is small when others wait.
void gather_large(World& world, FaultFiles& files) {
  const Channel& sink = world.channel(Kind::tcp);
  Flow& flow = world.add(Movement::gather, nullptr, &sink);
  flow.transfer = std::make_unique<GatherTransfer>(
      sink.in(), list_of(world, flow, files.large, {{1, kStepBytes + 700'000}}));
  world.is_gradual = true;
  world.little = 256 * 1024;
}

// To a socket that is full but for a little.
void gather_to_full(World& world, FaultFiles& files) {
  const Channel& sink = world.channel(Kind::unix_stream, Buffers::small);
  Flow& flow = world.add(Movement::gather, nullptr, &sink);
  flow.before = Bytes(2000);
  sink.put_all(flow.before);
  flow.transfer = std::make_unique<GatherTransfer>(
      sink.in(), list_of(world, flow, files.source, {{0, 100, true}, {4097, 40'000}}));
  world.is_gradual = true;
}

struct Stream {
  uint64_t head = 0;
  uint64_t size = 20'000;
  uint64_t length = kToTheEnd;  // of what the transfer takes, without the head
};

void set_stream(Flow& flow, const Stream& stream) {
  const uint64_t taken = std::min(stream.size, stream.length);
  flow.all = pattern(0, stream.head + taken);
  flow.behind = pattern(stream.head + taken, stream.size - taken);
  flow.feed = pattern(stream.head, stream.size);
  // Where a length says so, the connection stays.
  flow.ends = stream.length == kToTheEnd;
}

auto splice(Kind from, Kind to, Stream stream = {}, Buffers buffers = Buffers::usual) {
  return [=](World& world, FaultFiles&) {
    const Channel& source = world.channel(from, buffers);
    const Channel& sink = world.channel(to, buffers);
    Flow& flow = world.add(Movement::splice, &source, &sink);
    set_stream(flow, stream);
    flow.transfer = std::make_unique<SpliceTransfer>(source.source(), sink.sink(),
                                                     pattern(0, stream.head), stream.length);
    world.is_gradual = buffers == Buffers::small;
  };
}

// The peer of the sink has gone: what has been taken for it is left over.
void splice_to_nobody(World& world, FaultFiles& files) {
  splice(Kind::unix_stream, Kind::unix_stream)(world, files);
  Flow& flow = world.flows.back();
  flow.outcome = Outcome::failed;
  flow.failing = Call::splice;
  flow.error = EPIPE;
  world.close(flow.receiver);
}

auto splice_to_file(Kind from, int64_t offset, Stream stream = {},
                    Buffers buffers = Buffers::usual) {
  return [=](World& world, FaultFiles& files) {
    const Channel& source = world.channel(from, buffers);
    Flow& flow = world.add(Movement::splice, &source, nullptr);
    set_stream(flow, stream);
    world.into(flow, files.sink, offset);
    flow.transfer = std::make_unique<SpliceTransfer>(
        source.source(),
        SpliceTransfer::End{files.sink.fd(), Endpoint::file, offset, files.sink.device()},
        pattern(0, stream.head), stream.length);
    world.is_gradual = buffers == Buffers::small;
  };
}

// Two connections made one: what comes at the inner end of each goes to that of the other.
auto relay(Kind one, Kind other, Buffers buffers = Buffers::usual) {
  return [=](World& world, FaultFiles&) {
    const Channel& a = world.channel(one, buffers);
    const Channel& b = world.channel(other, buffers);
    const auto direct = [&](const Channel& from, const Channel& to, uint64_t size) {
      Flow& flow = world.add(Movement::splice, &from, nullptr);
      flow.sink_kind = Endpoint::socket;
      flow.sink = to.out();
      flow.receiver = to.in();
      set_stream(flow, {17, size});
      flow.transfer = std::make_unique<SpliceTransfer>(
          from.source(), SpliceTransfer::End{to.out(), Endpoint::socket}, pattern(0, 17),
          kToTheEnd);
    };
    direct(a, b, 10'000);
    direct(b, a, 8000);
    world.is_gradual = buffers == Buffers::small;
  };
}

struct CopyTo {
  int64_t offset = -1;
  bool may_seek = false;
  Holes holes = Holes::any;
};

auto copy(std::vector<Piece> pieces, CopyTo to, Owner owner = Owner::held) {
  return [=](World& world, FaultFiles& files) {
    Flow& flow = world.add(Movement::copy, nullptr, nullptr);
    world.into(flow, files.sink, to.offset);
    flow.transfer = std::make_unique<CopyTransfer>(
        CopyTransfer::Sink{files.sink.fd(), to.offset, files.sink.device(), to.may_seek, to.holes},
        list_of(world, flow, files.source, pieces, owner));
  };
}

// All of a file that has holes, whose size is known or is for reading to find.
auto copy_sparse(CopyTo to, bool to_the_end = false) {
  return [=](World& world, FaultFiles& files) {
    Flow& flow = world.add(Movement::copy, nullptr, nullptr);
    world.into(flow, files.sink, to.offset);
    flow.all = content_of(files.sparse.fd());
    const uint64_t length = to_the_end ? kToTheEnd : flow.all.size();
    flow.ranges = {{0, flow.all.size(), 0}};
    flow.to_the_end = to_the_end;
    flow.transfer = std::make_unique<CopyTransfer>(
        CopyTransfer::Sink{files.sink.fd(), to.offset, files.sink.device(), to.may_seek, to.holes},
        gather(files.sparse.range(0, length)));
  };
}

constexpr Shape kWhole{};
constexpr Shape kPieces{kMost};
constexpr Shape kBlocks{kBlock};

Shape looks(Looks looks, uint64_t most = kMost) {
  Shape shape{most};
  shape.looks = looks;
  return shape;
}

// Copies whose first ways are not to be had.
Shape by_sendfile() {
  Shape shape{kMost};
  shape.copy_file_range = EXDEV;
  return shape;
}
Shape by_reading() {
  Shape shape = by_sendfile();
  shape.sendfile = EINVAL;
  return shape;
}

std::vector<Scenario> make_scenarios() {
  constexpr auto kTcp = Kind::tcp;
  constexpr auto kUnix = Kind::unix_stream;
  constexpr auto kPipe = Kind::pipe;
  std::vector<Scenario> all = {
      // From files to sockets.
      {"tiny file to tcp", kWhole, gather_to(kTcp, kTiny)},
      {"tiny file to unix, in pieces", kPieces, gather_to(kUnix, kTiny)},
      {"tiny list to tcp", kWhole, gather_to(kTcp, kTinyList, Owner::borrowed)},
      {"file to unix", kPieces, gather_to(kUnix, kRange, Owner::borrowed)},
      {"file to tcp", kPieces, gather_to(kTcp, kRange)},
      {"cold file to tcp", looks(Looks::cold), gather_to(kTcp, kRange)},
      {"cold list to unix", looks(Looks::cold), gather_to(kUnix, kList)},
      {"file to unix, residency unknown", looks(Looks::unknown), gather_to(kUnix, kRange)},
      {"file to tcp, pages counted", looks(Looks::counted), gather_to(kTcp, kRange)},
      {"list to tcp", kPieces, gather_to(kTcp, kList)},
      {"list to unix", kPieces, gather_to(kUnix, kList, Owner::borrowed)},
      {"list to a slow unix reader", kPieces,
       gather_slowly_to(kUnix, {{0, 100, true}, {4097, 60'000}})},
      {"file to a slow tcp reader", Shape{16'000}, gather_slowly_to(kTcp, {{4097, 90'000}})},
      {"large file to tcp", Shape{200'000}, gather_large},
      // To pipes.
      {"tiny list to a pipe", kPieces, gather_to(kPipe, kTinyList)},
      {"file to a pipe", kPieces, gather_to(kPipe, kRange)},
      {"list to a pipe", kPieces, gather_to(kPipe, kList)},
      {"cold list to a pipe", looks(Looks::cold), gather_to(kPipe, kList, Owner::borrowed)},
      {"list to a slow pipe reader", kPieces, gather_slowly_to(kPipe, kList)},
      // By the short way, as far as it goes.
      {"short way: tiny list to tcp", kWhole, gather_to(kTcp, kTinyList, Owner::borrowed),
       Start::stepped},
      {"short way: tiny file to unix, in pieces", kPieces, gather_to(kUnix, kTiny, Owner::borrowed),
       Start::stepped},
      {"short way: list to tcp", kPieces, gather_to(kTcp, kList), Start::stepped},
      {"short way: list to a pipe", kPieces, gather_to(kPipe, kList, Owner::borrowed),
       Start::stepped},
      {"short way: cold list to tcp", looks(Looks::cold), gather_to(kTcp, kList, Owner::borrowed),
       Start::stepped},
      {"short way: pages counted", looks(Looks::counted), gather_to(kUnix, kList), Start::stepped},
      {"short way: full socket", kPieces, gather_to_full, Start::stepped},
      {"now: tiny list to tcp", kWhole, gather_to(kTcp, kTinyList, Owner::borrowed), Start::now},
      {"now: to the file's end", Shape{9000}, gather_to(kUnix, kEndOfFile, Owner::borrowed),
       Start::now},
      {"now: list to a pipe", kPieces, gather_to(kPipe, kLongList, Owner::borrowed), Start::now},
      // From sockets and pipes.
      {"unix to tcp, with a head", kPieces, splice(kUnix, kTcp, {7000})},
      {"tcp to unix, with a length", kPieces, splice(kTcp, kUnix, {17, 20'000, 14'000})},
      {"tcp to tcp", kPieces, splice(kTcp, kTcp)},
      {"unix to a unix whose peer has gone", kPieces, splice_to_nobody},
      {"unix to a pipe", kPieces, splice(kUnix, kPipe, {17})},
      {"a pipe to tcp", kPieces, splice(kPipe, kTcp, {17})},
      {"a pipe to a pipe, with a length", kPieces, splice(kPipe, kPipe, {0, 12'000, 9000})},
      {"tcp to a file at an offset", kPieces, splice_to_file(kTcp, 7, {7000})},
      {"unix to a file at its position", kPieces, splice_to_file(kUnix, -1, {17, 12'000})},
      {"unix to a file, with a length", kPieces, splice_to_file(kUnix, 0, {0, 20'000, 14'000})},
      {"a pipe to a file", kPieces, splice_to_file(kPipe, 3, {17})},
      {"slow unix to slow unix", kPieces, splice(kUnix, kUnix, {17, 25'000}, Buffers::small)},
      {"slow pipe to slow unix", kPieces, splice(kPipe, kUnix, {17, 20'000}, Buffers::small)},
      {"slow unix to a slow pipe", kPieces, splice(kUnix, kPipe, {17, 20'000}, Buffers::small)},
      {"slow unix to a file", kPieces, splice_to_file(kUnix, 0, {17, 15'000}, Buffers::small)},
      {"relay of tcp and unix", kPieces, relay(kTcp, kUnix)},
      {"relay of unix and unix, slow", kPieces, relay(kUnix, kUnix, Buffers::small)},
      // From files to files.
      {"copy", kPieces, copy(kRange, {0, true})},
      {"copy at the position", kPieces, copy(kRange, {}, Owner::borrowed)},
      {"copy of a list", kPieces, copy(kList, {3})},
      {"copy by sendfile", by_sendfile(), copy(kManyRanges, {0, true})},
      {"copy by sendfile at the position", by_sendfile(), copy(kRange, {})},
      {"copy by reading", by_reading(), copy(kManyRanges, {0, true})},
      {"copy by reading at the position", by_reading(), copy(kRange, {})},
      {"copy, and holes stay", kBlocks, copy_sparse({0, true, Holes::kept})},
      {"copy, and holes are filled", kBlocks, copy_sparse({0, true, Holes::filled})},
      {"copy to an end that is found", kBlocks, copy_sparse({0, true}, true)},
      {"copy to an end that is found, and holes stay", kBlocks,
       copy_sparse({0, true, Holes::kept}, true)},
      // And the engine's start.
      {"first transfer of an engine", kWhole, gather_to(kUnix, kTiny), Start::submitted, true},
      {"first cold transfer of an engine", looks(Looks::cold), gather_to(kUnix, kRange),
       Start::submitted, true},
      {"first copy of an engine", kPieces, copy(kRange, {0, true}), Start::submitted, true},
  };
  return all;
}

}  // namespace

FaultFiles::FaultFiles() {
  for (const uint64_t at : {uint64_t{0}, 5 * kBlock}) {
    const Bytes data = pattern(at, 2 * kBlock);
    CHECK(::pwrite(sparse.fd(), data.data(), data.size(), static_cast<off_t>(at)) ==
          static_cast<ssize_t>(data.size()));
  }
  sparse.truncate(9 * kBlock + 1);
}

const std::vector<Scenario>& fault_scenarios() {
  static const std::vector<Scenario> all = make_scenarios();
  return all;
}

}  // namespace zerocopy::test
