#pragma once

#include <napi.h>

#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine.h"
#include "file.h"

namespace zerocopy {

// One JavaScript environment (the main thread, or a worker thread): the files that it holds, its
// way to hear of completions, and its end.
class Environment : public Client, public std::enable_shared_from_this<Environment> {
 public:
  // What JavaScript reads of a completion: the Float64Array that it handed over is filled before
  // each callback, and before a call that completes at once returns.
  enum ReportField { kOutcome, kValue, kBackend, kCall, kError, kAtFileEnd, kSourceFailed };
  // And of a file.
  enum FactsField { kKind, kSize, kSizeKnown };

  struct OpenedFile {
    UniqueFd fd;
    FileFacts facts;
  };

  struct Event {
    double id;  // a transfer's id, or less than 0: that of a bare call
    Outcome outcome;
    double value;  // bytes transferred, or what a bare call returned
    Backend backend;
    Call call;
    int error;
    bool at_file_end = false;
    bool source_failed = false;
    std::vector<uint8_t> residual{};
    bool expected = true;  // by expect_event()
    // A file that is held from this event on, and is its value; closed should it never get there.
    std::shared_ptr<OpenedFile> opened{};
  };

  static std::shared_ptr<Environment> create(Napi::Env env);
  static Environment& of(Napi::Env env);

  void set_callback(Napi::Function callback, Napi::Float64Array report, Napi::Float64Array facts);

  // Client; and the same for bare calls. From any thread.
  void complete(Completion completion) override;
  void post(Event event);

  // JavaScript thread only, from here on.
  void report(const Event& event);
  void report(const FileFacts& facts);
  void expect_event();  // one more is on its way: the event loop stays alive for it
  void expect_event_no_more();

  // Files by descriptor. hold() takes ownership of `fd`; with `share`, a file that is held already
  // is used once more in its place, if the kernel alone tells that it is the same. Returns the
  // descriptor to use; release() it as often as held.
  int hold(UniqueFd fd, const FileFacts& facts, bool share);
  // The same for what has been opened from a path, whose facts it reports.
  int hold(OpenedFile opened);
  std::shared_ptr<const File> file(int fd) const;
  void release(int fd);

 private:
  using Inode = std::pair<uint64_t, uint64_t>;  // device and number

  struct Held {
    std::shared_ptr<const File> file;
    Inode inode;
    bool shared = false;
    int uses = 1;
  };

  static void on_event(napi_env env, napi_value, void* environment, void*);
  static void on_cleanup(void* environment);
  void deliver(Napi::Env env);
  void close();

  std::mutex mutex_;  // guards channel_, closed_ and events_
  napi_threadsafe_function channel_ = nullptr;
  bool closed_ = false;
  std::vector<Event> events_;

  Napi::FunctionReference callback_;
  Napi::Reference<Napi::Float64Array> report_;
  Napi::Reference<Napi::Float64Array> facts_;
  double* fields_ = nullptr;  // of report_
  double* facts_fields_ = nullptr;
  uint64_t expected_events_ = 0;
  std::unordered_map<int, Held> files_;
  std::map<Inode, int> descriptors_;  // of the shared ones
};

}  // namespace zerocopy
