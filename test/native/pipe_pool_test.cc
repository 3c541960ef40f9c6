#include "pipe_pool.h"

#include <fcntl.h>

#include <optional>
#include <thread>

#include "helpers.h"

namespace zerocopy::test {
namespace {

// Counts the pipes that are made.
class PipeCount {
 public:
  int made() const { return made_; }

 private:
  std::atomic<int> made_{0};
  Seam<&Calls::pipe> seam_{[this](int fds[2]) {
    ++made_;
    return kernel.pipe(fds);
  }};
};

Pipe take_one() {
  Pipe pipe;
  REQUIRE(PipePool::instance().take(&pipe) == 0);
  REQUIRE(pipe);
  return pipe;
}

TEST_CASE("a pipe has two ends, closes on exec and holds much") {
  DescriptorGuard guard;
  PipePool::User user;
  const Pipe pipe = take_one();
  const Bytes bytes = pattern(0, 4097);
  CHECK(::write(pipe.write.get(), bytes.data(), bytes.size()) == 4097);
  CHECK(difference(receive(pipe.read.get(), 4097), bytes) == "");
  CHECK((::fcntl(pipe.read.get(), F_GETFD) & FD_CLOEXEC) != 0);
  CHECK((::fcntl(pipe.write.get(), F_GETFD) & FD_CLOEXEC) != 0);
  CHECK(&PipePool::instance() == &PipePool::instance());
  CHECK_FALSE(Pipe{});
}

TEST_CASE("a pipe is asked to hold what a user may have, and does without") {
  DescriptorGuard guard;
  PipePool::User user;
  int asked_fd = -1, asked_bytes = 0;
  const auto take_while = [&](int error) {
    Seam<&Calls::set_pipe_size> seam([&](int fd, int bytes) {
      asked_fd = fd;
      asked_bytes = bytes;
      return error == 0 ? kernel.set_pipe_size(fd, bytes) : fail_with(error);
    });
    return take_one();
  };
  for (const int error : {0, EPERM, EBUSY, EINVAL}) {
    CAPTURE(error);
    const Pipe pipe = take_while(error);
    CHECK((asked_fd == pipe.read.get() || asked_fd == pipe.write.get()));
    CHECK(asked_bytes == PipePool::kPipeBytes);
    if (error != 0) CHECK(::fcntl(pipe.write.get(), F_GETPIPE_SZ) < PipePool::kPipeBytes);
  }
}

TEST_CASE("a pipe that is given back is taken again") {
  DescriptorGuard guard;
  PipeCount pipes;
  PipePool::User user;
  Pipe pipe = take_one();
  const int reading = pipe.read.get();
  for (int i = 0; i < 3; ++i) {
    PipePool::instance().give_back(std::move(pipe));
    pipe = take_one();
    CHECK(pipe.read.get() == reading);
  }
  CHECK(pipes.made() == 1);
}

TEST_CASE("a pipe that is held is nobody else's") {
  DescriptorGuard guard;
  PipeCount pipes;
  PipePool::User user;
  const Pipe first = take_one(), second = take_one();
  CHECK(first.read.get() != second.read.get());
  CHECK(pipes.made() == 2);
}

TEST_CASE("only some are kept") {
  constexpr size_t kMany = PipePool::kMaxIdle + 5;
  DescriptorGuard guard;
  PipeCount made;
  PipePool::User user;
  const size_t before = count_descriptors();
  std::vector<Pipe> pipes;
  for (size_t i = 0; i < kMany; ++i) pipes.push_back(take_one());
  CHECK(count_descriptors() == before + 2 * kMany);
  for (Pipe& pipe : pipes) PipePool::instance().give_back(std::move(pipe));
  CHECK(count_descriptors() == before + 2 * PipePool::kMaxIdle);
  for (size_t i = 0; i < kMany; ++i) pipes[i] = take_one();
  CHECK(made.made() == kMany + 5);
}

TEST_CASE("with the last user all of them go") {
  DescriptorGuard guard;
  const size_t before = count_descriptors();
  std::optional<PipePool::User> first, second;
  first.emplace();
  PipePool::instance().give_back(take_one());
  CHECK(count_descriptors() == before + 2);
  second.emplace();
  first.reset();
  CHECK(count_descriptors() == before + 2);
  first.emplace();
  second.reset();
  CHECK(count_descriptors() == before + 2);
  first.reset();
  CHECK(count_descriptors() == before);

  // And then it begins anew.
  first.emplace();
  PipePool::instance().give_back(take_one());
  CHECK(count_descriptors() == before + 2);
}

TEST_CASE("no pipe to be had") {
  DescriptorGuard guard;
  PipePool::User user;
  Pipe pipe;
  for (const int error : {EMFILE, ENFILE}) {
    Seam<&Calls::pipe> seam([error](int*) { return fail_with(error); });
    CHECK(PipePool::instance().take(&pipe) == error);
    CHECK_FALSE(pipe);
  }
  CHECK(PipePool::instance().take(&pipe) == 0);
  CHECK(pipe);
}

TEST_CASE("many threads take and give back, and none gets another's bytes") {
  DescriptorGuard guard;
  std::atomic<int> wrong{0};
  const auto work = [&](char mark) {
    for (int i = 0; i < 500; ++i) {
      PipePool::User user;
      Pipe pipe;
      char seen = 0;
      if (PipePool::instance().take(&pipe) != 0 || ::write(pipe.write.get(), &mark, 1) != 1 ||
          ::read(pipe.read.get(), &seen, 1) != 1 || seen != mark) {
        ++wrong;
        return;
      }
      PipePool::instance().give_back(std::move(pipe));
    }
  };
  std::vector<std::thread> threads;
  for (char mark = 1; mark <= 4; ++mark) threads.emplace_back(work, mark);
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

}  // namespace
}  // namespace zerocopy::test
