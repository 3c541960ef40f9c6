// No memory to be had, of a size that a caller picks: an error, and not the end of the process.
#include <poll.h>

#include <algorithm>

#include "copy_transfer.h"
#include "helpers.h"

namespace zerocopy::test {
namespace {

// There is no memory for this much or more.
class Scarcity {
 public:
  explicit Scarcity(size_t least)
      : seam_([this, least](size_t bytes) -> void* {
          if (bytes < least) return kernel.allocate(bytes);
          ++refused_;
          return nullptr;
        }) {}

  int refused() const { return refused_; }

 private:
  std::atomic<int> refused_{0};
  Seam<&Calls::allocate> seam_;
};

void check_no_memory(const Transfer& transfer) {
  CHECK(transfer.failed_call() == Call::malloc);
  CHECK(transfer.error() == ENOMEM);
}

TEST_CASE("memory is asked for, or only looked for, and none is no crash") {
  CHECK(sys::allocate(0));
  CHECK(sys::allocate(1000));
  CHECK(sys::has_memory(0));
  CHECK(sys::has_memory(1000));
  Scarcity scarcity(1000);
  CHECK(sys::allocate(999));
  CHECK_FALSE(sys::allocate(1000));
  CHECK(sys::has_memory(999));
  CHECK_FALSE(sys::has_memory(1000));
}

TEST_CASE("a gather list whose memory can't be kept is not sent, nor written") {
  DescriptorGuard guard;
  TestFile file(100), sink(0);
  const Bytes small = pattern(0, 10'000), large = pattern(10'000, 262'144);
  SocketPair pair(Family::unix_stream);
  GatherTransfer sent(pair.sender(), gather(memory(small), file.range(0, 100), memory(large)));
  CopyTransfer copied({sink.fd(), 0, sink.device()}, gather(memory(small), memory(large)));
  for (Transfer* transfer : {static_cast<Transfer*>(&sent), static_cast<Transfer*>(&copied)}) {
    {
      Scarcity scarcity(large.size());
      CHECK(transfer->own() == ENOMEM);
      CHECK(scarcity.refused() == 1);
    }
    check_no_memory(*transfer);
    CHECK(transfer->transferred() == 0);
    CHECK(transfer->own() == 0);  // when there is some
  }
}

TEST_CASE("a copy that must read finds no memory to read into") {
  DescriptorGuard guard;
  TestFile source(200'000), sink(0);
  Seam<&Calls::copy_file_range> none(
      [](int, loff_t*, int, loff_t*, size_t) -> ssize_t { return fail_with(ENOSYS); });
  CopyTransfer transfer({sink.fd(), 0, sink.device()}, gather(source.range(0, 200'000)));
  {
    Scarcity scarcity(4096);
    CHECK(transfer.step() == Outcome::failed);
    CHECK(scarcity.refused() == 1);
  }
  check_no_memory(transfer);
  CHECK(transfer.transferred() == 0);
}

// What has been taken from the source, and there is no memory to hand back.
TEST_CASE("bytes that can't be handed back make a failure of whatever it was") {
  Engine& engine = started_engine(1);
  DescriptorGuard guard;
  TestFile file(0);
  const auto recorder = std::make_shared<Recorder>();
  Channel source(Kind::tcp);
  source.put_all(pattern(0, 5000));
  pollfd ready{source.out(), POLLIN, 0};
  CHECK(::poll(&ready, 1, 60'000) == 1);
  std::atomic<int> calls{0};
  // The pipe is filled, and then not emptied.
  Seam<&Calls::splice> seam(
      [&](int in, loff_t* from, int out, loff_t* to, size_t count, unsigned flags) -> ssize_t {
        if (calls++ == 1) return fail_with(EINVAL);
        return kernel.splice(in, from, out, to, count, flags);
      });
  Scarcity scarcity(4096);
  const SpliceTransfer::End sink{file.fd(), Endpoint::file, 0, file.device()};
  const TransferId id = submit(
      engine, std::make_unique<SpliceTransfer>(source.source(), sink, Bytes{}, uint64_t{5000}),
      recorder);
  const Completion completion = recorder->wait_for(id);
  CHECK(completion.outcome == Outcome::failed);  // and not unsupported, from which one goes on
  CHECK(completion.call == Call::malloc);
  CHECK(completion.error == ENOMEM);
  CHECK(completion.transferred == 0);
  CHECK(completion.residual.empty());
  CHECK(scarcity.refused() == 1);
}

}  // namespace
}  // namespace zerocopy::test
