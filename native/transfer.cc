#include "transfer.h"

#include <errno.h>

#include "syscalls.h"

namespace zerocopy {
namespace {

// Whether a pair of endpoints can't be served by a call at all. Asked only before its first byte.
bool means_unsupported(int error) {
  switch (error) {
    case ENOSYS:      // seccomp profiles, gVisor
    case EPERM:       // seccomp profiles of older container engines
    case EINVAL:      // the file system has no splice_read or splice_write (some FUSE, proc files)
    case EOPNOTSUPP:  // stacked file systems whose lower layer has none
    case EXDEV:       // copy_file_range between file systems (Linux before 5.3, and since 5.19)
    case EIO:         // CIFS on read (golang/go#42334); a disk's own EIO shows again when reading
      return true;
    default:
      return false;
  }
}

}  // namespace

Outcome Transfer::fail(Call call, int error) {
  failed_call_ = call;
  error_ = error;
  return Outcome::failed;
}

int Transfer::duplicate(int* fd, UniqueFd* owner) {
  const sys::Result copy = sys::duplicate(*fd);
  if (!copy.ok()) {
    fail(Call::dup, copy.error);
    return copy.error;
  }
  *owner = UniqueFd(static_cast<int>(copy.value));
  *fd = owner->get();
  return 0;
}

int Transfer::duplicate(int* fd, std::shared_ptr<File>* owner) {
  int error;
  *owner = File(*fd).duplicate(&error);
  if (!*owner) {
    fail(Call::dup, error);
    return error;
  }
  *fd = (*owner)->fd();
  return 0;
}

Outcome Transfer::close_file(File* file) {
  const int error = file ? file->close() : 0;
  return error ? fail(Call::close, error) : Outcome::done;
}

Outcome Transfer::fail_or_unsupported(Call call, int error, bool nothing_moved) {
  fail(call, error);
  return nothing_moved && means_unsupported(error) ? Outcome::unsupported : Outcome::failed;
}

}  // namespace zerocopy
