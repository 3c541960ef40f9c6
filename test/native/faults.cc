#include "faults.h"

#include <errno.h>
#include <string.h>

#include <array>
#include <initializer_list>
#include <utility>

namespace zerocopy::test {
namespace {

constexpr const char* kCallNames[kCallKinds] = {
    "sendfile",     "splice",        "copy_file_range",
    "send",         "read_nowait",   "read",
    "read_stream",  "write",         "write_at",
    "peek",         "readahead",     "cached_pages",
    "open_cached",  "duplicate",     "close",
    "status_flags", "status",        "seek",
    "pipe",         "set_pipe_size", "poll",
    "epoll_create", "epoll_control", "epoll_wait",
    "event_create", "event_signal",  "thread_create",
};

constexpr Fault kShort{Fault::Kind::shortened};
constexpr Fault kZero{Fault::Kind::zero};
constexpr Fault kCancel{Fault::Kind::cancel};

using Errors = std::initializer_list<int>;

// Man pages are those of Linux man-pages 6.03.
constexpr Errors kSendfilePage = {EAGAIN, EBADF,  EFAULT,    EINVAL,
                                  EIO,    ENOMEM, EOVERFLOW, ESPIPE};    // sendfile(2)
constexpr Errors kSplicePage = {EAGAIN, EBADF, EINVAL, ENOMEM, ESPIPE};  // splice(2)
constexpr Errors kCopyPage = {EBADF,  EFBIG,      EINVAL,    EIO,   EISDIR,  ENOMEM,
                              ENOSPC, EOPNOTSUPP, EOVERFLOW, EPERM, ETXTBSY, EXDEV};
constexpr Errors kSendPage = {EACCES, EAGAIN,   EALREADY, EBADF,      ECONNRESET, EDESTADDRREQ,
                              EFAULT, EINTR,    EINVAL,   EISCONN,    EMSGSIZE,   ENOBUFS,
                              ENOMEM, ENOTCONN, ENOTSOCK, EOPNOTSUPP, EPIPE};  // send(2)
constexpr Errors kReceivePage = {EAGAIN, EBADF,  ECONNREFUSED, EFAULT,  EINTR,
                                 EINVAL, ENOMEM, ENOTCONN,     ENOTSOCK};          // recv(2)
constexpr Errors kReadPage = {EAGAIN, EBADF, EFAULT, EINTR, EINVAL, EIO, EISDIR};  // read(2)
constexpr Errors kWritePage = {EAGAIN, EBADF,  EDESTADDRREQ, EDQUOT, EFAULT, EFBIG,
                               EINTR,  EINVAL, EIO,          ENOSPC, EPERM,  EPIPE};  // write(2)
constexpr Errors kOffsetPage = {ENXIO, EOVERFLOW, ESPIPE};  // pread(2), pwrite(2), from lseek(2)
constexpr Errors kDupPage = {EBADF, EBUSY, EINTR, EINVAL, EMFILE};  // dup(2)
constexpr Errors kClosePage = {EBADF, EINTR, EIO, ENOSPC, EDQUOT};  // close(2)
constexpr Errors kStatxPage = {EACCES,       EBADF,  EFAULT, EINVAL, ELOOP,
                               ENAMETOOLONG, ENOENT, ENOMEM, ENOTDIR};   // statx(2)
constexpr Errors kSeekPage = {EBADF, EINVAL, ENXIO, EOVERFLOW, ESPIPE};  // lseek(2)
constexpr Errors kPipePage = {EFAULT, EINVAL, EMFILE, ENFILE, ENOPKG};   // pipe(2)
constexpr Errors kPollPage = {EFAULT, EINTR, EINVAL, ENOMEM};            // poll(2)
constexpr Errors kEpollCreatePage = {EINVAL, EMFILE, ENFILE, ENOMEM};    // epoll_create(2)
constexpr Errors kEpollControlPage = {EBADF,  EEXIST, EINVAL, ELOOP,
                                      ENOENT, ENOMEM, ENOSPC, EPERM};    // epoll_ctl(2)
constexpr Errors kEpollWaitPage = {EBADF, EFAULT, EINTR, EINVAL};        // epoll_wait(2)
constexpr Errors kEventPage = {EINVAL, EMFILE, ENFILE, ENODEV, ENOMEM};  // eventfd(2)
constexpr Errors kThreadPage = {EAGAIN, EINVAL, EPERM};                  // pthread_create(3)
constexpr Errors kPipeSizePage = {EBADF, EBUSY, EINVAL, EPERM};          // fcntl(2)

// And what no page lists.
constexpr Errors kRefused = {ENOSYS, EPERM};  // seccomp profiles of containers, gVisor
// A connection that is gone, in the words of TCP and of Unix sockets.
constexpr Errors kGone = {EPIPE, ECONNRESET, ENOTCONN, ETIMEDOUT, EHOSTUNREACH, ENETUNREACH};
// A file system: NFS, ext4 and xfs that find themselves damaged, a disk or a quota that is full.
constexpr Errors kOfFiles = {ESTALE, EUCLEAN};
constexpr Errors kOfFullFiles = {ENOSPC, EDQUOT, EFBIG};

std::vector<Fault> faults(std::initializer_list<Errors> errors,
                          std::initializer_list<Fault> others = {kCancel}) {
  std::vector<Fault> all;
  bool seen[4096] = {};
  for (const Errors& some : errors)
    for (const int error : some)
      if (!std::exchange(seen[error], true)) all.push_back({Fault::Kind::error, error});
  all.insert(all.end(), others);
  return all;
}

using Table = std::array<std::vector<Fault>, kCallKinds>;

Table make_table() {
  Table table;
  const auto set = [&table](CallKind call, std::vector<Fault> faults) {
    table[static_cast<size_t>(call)] = std::move(faults);
  };
  // EINTR: a signal before the first byte. EPERM, EOPNOTSUPP: stacked and network file systems.
  set(CallKind::sendfile,
      faults({kSendfilePage, {EINTR, EOPNOTSUPP, ENOBUFS}, kGone, kRefused, kOfFiles, kOfFullFiles},
             {kShort, kZero, kCancel}));
  // EIO: CIFS, a disk. EOPNOTSUPP: as of sendfile.
  set(CallKind::splice,
      faults({kSplicePage, {EINTR, EIO, EOPNOTSUPP}, kGone, kRefused, kOfFiles, kOfFullFiles},
             {kShort, kZero, kCancel}));
  // EAGAIN, ETIMEDOUT: NFS servers that are busy, or gone, when mounted `soft`.
  set(CallKind::copy_file_range,
      faults({kCopyPage, {EINTR, EAGAIN, ETIMEDOUT}, kRefused, kOfFiles, kOfFullFiles},
             {kShort, kZero, kCancel}));
  // EPERM also from netfilter.
  set(CallKind::send, faults({kSendPage, kGone, {ENETDOWN}, kRefused}, {kShort, kZero, kCancel}));
  // EOPNOTSUPP: readv(2), of file systems that don't know RWF_NOWAIT. EINVAL: Linux before 4.14.
  set(CallKind::read_nowait,
      faults({kReadPage, kOffsetPage, {EOPNOTSUPP, ENOMEM}, kRefused, kOfFiles},
             {kShort, kZero, kCancel}));
  set(CallKind::read, faults({kReadPage, kOffsetPage, {ENOMEM, ETIMEDOUT}, kRefused, kOfFiles},
                             {kShort, kZero, kCancel}));
  set(CallKind::read_stream, faults({kReadPage, kRefused}, {kShort, kZero, kCancel}));
  set(CallKind::write,
      faults({kWritePage, {ENOMEM}, kRefused, kOfFiles}, {kShort, kZero, kCancel}));
  set(CallKind::write_at,
      faults({kWritePage, kOffsetPage, {ENOMEM}, kRefused, kOfFiles}, {kShort, kZero, kCancel}));
  set(CallKind::peek, faults({kReceivePage, kGone, kRefused}));
  set(CallKind::readahead, faults({{EBADF, EINVAL, EINTR}, kRefused}));  // readahead(2)
  // cachestat(2) has no page there; the kernel's mm/filemap.c names them. EPERM: not the owner.
  set(CallKind::cached_pages,
      faults({{EBADF, EFAULT, EINVAL, EOPNOTSUPP, EINTR}, kRefused}, {kShort, kZero, kCancel}));
  // What is called before a transfer is submitted is never called when it is cancelled.
  // ENOMEM: a larger table of descriptors. ENFILE: of systems that count them all.
  set(CallKind::duplicate, faults({kDupPage, {ENFILE, ENOMEM}, kRefused}, {}));
  set(CallKind::close, faults({kClosePage, {ESTALE, EFBIG}}));  // ESTALE, EFBIG: NFS
  // ESTALE: NFS. EOPNOTSUPP: DVS.
  set(CallKind::status, faults({kStatxPage, {ESTALE, EOPNOTSUPP, EINTR}, kRefused}));
  set(CallKind::seek, faults({kSeekPage, {EINTR, EIO}, kRefused}));
  set(CallKind::pipe, faults({kPipePage, {ENOMEM, EINTR}, kRefused}));
  set(CallKind::set_pipe_size, faults({kPipeSizePage, {ENOMEM, EINTR}, kRefused}));
  set(CallKind::poll, faults({kPollPage, kRefused}, {kZero, kCancel}));
  set(CallKind::epoll_create, faults({kEpollCreatePage, {EINTR}, kRefused}, {}));
  set(CallKind::epoll_control, faults({kEpollControlPage, {EINTR}, kRefused}));
  set(CallKind::epoll_wait, faults({kEpollWaitPage, kRefused}, {kZero, kCancel}));
  set(CallKind::event_create, faults({kEventPage, {EINTR}, kRefused}, {}));
  // Nothing else: EAGAIN comes at 2^64 - 2 wakings, EINVAL of other sizes than 8 (eventfd(2)).
  set(CallKind::event_signal, faults({{EINTR}}));
  set(CallKind::thread_create, faults({kThreadPage, {ENOMEM}}));  // ENOMEM: glibc, for the stack
  return table;
}

}  // namespace

const std::vector<Fault>& faults_of(CallKind call) {
  static const Table table = make_table();
  return table[static_cast<size_t>(call)];
}

std::string name_of(CallKind call) {
  return kCallNames[static_cast<size_t>(call)];
}

std::string name_of(const Fault& fault) {
  switch (fault.kind) {
    case Fault::Kind::error:
      return ::strerrorname_np(fault.error);
    case Fault::Kind::shortened:
      return "short";
    case Fault::Kind::zero:
      return "zero";
    default:
      return "cancel";
  }
}

std::optional<CallKind> call_named(const std::string& name) {
  for (size_t i = 0; i < kCallKinds; ++i)
    if (name == kCallNames[i]) return static_cast<CallKind>(i);
  return std::nullopt;
}

std::optional<Fault> fault_named(CallKind call, const std::string& name) {
  for (const Fault& fault : faults_of(call))
    if (name_of(fault) == name) return fault;
  return std::nullopt;
}

}  // namespace zerocopy::test
