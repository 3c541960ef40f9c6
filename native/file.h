#pragma once

#include <cstdint>
#include <utility>

#include "unique_fd.h"

namespace zerocopy {

// An open file that transfers read from. Shared by whatever may still touch it: a transfer, a
// warmer that hangs on a dead disk, JavaScript.
class File {
 public:
  File(UniqueFd fd, uint64_t device) : fd_(std::move(fd)), device_(device) {}
  int fd() const { return fd_.get(); }
  uint64_t device() const { return device_; }  // st_dev

 private:
  const UniqueFd fd_;
  const uint64_t device_;
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
