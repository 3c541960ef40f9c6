#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "segment.h"
#include "syscalls.h"
#include "transfer.h"

namespace zerocopy {

// A gather list on its way to a file: by copy_file_range(2), which shares blocks where the file
// system can; where that can't serve a segment by sendfile(2); else by reading and writing. Blocks
// for as long as the sink's disk takes. Where the source is on another one, what has to be read of
// it is warmed first, and holes are looked for on the source's time: a dead source keeps no warmer
// of the sink's device. (Not what copy_file_range reads by itself between two mounts of NFS or
// FUSE: it need not read anything.)
class CopyTransfer : public Transfer {
 public:
  // What becomes of holes in the source: whatever the kernel makes of them; holes, in a sink that
  // is empty; or zeros, and blocks of its own for each byte.
  enum class Holes { any, kept, filled };

  struct Sink {
    int fd;               // borrowed until own()
    int64_t offset = -1;  // less than 0: at the file's own position
    uint64_t device = 0;
    bool may_seek = false;  // nobody else uses its position
    Holes holes = Holes::any;
  };

  CopyTransfer(Sink sink, std::vector<Segment> segments);

  Outcome step(uint64_t budget = kStepBytes) override;
  int own() override;
  int sink_fd() const override { return sink_.fd; }
  bool may_block() const override { return true; }
  uint64_t device() const override;
  FileRange cold_range() const override;
  void warmed() override;
  Backend backend() const override { return backend_; }

 private:
  // In the order in which they are tried.
  enum class Way { copy_file_range, sendfile, read };

  const Segment& current() const { return segments_[index_]; }
  Way first_way() const;
  Way second_way() const;
  bool is_across() const;
  bool looks_for_data() const;
  void advance(uint64_t bytes);
  bool write_memory(uint64_t* budget, Outcome* outcome);
  bool copy_file(uint64_t* budget, Outcome* outcome);
  bool skip_hole(Outcome* outcome);
  bool may_read(uint64_t* count);
  sys::Result copy_some(uint64_t count, Call* call);
  sys::Result read_and_write(uint64_t count, Call* call);
  sys::Result write(const uint8_t* data, uint64_t length);
  bool try_next_way();

  std::vector<Segment> segments_;  // none of them empty
  Sink sink_;
  std::shared_ptr<File> own_sink_;
  size_t index_ = 0;         // the current segment
  uint64_t within_ = 0;      // bytes of it that have gone
  uint64_t data_until_ = 0;  // up to here, within it, there is no hole
  uint64_t warm_until_ = 0;  // up to here, within it, reading doesn't wait for a disk
  Way way_;
  bool way_has_moved_ = false;  // bytes of the current segment
  std::atomic<Backend> backend_{Backend::copy_file_range};
  bool backend_known_ = false;
  sys::Memory buffer_;
};

}  // namespace zerocopy
