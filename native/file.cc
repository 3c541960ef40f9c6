#include "file.h"

#include <errno.h>
#include <sys/stat.h>

#include <utility>

#include "syscalls.h"
#include "warmers.h"

namespace zerocopy {
namespace {

// Files that report a size and no blocks, up to here, may be of sysfs, whose sizes mean nothing.
constexpr uint64_t kLargestPseudoFile = 64 * 1024;

FileKind kind_of(unsigned mode) {
  switch (mode & S_IFMT) {
    case S_IFDIR:
      return FileKind::directory;
    case S_IFIFO:
      return FileKind::fifo;
    case S_IFSOCK:
      return FileKind::socket;
    case S_IFCHR:
      return FileKind::character_device;
    case S_IFBLK:
      return FileKind::block_device;
    default:
      return FileKind::regular;
  }
}

uint64_t device_of(const struct statx& status) {
  return uint64_t{status.stx_dev_major} << 32 | status.stx_dev_minor;
}

// procfs and sysfs allocate no blocks and refuse RWF_NOWAIT. So do empty files of tmpfs and
// overlayfs: for those the answer is a harmless "no".
bool knows_its_size(int fd, const struct statx& status) {
  if (status.stx_blocks > 0 || status.stx_size > kLargestPseudoFile) return true;
  char byte;
  const sys::Result read = sys::read_nowait(fd, &byte, 1, 0);
  return read.ok() ? static_cast<uint64_t>(read.value) == (status.stx_size > 0)
                   : read.error == EAGAIN;
}

// Threads of their own: behind reads that hang a file would stay open for as long as they do.
Warmers& closers() {
  static Warmers& closers = *new Warmers;  // leaked: threads outlive static destructors
  return closers;
}

}  // namespace

File::~File() {
  if (!owner_ || system_ != FileSystem::served) return;
  const int fd = owner_.release();
  // No thread to be had: then this one waits, which may be slow but not wrong.
  if (!closers().submit(device_, [fd] { UniqueFd(fd).reset(); })) UniqueFd(fd).reset();
}

int File::close() {
  return owner_ ? sys::close(owner_.release()).error : 0;
}

FileSystem File::system() const {
  if (!is_borrowed()) return system_;
  struct statx status;
  if (!sys::status(fd_, &status).ok()) return FileSystem::served;
  return Mounts::instance().of(device_of(status), fd_);
}

std::shared_ptr<File> File::duplicate(int* error) const {
  const sys::Result copy = sys::duplicate(fd_);
  *error = copy.error;
  if (!copy.ok()) return nullptr;
  UniqueFd fd(static_cast<int>(copy.value));
  // Only a hint is made of the device, and whatever the kernel has against telling it shows again
  // when the file is read.
  struct statx status;
  const uint64_t device = sys::status(fd.get(), &status).ok() ? device_of(status) : 0;
  const FileSystem system = Mounts::instance().of(device, fd.get());
  return std::make_shared<File>(std::move(fd), device, system);
}

int inspect(int fd, FileFacts* facts) {
  struct statx status;
  const sys::Result result = sys::status(fd, &status);
  if (!result.ok()) return result.error;
  facts->kind = kind_of(status.stx_mode);
  facts->size = status.stx_size;
  facts->size_known = facts->kind == FileKind::regular && knows_its_size(fd, status);
  facts->device = device_of(status);
  facts->inode = status.stx_ino;
  return 0;
}

}  // namespace zerocopy
