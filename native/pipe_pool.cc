#include "pipe_pool.h"

#include <utility>

#include "syscalls.h"

namespace zerocopy {

PipePool& PipePool::instance() {
  static PipePool& pool = *new PipePool;  // leaked: threads outlive static destructors
  return pool;
}

int PipePool::take(Pipe* pipe) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!idle_.empty()) {
      *pipe = std::move(idle_.back());
      idle_.pop_back();
      return 0;
    }
  }
  int fds[2];
  const sys::Result made = sys::pipe(fds);
  if (!made.ok()) return made.error;
  *pipe = {UniqueFd(fds[0]), UniqueFd(fds[1])};
  sys::set_pipe_size(fds[1], kPipeBytes);  // EPERM beyond the user's share: it stays as it is
  return 0;
}

void PipePool::give_back(Pipe pipe) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (idle_.size() < kMaxIdle) idle_.push_back(std::move(pipe));
}

void PipePool::join() {
  std::lock_guard<std::mutex> lock(mutex_);
  ++users_;
}

void PipePool::leave() {
  std::vector<Pipe> unused;
  std::lock_guard<std::mutex> lock(mutex_);
  if (--users_ == 0) unused.swap(idle_);
}

}  // namespace zerocopy
