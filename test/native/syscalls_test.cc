#include "syscalls.h"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/socket.h>

#include <algorithm>

#include "helpers.h"

namespace zerocopy::test {
namespace {

using sys::Result;
using Answer = std::function<int64_t()>;

struct Wrapper {
  const char* name;
  // Calls the wrapper while its entry of the table answers so.
  std::function<Result(const Answer&)> call;
};

template <auto entry>
Wrapper wrapper(const char* name, std::function<Result()> call) {
  return {name, [call = std::move(call)](const Answer& answer) {
            Seam<entry> seam([&](auto...) { return answer(); });
            return call();
          }};
}

// All but start_thread(), whose call tells its error otherwise and is never interrupted, poll(),
// whose value is not its call's, and close().
std::vector<Wrapper> wrappers() {
  return {
      wrapper<&Calls::sendfile>("sendfile", [] { return sys::sendfile(1, 2, 3, 4); }),
      wrapper<&Calls::sendfile>("sendfile_at_position",
                                [] { return sys::sendfile_at_position(1, 2, 3); }),
      wrapper<&Calls::splice>("splice", [] { return sys::splice(1, nullptr, 2, nullptr, 3, 0); }),
      wrapper<&Calls::copy_file_range>(
          "copy_file_range", [] { return sys::copy_file_range(1, nullptr, 2, nullptr, 3); }),
      wrapper<&Calls::send>("send", [] { return sys::send(1, nullptr, 0, false); }),
      wrapper<&Calls::read_nowait>("read_nowait",
                                   [] { return sys::read_nowait(1, nullptr, 0, 0); }),
      wrapper<&Calls::read>("read", [] { return sys::read(1, nullptr, 0, 0); }),
      wrapper<&Calls::read_stream>("read_stream", [] { return sys::read_stream(1, nullptr, 0); }),
      wrapper<&Calls::write>("write", [] { return sys::write(1, nullptr, 0); }),
      wrapper<&Calls::write_at>("write_at", [] { return sys::write_at(1, nullptr, 0, 0); }),
      wrapper<&Calls::peek>("peek", [] { return sys::peek(1); }),
      wrapper<&Calls::readahead>("readahead", [] { return sys::readahead(1, 0, 1); }),
      wrapper<&Calls::cached_pages>("cached_pages", [] { return sys::cached_pages(1, 0, 1); }),
      wrapper<&Calls::open_cached>("open_cached", [] { return sys::open_cached("/", O_RDONLY); }),
      wrapper<&Calls::open>("open", [] { return sys::open("/", O_RDONLY); }),
      wrapper<&Calls::duplicate>("duplicate", [] { return sys::duplicate(1); }),
      wrapper<&Calls::status_flags>("status_flags", [] { return sys::status_flags(1); }),
      wrapper<&Calls::tcp_state>("tcp_state", [] { return sys::tcp_state(1); }),
      wrapper<&Calls::status>("status", [] { return sys::status(1, nullptr); }),
      wrapper<&Calls::seek>("seek", [] { return sys::seek(1, 2); }),
      wrapper<&Calls::seek>("find_data", [] { return sys::find_data(1, 2); }),
      wrapper<&Calls::seek>("find_hole", [] { return sys::find_hole(1, 2); }),
      wrapper<&Calls::pipe>("pipe", [] { return sys::pipe(nullptr); }),
      wrapper<&Calls::set_pipe_size>("set_pipe_size", [] { return sys::set_pipe_size(1, 2); }),
      wrapper<&Calls::epoll_create>("epoll_create", [] { return sys::epoll_create(); }),
      wrapper<&Calls::epoll_control>("epoll_control",
                                     [] { return sys::epoll_control(1, 2, 3, 4, 5); }),
      wrapper<&Calls::epoll_wait>("epoll_wait", [] { return sys::epoll_wait(1, nullptr, 1, 0); }),
      wrapper<&Calls::event_create>("event_create", [] { return sys::event_create(); }),
      wrapper<&Calls::event_signal>("event_signal", [] { return sys::event_signal(1); }),
  };
}

bool closes_on_exec(int fd) {
  return (::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0;
}

void* note_blocked_signals(void* argument) {
  sigset_t blocked;
  ::pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
  int count = 0;
  for (const int signal : {SIGINT, SIGTERM, SIGCHLD, SIGPIPE, SIGUSR1, SIGPROF})
    count += sigismember(&blocked, signal);
  static_cast<std::atomic<int>*>(argument)->store(count);
  return nullptr;
}

bool is_blocked_here(int signal) {
  sigset_t blocked;
  ::pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
  return sigismember(&blocked, signal) == 1;
}

TEST_CASE("every wrapper calls again after EINTR") {
  for (const Wrapper& wrapper : wrappers()) {
    CAPTURE(wrapper.name);
    int calls = 0;
    const Result result = wrapper.call([&]() -> int64_t {
      if (++calls < 4) return fail_with(EINTR);
      return 7;
    });
    CHECK(calls == 4);
    CHECK(result.value == 7);
    CHECK(result.error == 0);
  }
}

TEST_CASE("every wrapper returns its errno") {
  for (const Wrapper& wrapper : wrappers()) {
    CAPTURE(wrapper.name);
    for (const int error : {EAGAIN, EIO, EPIPE, ENOSYS}) {
      const Result result = wrapper.call([&] { return fail_with(error); });
      CHECK_FALSE(result.ok());
      CHECK(result.value == -1);
      CHECK(result.error == error);
    }
  }
}

TEST_CASE("an errno left over from before is not taken for this call's") {
  for (const Wrapper& wrapper : wrappers()) {
    CAPTURE(wrapper.name);
    for (const int64_t value : {0, 5}) {
      const Result result = wrapper.call([&] {
        errno = EIO;
        return value;
      });
      CHECK(result.ok());
      CHECK(result.value == value);
    }
  }
}

TEST_CASE("an interrupted call begins at the same offset again") {
  std::vector<int64_t> offsets;
  const auto interrupt = [&](loff_t* offset) {
    offsets.push_back(*offset);
    *offset += 1000;
    return offsets.size() < 3;
  };
  SUBCASE("sendfile") {
    Seam<&Calls::sendfile> seam(
        [&](int, int, off_t* offset, size_t) { return interrupt(offset) ? fail_with(EINTR) : 9; });
    CHECK(sys::sendfile(1, 2, 5'000'000'000, 4).value == 9);
  }
  SUBCASE("splice") {
    Seam<&Calls::splice> seam([&](int, loff_t* in, int, loff_t*, size_t, unsigned) {
      return interrupt(in) ? fail_with(EINTR) : 9;
    });
    const int64_t offset = 5'000'000'000;
    CHECK(sys::splice(1, &offset, 2, nullptr, 4, 0).value == 9);
    CHECK(offset == 5'000'000'000);
  }
  SUBCASE("copy_file_range") {
    Seam<&Calls::copy_file_range> seam([&](int, loff_t*, int, loff_t* out, size_t) {
      return interrupt(out) ? fail_with(EINTR) : 9;
    });
    const int64_t in = 1, out = 5'000'000'000;
    CHECK(sys::copy_file_range(1, &in, 2, &out, 4).value == 9);
    CHECK(out == 5'000'000'000);
  }
  CHECK(offsets == std::vector<int64_t>(3, 5'000'000'000));
}

TEST_CASE("no call is asked for more than the kernel moves at once") {
  uint64_t asked = 0;
  Seam<&Calls::sendfile> sendfile([&](int, int, off_t*, size_t count) {
    asked = count;
    return 0;
  });
  Seam<&Calls::splice> splice([&](int, loff_t*, int, loff_t*, size_t count, unsigned) {
    asked = count;
    return 0;
  });
  Seam<&Calls::copy_file_range> copy([&](int, loff_t*, int, loff_t*, size_t count) {
    asked = count;
    return 0;
  });
  const std::pair<uint64_t, uint64_t> cases[] = {
      {0, 0},
      {4097, 4097},
      {0x7ffff000, 0x7ffff000},
      {0x7ffff001, 0x7ffff000},
      {uint64_t{1} << 40, 0x7ffff000},
  };
  for (const auto& [count, most] : cases) {
    CAPTURE(count);
    sys::sendfile(1, 2, 0, count);
    CHECK(asked == most);
    sys::sendfile_at_position(1, 2, count);
    CHECK(asked == most);
    sys::splice(1, nullptr, 2, nullptr, count, 0);
    CHECK(asked == most);
    sys::copy_file_range(1, nullptr, 2, nullptr, count);
    CHECK(asked == most);
  }
}

TEST_CASE("sendfile leaves the descriptor's position, sendfile_at_position moves it") {
  DescriptorGuard guard;
  TestFile file(10'000);
  SocketPair pair(Family::unix_stream);
  REQUIRE(::lseek(file.fd(), 100, SEEK_SET) == 100);

  CHECK(sys::sendfile(pair.sender(), file.fd(), 4097, 500).value == 500);
  CHECK(::lseek(file.fd(), 0, SEEK_CUR) == 100);
  CHECK(sys::sendfile_at_position(pair.sender(), file.fd(), 50).value == 50);
  CHECK(::lseek(file.fd(), 0, SEEK_CUR) == 150);

  pair.close_sender();
  CHECK(difference(receive_rest(pair.receiver()),
                   concatenation({pattern(4097, 500), pattern(100, 50)})) == "");
}

TEST_CASE("seek tells a descriptor's position, or moves it") {
  DescriptorGuard guard;
  TestFile file(100);
  CHECK(sys::seek(file.fd(), 40).value == 40);
  CHECK(sys::seek(file.fd(), -1).value == 40);
  CHECK(sys::seek(file.fd(), 0).value == 0);
  CHECK(sys::seek(file.fd(), -1).value == 0);
}

TEST_CASE("splice moves from a file to a socket through a pipe") {
  DescriptorGuard guard;
  TestFile file(10'000);
  SocketPair pair(Family::unix_stream);
  int fds[2];
  REQUIRE(sys::pipe(fds).ok());
  const UniqueFd reading(fds[0]), writing(fds[1]);
  CHECK(closes_on_exec(fds[0]));
  CHECK(closes_on_exec(fds[1]));
  REQUIRE(::lseek(file.fd(), 0, SEEK_SET) == 0);

  const int64_t offset = 5;
  CHECK(sys::splice(file.fd(), &offset, writing.get(), nullptr, 4097, SPLICE_F_NONBLOCK).value ==
        4097);
  CHECK(::lseek(file.fd(), 0, SEEK_CUR) == 0);
  CHECK(
      sys::splice(reading.get(), nullptr, pair.sender(), nullptr, 4097, SPLICE_F_NONBLOCK).value ==
      4097);
  CHECK(sys::splice(reading.get(), nullptr, pair.sender(), nullptr, 1, SPLICE_F_NONBLOCK).error ==
        EAGAIN);

  pair.close_sender();
  CHECK(difference(receive_rest(pair.receiver()), pattern(5, 4097)) == "");
}

TEST_CASE("read_stream takes what a pipe has") {
  DescriptorGuard guard;
  Channel pipe(Kind::pipe);
  Bytes buffer(100);
  CHECK(sys::read_stream(pipe.out(), buffer.data(), buffer.size()).error == EAGAIN);
  pipe.put_all(pattern(5, 60));
  CHECK(sys::read_stream(pipe.out(), buffer.data(), buffer.size()).value == 60);
  buffer.resize(60);
  CHECK(difference(buffer, pattern(5, 60)) == "");
  pipe.close_in();
  CHECK(sys::read_stream(pipe.out(), buffer.data(), buffer.size()).value == 0);
}

TEST_CASE("write gathers its parts, into a pipe and at a file's position") {
  DescriptorGuard guard;
  Bytes first = pattern(0, 10), second = pattern(10, 4097);
  const iovec parts[] = {{first.data(), first.size()}, {second.data(), second.size()}};
  Channel pipe(Kind::pipe);
  CHECK(sys::write(pipe.in(), parts, 2).value == 4107);
  CHECK(difference(receive(pipe.out(), 4107), pattern(0, 4107)) == "");
  pipe.fill();
  CHECK(sys::write(pipe.in(), parts, 2).error == EAGAIN);
  pipe.close_out();
  CHECK(sys::write(pipe.in(), parts, 2).error == EPIPE);

  TestFile file(0);
  REQUIRE(sys::seek(file.fd(), 7).ok());
  CHECK(sys::write(file.fd(), parts, 2).value == 4107);
  CHECK(sys::seek(file.fd(), -1).value == 7 + 4107);
  CHECK(difference(content_of(file.fd()), concatenation({Bytes(7), pattern(0, 4107)})) == "");
}

TEST_CASE("write_at leaves a file's position") {
  DescriptorGuard guard;
  TestFile file(100);
  const Bytes bytes = pattern(1000, 4097);
  REQUIRE(sys::seek(file.fd(), 7).ok());
  CHECK(sys::write_at(file.fd(), bytes.data(), bytes.size(), 50).value == 4097);
  CHECK(sys::seek(file.fd(), -1).value == 7);
  CHECK(difference(content_of(file.fd()), concatenation({pattern(0, 50), bytes})) == "");
  // Offsets are of 64 bits.
  off_t asked = 0;
  Seam<&Calls::write_at> seam([&](int, const void*, size_t, off_t offset) {
    asked = offset;
    return 1;
  });
  CHECK(sys::write_at(1, bytes.data(), 1, uint64_t{5} << 32).value == 1);
  CHECK(asked == off_t{5} << 32);
}

TEST_CASE("peek tells whether a socket has anything, and takes nothing") {
  DescriptorGuard guard;
  for (const Family family : kFamilies) {
    CAPTURE(static_cast<int>(family));
    SocketPair pair(family);  // its receiver would block
    CHECK(sys::peek(pair.receiver()).error == EAGAIN);
    const Bytes bytes = pattern(0, 10);
    const iovec part{const_cast<uint8_t*>(bytes.data()), bytes.size()};
    REQUIRE(sys::send(pair.sender(), &part, 1, false).value == 10);
    CHECK(eventually([&] { return sys::peek(pair.receiver()).ok(); }));
    CHECK(sys::peek(pair.receiver()).value == 1);
    CHECK(difference(receive(pair.receiver(), 10), bytes) == "");
    pair.close_sender();
    CHECK(eventually([&] { return sys::peek(pair.receiver()).ok(); }));
    CHECK(sys::peek(pair.receiver()).value == 0);
  }
  Channel pipe(Kind::pipe);
  CHECK(sys::peek(pipe.out()).error == ENOTSOCK);
}

TEST_CASE("tcp_state tells what state a connection is in, of TCP alone") {
  SocketPair pair(Family::tcp);
  CHECK(sys::tcp_state(pair.receiver()).value == TCP_ESTABLISHED);
  pair.close_sender();
  CHECK(eventually([&] { return sys::tcp_state(pair.receiver()).value == TCP_CLOSE_WAIT; }));

  SocketPair other(Family::tcp);
  const linger at_once{1, 0};
  REQUIRE(::setsockopt(other.sender(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) == 0);
  other.close_sender();
  CHECK(eventually([&] { return sys::tcp_state(other.receiver()).value == TCP_CLOSE; }));

  CHECK(sys::tcp_state(SocketPair(Family::unix_stream).sender()).error == EOPNOTSUPP);
  CHECK(sys::tcp_state(Channel(Kind::pipe).out()).error == ENOTSOCK);
}

TEST_CASE("find_data and find_hole find what there is from an offset on") {
  constexpr uint64_t kMiB = 1024 * 1024;
  DescriptorGuard guard;
  TestFile file(0);
  file.truncate(3 * kMiB);
  const Bytes bytes = pattern(0, 65'536);
  REQUIRE(sys::write_at(file.fd(), bytes.data(), bytes.size(), kMiB).ok());
  const Result data = sys::find_data(file.fd(), 5);
  if (!data.ok() || data.value == 5) {
    MESSAGE("not here: a file system without holes");
    return;
  }
  CHECK(data.value == kMiB);
  CHECK(sys::find_hole(file.fd(), 5).value == 5);
  CHECK(sys::find_hole(file.fd(), kMiB).value == kMiB + 65'536);
  CHECK(sys::find_data(file.fd(), kMiB + 65'536).error == ENXIO);
  CHECK(sys::find_hole(file.fd(), 3 * kMiB).error == ENXIO);
}

TEST_CASE("set_pipe_size makes a pipe hold more, or less") {
  DescriptorGuard guard;
  Channel pipe(Kind::pipe);
  CHECK(sys::set_pipe_size(pipe.in(), 4096).value == 4096);
  CHECK(pipe.fill() == 4096);
  CHECK(sys::set_pipe_size(pipe.out(), 65'536).value == 65'536);
  CHECK(pipe.fill() == 65'536 - 4096);
  CHECK(sys::set_pipe_size(pipe.in(), 4096).error == EBUSY);
}

TEST_CASE("poll tells what holds by now, and waits for nothing") {
  DescriptorGuard guard;
  Channel pipe(Kind::pipe);
  CHECK(sys::poll(pipe.out(), POLLIN).value == 0);
  CHECK(sys::poll(pipe.in(), POLLOUT).value == POLLOUT);
  pipe.put_all(pattern(0, 1));
  CHECK(sys::poll(pipe.out(), POLLIN).value == POLLIN);
  CHECK(sys::poll(pipe.out(), 0).value == 0);
  pipe.close_in();
  CHECK(sys::poll(pipe.out(), POLLIN).value == (POLLIN | POLLHUP));
}

TEST_CASE("poll returns its errno, and polls again after EINTR") {
  int calls = 0;
  std::vector<int> timeouts;
  Seam<&Calls::poll> seam([&](pollfd* fds, nfds_t count, int timeout) {
    CHECK(count == 1);
    CHECK(fds->fd == 5);
    CHECK(fds->events == POLLIN);
    timeouts.push_back(timeout);
    if (++calls < 4) return fail_with(EINTR);
    if (calls == 4) {
      fds->revents = POLLIN | POLLERR;
      errno = EIO;
      return 1;
    }
    return calls == 5 ? 0 : fail_with(ENOMEM);
  });
  const Result ready = sys::poll(5, POLLIN);
  CHECK(ready.ok());
  CHECK(ready.value == (POLLIN | POLLERR));
  CHECK(calls == 4);
  CHECK(sys::poll(5, POLLIN).value == 0);
  const Result failed = sys::poll(5, POLLIN);
  CHECK(failed.value == -1);
  CHECK(failed.error == ENOMEM);
  CHECK(timeouts == std::vector<int>(6, 0));
}

TEST_CASE("copy_file_range copies between offsets") {
  DescriptorGuard guard;
  TestFile source(10'000), sink(100);
  const int64_t in = 4095, out = 50;
  const Result copied = sys::copy_file_range(source.fd(), &in, sink.fd(), &out, 4097);
  if (copied.error == EXDEV || copied.error == EOPNOTSUPP || copied.error == ENOSYS) {
    MESSAGE("not here: errno " << copied.error);
    return;
  }
  CHECK(copied.value == 4097);
  Bytes content(5000);
  const Result read = sys::read(sink.fd(), content.data(), content.size(), 0);
  REQUIRE(read.value == 50 + 4097);
  content.resize(static_cast<size_t>(read.value));
  CHECK(difference(content, concatenation({pattern(0, 50), pattern(4095, 4097)})) == "");
}

TEST_CASE("send neither blocks nor signals, and holds a packet back only when told") {
  int flags = 0;
  Seam<&Calls::send> seam([&](int, const iovec*, size_t, int given) {
    flags = given;
    return 1;
  });
  sys::send(1, nullptr, 0, false);
  CHECK(flags == (MSG_DONTWAIT | MSG_NOSIGNAL));
  sys::send(1, nullptr, 0, true);
  CHECK(flags == (MSG_DONTWAIT | MSG_NOSIGNAL | MSG_MORE));
}

TEST_CASE("send gathers its parts") {
  DescriptorGuard guard;
  SocketPair pair(Family::tcp);
  Bytes first = pattern(0, 10), second = pattern(10, 4097);
  const iovec parts[] = {{first.data(), first.size()}, {second.data(), second.size()}};
  CHECK(sys::send(pair.sender(), parts, 2, false).value == 4107);
  pair.close_sender();
  CHECK(difference(receive_rest(pair.receiver()), pattern(0, 4107)) == "");
}

TEST_CASE("a full socket says EAGAIN, one whose peer has gone EPIPE") {
  DescriptorGuard guard;
  SocketPair pair(Family::unix_stream, Buffers::small);
  TestFile file(4096);
  pair.fill();
  Bytes bytes(4096);
  const iovec part{bytes.data(), bytes.size()};
  CHECK(sys::send(pair.sender(), &part, 1, false).error == EAGAIN);
  CHECK(sys::sendfile(pair.sender(), file.fd(), 0, 4096).error == EAGAIN);
  pair.close_receiver();
  CHECK(sys::send(pair.sender(), &part, 1, false).error == EPIPE);
  CHECK(sys::sendfile(pair.sender(), file.fd(), 0, 4096).error == EPIPE);
}

TEST_CASE("reading is at an offset and stops at the end") {
  DescriptorGuard guard;
  TestFile file(5000);
  Bytes buffer(4097);
  CHECK(sys::read(file.fd(), buffer.data(), buffer.size(), 903).value == 4097);
  CHECK(difference(buffer, pattern(903, 4097)) == "");
  CHECK(sys::read(file.fd(), buffer.data(), buffer.size(), 4999).value == 1);
  CHECK(sys::read(file.fd(), buffer.data(), buffer.size(), 5000).value == 0);
  CHECK(sys::readahead(file.fd(), 0, 5000).ok());
}

TEST_CASE("read_nowait gives what is in the page cache, where the file system can tell") {
  DescriptorGuard guard;
  TestFile file(8192);
  char byte;
  REQUIRE(sys::read(file.fd(), &byte, 1, 4096).value == 1);
  Bytes buffer(100);
  const Result read = sys::read_nowait(file.fd(), buffer.data(), buffer.size(), 4097);
  if (!read.ok()) {
    MESSAGE("not here: errno " << read.error);
    return;
  }
  CHECK(difference(buffer, pattern(4097, 100)) == "");
  // Beyond 4 GiB the offset takes both of preadv2's words.
  CHECK(sys::read_nowait(file.fd(), buffer.data(), 1, (uint64_t{1} << 32) + 5).value <= 0);
}

TEST_CASE("cached_pages counts the pages of a range") {
  DescriptorGuard guard;
  TestFile file(8 * 4096);
  const Result all = sys::cached_pages(file.fd(), 0, 8 * 4096);
  const Result two = sys::cached_pages(file.fd(), 4095, 2);
  if (!all.ok() || all.value == 0) {
    MESSAGE("not here: errno " << all.error);
    return;
  }
  CHECK(all.value == 8);
  CHECK(two.value == 2);
}

TEST_CASE("open_cached opens what it need not wait for") {
  DescriptorGuard guard;
  TestFile file(10);
  const Result opened = sys::open_cached(file.path().c_str(), O_RDONLY);
  if (opened.ok()) {
    const UniqueFd fd(static_cast<int>(opened.value));
    CHECK(closes_on_exec(fd.get()));
    Bytes content(10);
    CHECK(sys::read(fd.get(), content.data(), 10, 0).value == 10);
    CHECK(difference(content, pattern(0, 10)) == "");
  } else {
    MESSAGE("not here: errno " << opened.error);
  }
  CHECK_FALSE(sys::open_cached((file.path() + "/none").c_str(), O_RDONLY).ok());
}

TEST_CASE("every new descriptor closes on exec") {
  DescriptorGuard guard;
  const UniqueFd epoll(static_cast<int>(sys::epoll_create().value));
  const UniqueFd event(static_cast<int>(sys::event_create().value));
  const UniqueFd copy(static_cast<int>(sys::duplicate(event.get()).value));
  for (const UniqueFd* fd : {&epoll, &event, &copy}) {
    CHECK(closes_on_exec(fd->get()));
  }
  CHECK((sys::status_flags(copy.get()).value & O_NONBLOCK) != 0);
}

TEST_CASE("close tells its errno, and is never made again") {
  DescriptorGuard guard;
  for (const int error : {0, EINTR, EDQUOT}) {
    CAPTURE(error);
    int calls = 0;
    Seam<&Calls::close> seam([&](int fd) {
      ++calls;
      kernel.close(fd);
      return error == 0 ? 0 : fail_with(error);
    });
    const Result result = sys::close(static_cast<int>(sys::event_create().value));
    CHECK(calls == 1);
    CHECK(result.ok() == (error != EDQUOT));
    CHECK(result.error == (error == EDQUOT ? EDQUOT : 0));
  }
}

TEST_CASE("an event counts once for each waking") {
  DescriptorGuard guard;
  const UniqueFd event(static_cast<int>(sys::event_create().value));
  const UniqueFd epoll(static_cast<int>(sys::epoll_create().value));
  REQUIRE(
      sys::epoll_control(epoll.get(), EPOLL_CTL_ADD, event.get(), EPOLLIN | EPOLLET, 0x123456789a)
          .ok());
  epoll_event ready{};
  CHECK(sys::epoll_wait(epoll.get(), &ready, 1, 0).value == 0);
  for (int i = 0; i < 2; ++i) {
    REQUIRE(sys::event_signal(event.get()).ok());
    CHECK(sys::epoll_wait(epoll.get(), &ready, 1, 0).value == 1);
    CHECK(uint64_t{ready.data.u64} == 0x123456789a);
    CHECK(sys::epoll_wait(epoll.get(), &ready, 1, 0).value == 0);
  }
  CHECK(sys::epoll_control(epoll.get(), EPOLL_CTL_ADD, event.get(), EPOLLIN, 0).error == EEXIST);
}

TEST_CASE("a thread takes no signals, and its maker's stay as they were") {
  std::atomic<int> blocked{-1};
  REQUIRE(sys::start_thread(note_blocked_signals, &blocked).ok());
  CHECK(eventually([&] { return blocked >= 0; }));
  CHECK(blocked == 6);
  CHECK_FALSE(is_blocked_here(SIGTERM));
}

TEST_CASE("start_thread returns the error of a thread that is not to be had") {
  Seam<&Calls::thread_create> seam([&](void* (*)(void*), void*) {
    errno = EIO;
    return EAGAIN;
  });
  const Result result = sys::start_thread(note_blocked_signals, nullptr);
  CHECK(result.value == -1);
  CHECK(result.error == EAGAIN);
  CHECK_FALSE(is_blocked_here(SIGTERM));
}

}  // namespace
}  // namespace zerocopy::test
