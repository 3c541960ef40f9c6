#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "mounts.h"
#include "unique_fd.h"

namespace zerocopy {

// An open file that transfers read from, or write to. Shared by whatever may still touch it: a
// transfer, a warmer that hangs on a dead disk, JavaScript. Whoever lets go of it last, on any
// thread, waits for nobody: where closing might, another thread does it (close(2) of FUSE and NFS
// asks the other side each time).
class File {
 public:
  File(UniqueFd fd, uint64_t device, FileSystem system = FileSystem::disk)
      : owner_(std::move(fd)), fd_(owner_.get()), device_(device), system_(system) {}

  // A file whose descriptor stays the caller's: good until control goes back there.
  explicit File(int borrowed_fd) : fd_(borrowed_fd), device_(0), system_(FileSystem::disk) {}

  ~File();
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  // The same open file by a descriptor of its own. Null, and an errno, if none is to be had.
  std::shared_ptr<File> duplicate(int* error) const;

  // Closes it at once, on this thread, for the errno that close(2) may have; 0 if there is none.
  // For the only holder of what has been written to, where waiting is nobody's loss.
  int close();

  int fd() const { return fd_; }
  bool is_borrowed() const { return !owner_; }
  uint64_t device() const { return device_; }  // st_dev; 0 where that isn't known
  FileSystem system() const;                   // of a borrowed one a system call

 private:
  UniqueFd owner_;
  const int fd_;
  const uint64_t device_;
  const FileSystem system_;
};

enum class FileKind { regular, directory, fifo, socket, character_device, block_device };

struct FileFacts {
  FileKind kind;
  uint64_t size;
  bool size_known;  // false for the files of /proc and the like, which have what reading them gives
  uint64_t device;
  uint64_t inode;
};

// What the kernel knows of an open file without asking a disk or a server. An errno on failure.
int inspect(int fd, FileFacts* facts);

}  // namespace zerocopy
