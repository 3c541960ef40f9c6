#pragma once

#include <cstddef>
#include <mutex>
#include <vector>

#include "unique_fd.h"

namespace zerocopy {

// A pipe through which splice(2) moves bytes between two descriptors that are no pipes.
struct Pipe {
  UniqueFd read;
  UniqueFd write;
  explicit operator bool() const { return static_cast<bool>(read); }
};

// Empty pipes, shared by all transfers that need one: only while they have bytes on their way, so
// that those that wait for their source have none. Kept for the next, a few of them, as long as
// there is any such transfer; with the last one they are closed.
class PipePool {
 public:
  static constexpr size_t kMaxIdle = 16;

  // What a pipe should hold: the most that a user may ask for, unless an administrator has set
  // another limit (/proc/sys/fs/pipe-max-size). Nothing relies on it: a user who has more than
  // pipe-user-pages-soft in pipes gets tiny ones.
  static constexpr int kPipeBytes = 1024 * 1024;

  static PipePool& instance();

  // A transfer that may need pipes.
  class User {
   public:
    User() { instance().join(); }
    ~User() { instance().leave(); }
    User(const User&) = delete;
    User& operator=(const User&) = delete;
  };

  // An errno if there is none to be had.
  int take(Pipe* pipe);
  // Only one that is empty.
  void give_back(Pipe pipe);

 private:
  void join();
  void leave();

  std::mutex mutex_;
  std::vector<Pipe> idle_;
  size_t users_ = 0;
};

}  // namespace zerocopy
