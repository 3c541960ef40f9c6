#pragma once

#include <ostream>  // without it doctest can print little of what the standard library has

#include <doctest/doctest.h>

#include <errno.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "engine.h"
#include "file.h"
#include "gather_transfer.h"
#include "residency.h"
#include "splice_transfer.h"
#include "syscalls.h"
#include "transfer.h"
#include "unique_fd.h"

namespace zerocopy::test {

using sys::Calls;
using Bytes = std::vector<uint8_t>;

// The calls themselves, for replacements that pass on what they are given.
inline const Calls& kernel = sys::kKernelCalls;

// No test depends on how long anything takes: this ends what would hang.
inline constexpr std::chrono::seconds kPatience{60};

// The sizes at which pages, steps and pipes begin and end.
inline constexpr uint64_t kSizes[] = {
    0, 1, 4095, 4096, 4097, 64 * 1024 - 1, 64 * 1024, 64 * 1024 + 1, 128 * 1024 + 16};

// A segment of more than this can't go by reading.
inline constexpr uint64_t kBeyondReadWay = kReadWayBytes + 1;

// Waits for what tells nobody when it happens: a thread's end, a descriptor's close.
bool eventually(const std::function<bool()>& condition);

size_t count_descriptors();

// What an epoll watches, as the kernel has it; 0 of what is none, or isn't open.
int registrations_of(const std::string& epoll_fd);

// Checks that a test leaves as many descriptors as there were. Comes before whatever holds some.
class DescriptorGuard {
 public:
  DescriptorGuard() : before_(count_descriptors()) {}
  // A warmer may hold a file for a moment after the transfer that needed it has ended.
  ~DescriptorGuard() {
    CHECK(eventually([&] { return count_descriptors() == before_; }));
  }

 private:
  const size_t before_;
};

inline int fail_with(int error) {
  errno = error;
  return -1;
}

// Replaces one entry of sys::calls for as long as it lives.
//
// The table itself holds trampolines from the start of main() to its end, because threads of
// engines read it all the time. A trampoline calls the handler, if there is one, else the kernel.
// The destructor waits until no thread is in the handler, which may thus refer to what was declared
// before it; so a handler must never block for ever, epoll_wait included, and never throw, which
// REQUIRE does.
template <auto entry>
class Seam;

template <typename Value, typename... Arguments, Value (*Calls::*entry)(Arguments...)>
class Seam<entry> {
 public:
  using Handler = std::function<Value(Arguments...)>;

  explicit Seam(Handler handler) {
    State& state = shared();
    std::lock_guard<std::mutex> lock(state.mutex);
    REQUIRE_FALSE(state.replaced);
    state.handler = std::move(handler);
    state.replaced = true;
  }

  ~Seam() {
    State& state = shared();
    std::unique_lock<std::mutex> lock(state.mutex);
    state.replaced = false;
    state.left.wait(lock, [&] { return state.inside == 0; });
    state.handler = nullptr;
  }

  Seam(const Seam&) = delete;
  Seam& operator=(const Seam&) = delete;

  static Value trampoline(Arguments... arguments) {
    State& state = shared();
    {
      std::unique_lock<std::mutex> lock(state.mutex);
      if (!state.replaced) {
        lock.unlock();
        return (kernel.*entry)(arguments...);
      }
      ++state.inside;
    }
    const Value value = state.handler(arguments...);
    const int error = errno;
    {
      std::lock_guard<std::mutex> lock(state.mutex);
      if (--state.inside == 0) state.left.notify_all();
    }
    errno = error;
    return value;
  }

 private:
  struct State {
    std::mutex mutex;
    std::condition_variable left;
    Handler handler;
    bool replaced = false;
    int inside = 0;  // threads that are in the handler
  };

  static State& shared() {
    static State& state = *new State;  // leaked: threads outlive static destructors
    return state;
  }
};

// close(2) fails, though it closes, as that of a file on NFS may.
struct FailingClose {
  explicit FailingClose(int error)
      : closes([error](int fd) {
          kernel.close(fd);
          return fail_with(error);
        }) {}
  Seam<&Calls::close> closes;
};

// What the file system under the tests can tell of its page cache is not for them to depend on.
struct AllResident {
  Seam<&Calls::read_nowait> looks{kernel.read};
};

struct AllCold {
  Seam<&Calls::read_nowait> looks{[](int, void*, size_t, off_t) { return fail_with(EAGAIN); }};
};

struct NobodyKnows {
  Seam<&Calls::read_nowait> looks{[](int, void*, size_t, off_t) { return fail_with(EOPNOTSUPP); }};
  Seam<&Calls::cached_pages> counts{[](int, uint64_t, uint64_t) { return fail_with(EOPNOTSUPP); }};
};

// A /proc/self/mountinfo that says what it is told to, and tells of a change as the kernel does.
// Nobody else may read or poll meanwhile.
class FakeMountinfo {
 public:
  void say(std::string text);
  int reads() const { return reads_; }

 private:
  std::string text_;
  bool changed_ = false;
  int reads_ = 0;
  Seam<&Calls::read> read_{[this](int, void* buffer, size_t count, off_t offset) {
    return read(buffer, count, offset);
  }};
  Seam<&Calls::poll> poll_{[this](pollfd* fds, nfds_t, int) {
    fds->revents = changed_ ? fds->events : 0;
    changed_ = false;
    return 0;
  }};

  ssize_t read(void* buffer, size_t count, off_t offset);
};

// Puts the trampolines in place. Before any thread is started.
void install_trampolines();

// Holds threads until it is opened.
class Gate {
 public:
  void wait();
  void open();
  // Whether `count` threads have come to wait(), since the gate was made.
  bool reached_by(int count);
  int arrivals();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int arrivals_ = 0;
  bool open_ = false;
};

// The bytes of every file and buffer of the tests: each place in them looks different.
Bytes pattern(uint64_t offset, uint64_t length);

// Where two byte strings first differ, "" if they are equal.
std::string difference(const Bytes& received, const Bytes& expected);

Bytes concatenation(std::initializer_list<Bytes> parts);

// A new folder on a real disk: where ZEROCOPY_TEST_SCRATCH says, else beside the tests.
std::string new_folder();

// A file on disk that begins with pattern(0, size).
class TestFile {
 public:
  // Each has a device number of its own, so that no test learns from what another's disk did.
  explicit TestFile(uint64_t size, FileSystem system = FileSystem::disk);
  TestFile(uint64_t size, uint64_t device, FileSystem system = FileSystem::disk);
  ~TestFile();

  int fd() const { return file_->fd(); }
  const std::string& path() const { return path_; }
  uint64_t device() const { return file_->device(); }
  const std::shared_ptr<const File>& file() const { return file_; }
  Segment range(uint64_t offset, uint64_t length) const {
    return Segment::of_file(file_, offset, length);
  }

  void truncate(uint64_t size);
  // Asks the kernel to drop the file from the page cache; whether it has.
  bool evict();

 private:
  std::string directory_;
  std::string path_;
  std::shared_ptr<const File> file_;
};

inline Segment memory(const Bytes& bytes) {
  return Segment::of_memory(bytes.data(), bytes.size());
}

template <typename... Segments>
std::vector<Segment> gather(Segments&&... segments) {
  std::vector<Segment> list;
  (list.push_back(std::move(segments)), ...);
  return list;
}

// What a file holds now, without a look at its position.
Bytes content_of(int fd);

enum class Family { unix_stream, tcp };
inline constexpr Family kFamilies[] = {Family::unix_stream, Family::tcp};

enum class Buffers { usual, small };

// Two connected sockets; the sender is in non-blocking mode, as Node's are.
class SocketPair {
 public:
  explicit SocketPair(Family family, Buffers buffers = Buffers::usual);

  int sender() const { return sender_.get(); }
  int receiver() const { return receiver_.get(); }
  void close_sender() { sender_.reset(); }
  void close_receiver() { receiver_.reset(); }

  // Sends until the socket takes no more, and returns how much that was. Of Unix sockets only: a
  // TCP socket may take more a moment later, when the peer's kernel has taken its bytes.
  size_t fill();

 private:
  UniqueFd sender_;
  UniqueFd receiver_;
};

enum class Kind { unix_stream, tcp, pipe };
inline constexpr Kind kKinds[] = {Kind::unix_stream, Kind::tcp, Kind::pipe};

// Bytes go in at one end and come out at the other; both ends are in non-blocking mode.
class Channel {
 public:
  explicit Channel(Kind kind, Buffers buffers = Buffers::usual);

  Kind kind() const { return kind_; }
  Endpoint endpoint() const { return kind_ == Kind::pipe ? Endpoint::pipe : Endpoint::socket; }
  int in() const { return in_.get(); }
  int out() const { return out_.get(); }
  void close_in() { in_.reset(); }
  void close_out() { out_.reset(); }

  SpliceTransfer::End source() const { return {out(), endpoint()}; }
  SpliceTransfer::End sink() const { return {in(), endpoint()}; }

  // Puts in what fits of some bytes, and returns how much that was.
  size_t put(const uint8_t* data, size_t count) const;
  void put_all(const Bytes& bytes) const;
  // Puts bytes in until it takes no more, and returns how many that were. See SocketPair::fill().
  size_t fill() const;

 private:
  const Kind kind_;
  UniqueFd in_;
  UniqueFd out_;
};

// Puts bytes into a channel, as many as fit whenever it is asked to; after the last of them it
// closes the channel.
class Feeder {
 public:
  // `chunk`: the most that goes in at once.
  Feeder(Channel& channel, Bytes bytes, size_t chunk = ~size_t{0})
      : channel_(channel), bytes_(std::move(bytes)), chunk_(chunk) {}

  void feed();
  // What whoever reads the channel finds there from now on.
  Bytes read_rest();
  const Channel& channel() const { return channel_; }

 private:
  Channel& channel_;
  const Bytes bytes_;
  const size_t chunk_;
  size_t gone_ = 0;
};

// What comes within kPatience, up to `count` bytes or the end.
Bytes receive(int fd, uint64_t count);
Bytes receive_rest(int fd);
// What there is, once there is something. A little at a time, as a slow reader does.
Bytes receive_available(int fd);
// The same as receive() followed by a comparison with pattern(offset, count), in little memory.
std::string receive_pattern(int fd, uint64_t offset, uint64_t count);

// sendfile(2) to a client that takes whatever it is offered: always the full count.
ssize_t sendfile_whole(int out_fd, int in_fd, off_t* offset, size_t count);

struct Driven {
  Outcome outcome;
  Bytes received;
};

// Steps a transfer to its end as the engine does, on this thread, reading at the other end whenever
// the socket is full. Then closes the sender and reads what is left.
Driven drive(Transfer& transfer, SocketPair& pair);
// The same, into a channel.
Driven drive(Transfer& transfer, Channel& sink);
// The same, feeding the source whenever it has nothing. Without a sink: into a file.
Driven drive(Transfer& transfer, Feeder& feeder, Channel* sink);

// Collects completions.
class Recorder : public Client {
 public:
  Recorder() = default;
  explicit Recorder(std::function<void(const Completion&)> watcher)
      : watcher_(std::move(watcher)) {}

  void complete(Completion completion) override;

  Completion wait_for(TransferId id);
  bool wait_until(size_t count);
  std::vector<Completion> all();
  size_t count();
  size_t count(TransferId id);

 private:
  const std::function<void(const Completion&)> watcher_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Completion> completions_;
};

// Engines and warmers are never destroyed: their threads may run for as long as the process.
Engine& new_engine(int movers);
// One whose movers run already, with the descriptors that it needs for itself.
Engine& started_engine(int movers);
Warmers& new_warmers();

TransferId submit(Engine& engine, int socket, std::vector<Segment> segments,
                  const std::shared_ptr<Client>& client);

TransferId submit(Engine& engine, std::unique_ptr<Transfer> transfer,
                  const std::shared_ptr<Client>& client);

// Counts the threads that are started while it lives, to their end.
class ThreadCount {
 public:
  ThreadCount();
  int started() const { return counts_->started; }
  int alive() const { return counts_->alive; }

 private:
  struct Counts {
    std::atomic<int> started{0};
    std::atomic<int> alive{0};
  };
  struct Start {
    void* (*body)(void*);
    void* argument;
    std::shared_ptr<Counts> counts;
  };
  static void* thread_main(void* start);

  std::shared_ptr<Counts> counts_ = std::make_shared<Counts>();
  Seam<&Calls::thread_create> seam_;
};

}  // namespace zerocopy::test
