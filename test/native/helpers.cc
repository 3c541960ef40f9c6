#include "helpers.h"

#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <thread>

namespace zerocopy::test {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t kBlock = 256 * 1024;
constexpr uint64_t kLittle = 4096;

// A Unix socket goes down to this. For TCP it would leave a window smaller than one segment of the
// loopback interface, and every exchange would wait for a timer.
constexpr int kSmallUnixBuffer = 4096;
constexpr int kSmallTcpBuffer = 64 * 1024;

constexpr int kSmallPipe = 4096;

constexpr int kQuickLooks = 100;

uint64_t pattern_word(uint64_t index) {
  uint64_t word = (index + 1) * 0x9e3779b97f4a7c15;
  word = (word ^ word >> 30) * 0xbf58476d1ce4e5b9;
  return word ^ word >> 27;
}

uint64_t next_device() {
  static std::atomic<uint64_t> device{1'000'000};
  return ++device;
}

void write_all(int fd, uint64_t size) {
  for (uint64_t at = 0; at < size; at += kBlock) {
    const Bytes block = pattern(at, std::min(kBlock, size - at));
    REQUIRE(::pwrite(fd, block.data(), block.size(), static_cast<off_t>(at)) ==
            static_cast<ssize_t>(block.size()));
  }
}

void set_buffer(int fd, int option, int bytes) {
  REQUIRE(::setsockopt(fd, SOL_SOCKET, option, &bytes, sizeof bytes) == 0);
}

void connect_tcp(Buffers buffers, UniqueFd* sender, UniqueFd* receiver) {
  const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  *sender = UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (buffers == Buffers::small) {
    set_buffer(listener.get(), SO_RCVBUF, kSmallTcpBuffer);
    set_buffer(sender->get(), SO_SNDBUF, kSmallTcpBuffer);
  }
  sockaddr_in address{};
  socklen_t length = sizeof address;
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  REQUIRE(::bind(listener.get(), generic, length) == 0);
  REQUIRE(::listen(listener.get(), 1) == 0);
  REQUIRE(::getsockname(listener.get(), generic, &length) == 0);
  REQUIRE(::connect(sender->get(), generic, length) == 0);
  *receiver = UniqueFd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  REQUIRE(*receiver);
}

void connect_unix(Buffers buffers, UniqueFd* sender, UniqueFd* receiver) {
  int fds[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
  *sender = UniqueFd(fds[0]);
  *receiver = UniqueFd(fds[1]);
  if (buffers == Buffers::small) set_buffer(sender->get(), SO_SNDBUF, kSmallUnixBuffer);
}

// Sends until nothing more is taken, and returns how much was.
size_t repeat(const std::function<ssize_t()>& send) {
  size_t sent = 0;
  for (ssize_t n = send(); n >= 0; n = send()) sent += static_cast<size_t>(n);
  REQUIRE(errno == EAGAIN);
  return sent;
}

// Before Linux 6.5 a Unix socket that is full takes pages of files and pipes still.
size_t fill_with_pages(int fd) {
  const Bytes filler(1024);
  const UniqueFd file(::memfd_create("filler", MFD_CLOEXEC));
  REQUIRE(::write(file.get(), filler.data(), filler.size()) == static_cast<ssize_t>(filler.size()));
  return repeat([&] {
    off_t offset = 0;
    return ::sendfile(fd, file.get(), &offset, filler.size());
  });
}

int milliseconds_until(Clock::time_point deadline) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
  return static_cast<int>(std::max<int64_t>(0, left.count()));
}

// Appends what there is, up to `count` bytes, waiting for the first. False at the end of the
// stream, when it was reset, and when nothing came.
bool receive_some(int fd, uint64_t count, Clock::time_point deadline, Bytes* received) {
  pollfd ready{fd, POLLIN, 0};
  if (::poll(&ready, 1, milliseconds_until(deadline)) <= 0) return false;
  const size_t before = received->size();
  received->resize(before + std::min(count, kBlock));
  uint8_t* const space = received->data() + before;
  ssize_t n = ::recv(fd, space, received->size() - before, MSG_DONTWAIT);
  if (n < 0 && errno == ENOTSOCK) n = ::read(fd, space, received->size() - before);
  received->resize(before + static_cast<size_t>(std::max<ssize_t>(0, n)));
  return n > 0;
}

}  // namespace

bool eventually(const std::function<bool()>& condition) {
  const auto deadline = Clock::now() + kPatience;
  for (int looks = 0; !condition(); ++looks) {
    if (Clock::now() > deadline) return false;
    // As a rule it is a matter of microseconds.
    if (looks < kQuickLooks) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  return true;
}

size_t count_descriptors() {
  // Since Linux 6.2 it says so itself, which is much quicker where many are open.
  struct stat status;
  REQUIRE(::stat("/proc/self/fd", &status) == 0);
  if (status.st_size > 0) return static_cast<size_t>(status.st_size);
  DIR* directory = ::opendir("/proc/self/fd");
  REQUIRE(directory != nullptr);
  size_t count = 0;
  while (::readdir(directory) != nullptr) ++count;
  ::closedir(directory);
  return count;
}

int registrations_of(const std::string& epoll_fd) {
  FILE* info = ::fopen(("/proc/self/fdinfo/" + epoll_fd).c_str(), "re");
  if (!info) return 0;
  int count = 0;
  char line[256];
  while (::fgets(line, sizeof line, info)) count += ::strncmp(line, "tfd:", 4) == 0;
  ::fclose(info);
  return count;
}

void FakeMountinfo::say(std::string text) {
  text_ = std::move(text);
  changed_ = true;
}

ssize_t FakeMountinfo::read(void* buffer, size_t count, off_t offset) {
  constexpr size_t kMost = 10;
  if (offset == 0) ++reads_;
  const size_t at = std::min(static_cast<size_t>(offset), text_.size());
  const size_t part = std::min({count, text_.size() - at, kMost});
  std::copy_n(text_.data() + at, part, static_cast<char*>(buffer));
  return static_cast<ssize_t>(part);
}

void install_trampolines() {
  Calls calls = kernel;
  calls.sendfile = Seam<&Calls::sendfile>::trampoline;
  calls.splice = Seam<&Calls::splice>::trampoline;
  calls.copy_file_range = Seam<&Calls::copy_file_range>::trampoline;
  calls.send = Seam<&Calls::send>::trampoline;
  calls.read_nowait = Seam<&Calls::read_nowait>::trampoline;
  calls.read = Seam<&Calls::read>::trampoline;
  calls.read_stream = Seam<&Calls::read_stream>::trampoline;
  calls.write = Seam<&Calls::write>::trampoline;
  calls.write_at = Seam<&Calls::write_at>::trampoline;
  calls.peek = Seam<&Calls::peek>::trampoline;
  calls.readahead = Seam<&Calls::readahead>::trampoline;
  calls.cached_pages = Seam<&Calls::cached_pages>::trampoline;
  calls.open_cached = Seam<&Calls::open_cached>::trampoline;
  calls.open = Seam<&Calls::open>::trampoline;
  calls.duplicate = Seam<&Calls::duplicate>::trampoline;
  calls.close = Seam<&Calls::close>::trampoline;
  calls.status_flags = Seam<&Calls::status_flags>::trampoline;
  calls.tcp_state = Seam<&Calls::tcp_state>::trampoline;
  calls.status = Seam<&Calls::status>::trampoline;
  calls.seek = Seam<&Calls::seek>::trampoline;
  calls.pipe = Seam<&Calls::pipe>::trampoline;
  calls.set_pipe_size = Seam<&Calls::set_pipe_size>::trampoline;
  calls.poll = Seam<&Calls::poll>::trampoline;
  calls.epoll_create = Seam<&Calls::epoll_create>::trampoline;
  calls.epoll_control = Seam<&Calls::epoll_control>::trampoline;
  calls.epoll_wait = Seam<&Calls::epoll_wait>::trampoline;
  calls.event_create = Seam<&Calls::event_create>::trampoline;
  calls.event_signal = Seam<&Calls::event_signal>::trampoline;
  calls.thread_create = Seam<&Calls::thread_create>::trampoline;
  calls.allocate = Seam<&Calls::allocate>::trampoline;
  sys::calls = calls;
}

void Gate::wait() {
  std::unique_lock<std::mutex> lock(mutex_);
  ++arrivals_;
  changed_.notify_all();
  changed_.wait_for(lock, kPatience, [&] { return open_; });
}

void Gate::open() {
  std::lock_guard<std::mutex> lock(mutex_);
  open_ = true;
  changed_.notify_all();
}

bool Gate::reached_by(int count) {
  std::unique_lock<std::mutex> lock(mutex_);
  return changed_.wait_for(lock, kPatience, [&] { return arrivals_ >= count; });
}

int Gate::arrivals() {
  std::lock_guard<std::mutex> lock(mutex_);
  return arrivals_;
}

Bytes pattern(uint64_t offset, uint64_t length) {
  Bytes bytes(length);
  uint64_t word = pattern_word(offset / 8) >> offset % 8 * 8;
  for (uint64_t i = 0; i < length; ++i) {
    if ((offset + i) % 8 == 0) word = pattern_word((offset + i) / 8);
    bytes[i] = static_cast<uint8_t>(word);
    word >>= 8;
  }
  return bytes;
}

std::string difference(const Bytes& received, const Bytes& expected) {
  const auto ends =
      std::mismatch(received.begin(), received.end(), expected.begin(), expected.end());
  if (ends.first == received.end() && ends.second == expected.end()) return "";
  return "of " + std::to_string(received.size()) + " bytes received and " +
         std::to_string(expected.size()) + " expected the first " +
         std::to_string(ends.first - received.begin()) + " are equal";
}

Bytes concatenation(std::initializer_list<Bytes> parts) {
  Bytes whole;
  for (const Bytes& part : parts) whole.insert(whole.end(), part.begin(), part.end());
  return whole;
}

std::string new_folder() {
  const char* const chosen = ::getenv("ZEROCOPY_TEST_SCRATCH");
  std::string folder = std::string(chosen ? chosen : ZEROCOPY_SCRATCH) + "/engine-XXXXXX";
  REQUIRE(::mkdtemp(folder.data()) != nullptr);
  return folder;
}

TestFile::TestFile(uint64_t size, FileSystem system) : TestFile(size, next_device(), system) {}

TestFile::TestFile(uint64_t size, uint64_t device, FileSystem system) {
  directory_ = new_folder();
  path_ = directory_ + "/data";
  UniqueFd fd(::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  REQUIRE(fd);
  write_all(fd.get(), size);
  file_ = std::make_shared<const File>(std::move(fd), device, system);
}

TestFile::~TestFile() {
  ::unlink(path_.c_str());
  ::rmdir(directory_.c_str());
}

void TestFile::truncate(uint64_t size) {
  REQUIRE(::ftruncate(fd(), static_cast<off_t>(size)) == 0);
}

bool TestFile::evict() {
  REQUIRE(::fsync(fd()) == 0);
  if (probe_residency(*file_, 0, 1) != Residency::resident) return false;
  ::posix_fadvise(fd(), 0, 0, POSIX_FADV_DONTNEED);
  // Not by a read that can't wait, which starts to read what it doesn't find.
  void* const page = ::mmap(nullptr, 1, PROT_READ, MAP_SHARED, fd(), 0);
  REQUIRE(page != MAP_FAILED);
  unsigned char is_resident = 1;
  REQUIRE(::mincore(page, 1, &is_resident) == 0);
  ::munmap(page, 1);
  return (is_resident & 1) == 0;
}

Bytes content_of(int fd) {
  Bytes content(kBlock);
  size_t size = 0;
  for (;;) {
    const ssize_t n =
        ::pread(fd, content.data() + size, content.size() - size, static_cast<off_t>(size));
    REQUIRE(n >= 0);
    size += static_cast<size_t>(n);
    if (n == 0) break;
    if (size == content.size()) content.resize(2 * size);
  }
  content.resize(size);
  return content;
}

SocketPair::SocketPair(Family family, Buffers buffers) {
  (family == Family::tcp ? connect_tcp : connect_unix)(buffers, &sender_, &receiver_);
  REQUIRE(::fcntl(sender(), F_SETFL, O_NONBLOCK) == 0);
}

size_t SocketPair::fill() {
  const Bytes filler(1024);
  const auto send = [&] { return ::send(sender(), filler.data(), filler.size(), MSG_NOSIGNAL); };
  return repeat(send) + fill_with_pages(sender());
}

Channel::Channel(Kind kind, Buffers buffers) : kind_(kind) {
  if (kind == Kind::pipe) {
    int fds[2];
    REQUIRE(::pipe2(fds, O_CLOEXEC) == 0);
    out_ = UniqueFd(fds[0]);
    in_ = UniqueFd(fds[1]);
    if (buffers == Buffers::small) REQUIRE(::fcntl(in(), F_SETPIPE_SZ, kSmallPipe) >= 0);
  } else {
    (kind == Kind::tcp ? connect_tcp : connect_unix)(buffers, &in_, &out_);
  }
  REQUIRE(::fcntl(in(), F_SETFL, O_NONBLOCK) == 0);
  REQUIRE(::fcntl(out(), F_SETFL, O_NONBLOCK) == 0);
}

size_t Channel::put(const uint8_t* data, size_t count) const {
  size_t gone = 0;
  while (gone < count) {
    const ssize_t n = ::write(in(), data + gone, count - gone);
    if (n < 0) break;
    gone += static_cast<size_t>(n);
  }
  return gone;
}

void Channel::put_all(const Bytes& bytes) const {
  REQUIRE(put(bytes.data(), bytes.size()) == bytes.size());
}

size_t Channel::fill() const {
  const Bytes filler(1024);
  size_t filled = 0;
  while (const size_t n = put(filler.data(), filler.size())) filled += n;
  REQUIRE(errno == EAGAIN);
  return kind_ == Kind::unix_stream ? filled + fill_with_pages(in()) : filled;
}

void Feeder::feed() {
  while (gone_ < bytes_.size()) {
    const size_t n = channel_.put(bytes_.data() + gone_, std::min(chunk_, bytes_.size() - gone_));
    if (n == 0) return;
    gone_ += n;
  }
  channel_.close_in();
}

Bytes Feeder::read_rest() {
  const auto deadline = Clock::now() + kPatience;
  Bytes rest;
  do {
    feed();
  } while (receive_some(channel_.out(), kBlock, deadline, &rest));
  return rest;
}

Bytes receive(int fd, uint64_t count) {
  const auto deadline = Clock::now() + kPatience;
  Bytes received;
  while (received.size() < count &&
         receive_some(fd, count - received.size(), deadline, &received)) {
  }
  return received;
}

Bytes receive_rest(int fd) {
  return receive(fd, ~uint64_t{0});
}

Bytes receive_available(int fd) {
  Bytes received;
  receive_some(fd, kLittle, Clock::now() + kPatience, &received);
  return received;
}

std::string receive_pattern(int fd, uint64_t offset, uint64_t count) {
  while (count > 0) {
    const uint64_t some = std::min(count, kBlock);
    const std::string different = difference(receive(fd, some), pattern(offset, some));
    if (!different.empty()) return "from " + std::to_string(offset) + ": " + different;
    offset += some;
    count -= some;
  }
  return "";
}

ssize_t sendfile_whole(int out_fd, int in_fd, off_t* offset, size_t count) {
  const auto deadline = Clock::now() + kPatience;
  size_t sent = 0;
  while (sent < count) {
    const ssize_t n = kernel.sendfile(out_fd, in_fd, offset, count - sent);
    if (n == 0) break;
    if (n > 0) {
      sent += static_cast<size_t>(n);
      continue;
    }
    pollfd ready{out_fd, POLLOUT, 0};
    if (errno != EAGAIN || ::poll(&ready, 1, milliseconds_until(deadline)) <= 0) return -1;
  }
  return static_cast<ssize_t>(sent);
}

namespace {

Driven drive(Transfer& transfer, Feeder* feeder, int sink, int receiver,
             const std::function<void()>& close_sink) {
  const auto deadline = Clock::now() + kPatience;
  Driven driven{};
  for (;;) {
    driven.outcome = transfer.step();
    if (driven.outcome == Outcome::wait_readable) {
      REQUIRE(feeder != nullptr);
      feeder->feed();
      pollfd ready{feeder->channel().out(), POLLIN, 0};
      ::poll(&ready, 1, milliseconds_until(deadline));
    } else if (driven.outcome == Outcome::wait_writable) {
      pollfd ready[] = {{sink, POLLOUT, 0}, {receiver, POLLIN, 0}};
      ::poll(ready, 2, milliseconds_until(deadline));
      if (ready[1].revents != 0) receive_some(receiver, kLittle, deadline, &driven.received);
    } else if (driven.outcome == Outcome::cold) {
      const FileRange range = transfer.cold_range();
      warm(*range.file, range.offset, range.length);
      transfer.warmed();
    } else if (driven.outcome != Outcome::again) {
      break;
    }
    REQUIRE(Clock::now() < deadline);
  }
  close_sink();
  while (receiver >= 0 && receive_some(receiver, kBlock, deadline, &driven.received)) {
  }
  return driven;
}

}  // namespace

Driven drive(Transfer& transfer, SocketPair& pair) {
  return drive(transfer, nullptr, pair.sender(), pair.receiver(), [&] { pair.close_sender(); });
}

Driven drive(Transfer& transfer, Channel& sink) {
  return drive(transfer, nullptr, sink.in(), sink.out(), [&] { sink.close_in(); });
}

Driven drive(Transfer& transfer, Feeder& feeder, Channel* sink) {
  if (!sink) return drive(transfer, &feeder, -1, -1, [] {});
  return drive(transfer, &feeder, sink->in(), sink->out(), [&] { sink->close_in(); });
}

void Recorder::complete(Completion completion) {
  if (watcher_) watcher_(completion);
  std::lock_guard<std::mutex> lock(mutex_);
  completions_.push_back(completion);
  changed_.notify_all();
}

Completion Recorder::wait_for(TransferId id) {
  std::unique_lock<std::mutex> lock(mutex_);
  const auto is_it = [id](const Completion& completion) { return completion.id == id; };
  auto found = completions_.end();
  const bool came = changed_.wait_for(lock, kPatience, [&] {
    found = std::find_if(completions_.begin(), completions_.end(), is_it);
    return found != completions_.end();
  });
  REQUIRE(came);
  return *found;
}

bool Recorder::wait_until(size_t count) {
  std::unique_lock<std::mutex> lock(mutex_);
  return changed_.wait_for(lock, kPatience, [&] { return completions_.size() >= count; });
}

std::vector<Completion> Recorder::all() {
  std::lock_guard<std::mutex> lock(mutex_);
  return completions_;
}

size_t Recorder::count() {
  return all().size();
}

size_t Recorder::count(TransferId id) {
  const std::vector<Completion> completions = all();
  return static_cast<size_t>(
      std::count_if(completions.begin(), completions.end(),
                    [id](const Completion& completion) { return completion.id == id; }));
}

Engine& new_engine(int movers) {
  static std::vector<Engine*>& engines = *new std::vector<Engine*>;
  engines.push_back(new Engine);
  engines.back()->set_movers(movers);
  return *engines.back();
}

Engine& started_engine(int movers) {
  Engine& engine = new_engine(movers);
  const SocketPair pair(Family::unix_stream);
  const auto recorder = std::make_shared<Recorder>();
  recorder->wait_for(submit(engine, pair.sender(), {}, recorder));
  return engine;
}

Warmers& new_warmers() {
  static std::vector<Warmers*>& all = *new std::vector<Warmers*>;
  all.push_back(new Warmers);
  return *all.back();
}

TransferId submit(Engine& engine, int socket, std::vector<Segment> segments,
                  const std::shared_ptr<Client>& client) {
  return submit(engine, std::make_unique<GatherTransfer>(socket, std::move(segments)), client);
}

TransferId submit(Engine& engine, std::unique_ptr<Transfer> transfer,
                  const std::shared_ptr<Client>& client) {
  REQUIRE(transfer->own() == 0);
  const TransferId id = engine.submit(&transfer, client);
  REQUIRE(id != 0);
  return id;
}

ThreadCount::ThreadCount()
    : seam_([counts = counts_](void* (*body)(void*), void* argument) {
        auto start = std::make_unique<Start>(Start{body, argument, counts});
        ++counts->started;
        ++counts->alive;
        const int error = kernel.thread_create(thread_main, start.get());
        if (error == 0) {
          start.release();  // the thread's now
        } else {
          --counts->started;
          --counts->alive;
        }
        return error;
      }) {}

void* ThreadCount::thread_main(void* argument) {
  const std::unique_ptr<Start> start(static_cast<Start*>(argument));
  start->body(start->argument);
  --start->counts->alive;
  return nullptr;
}

}  // namespace zerocopy::test
