#include "environment.h"

#include <utility>

namespace zerocopy {
namespace {

using Holder = std::shared_ptr<Environment>;

}  // namespace

std::shared_ptr<Environment> Environment::create(Napi::Env env) {
  auto environment = std::make_shared<Environment>();
  napi_value name = Napi::String::New(env, "zerocopy");
  const napi_status created =
      napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr,
                                      environment.get(), on_event, &environment->channel_);
  if (created != napi_ok) return nullptr;
  napi_unref_threadsafe_function(env, environment->channel_);
  env.SetInstanceData<Holder>(new Holder(environment));
  // After the channel was made, so that it runs before the channel's own.
  napi_add_env_cleanup_hook(env, on_cleanup, environment.get());
  return environment;
}

Environment& Environment::of(Napi::Env env) {
  return **env.GetInstanceData<Holder>();
}

void Environment::set_callback(Napi::Function callback, Napi::Float64Array report,
                               Napi::Float64Array facts) {
  callback_ = Napi::Persistent(callback);
  report_ = Napi::Persistent(report);
  facts_ = Napi::Persistent(facts);
  fields_ = report.Data();
  facts_fields_ = facts.Data();
}

void Environment::complete(Completion completion) {
  post({static_cast<double>(completion.id), completion.outcome,
        static_cast<double>(completion.transferred), completion.backend, completion.call,
        completion.error, false, completion.source_failed, std::move(completion.residual)});
}

void Environment::post(Event event) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (closed_) return;
  events_.push_back(std::move(event));
  // One call delivers all that has gathered by then.
  if (events_.size() == 1) napi_call_threadsafe_function(channel_, nullptr, napi_tsfn_nonblocking);
}

void Environment::report(const Event& event) {
  fields_[kOutcome] = static_cast<double>(event.outcome);
  fields_[kValue] = event.value;
  fields_[kBackend] = static_cast<double>(event.backend);
  fields_[kCall] = static_cast<double>(event.call);
  fields_[kError] = event.error;
  fields_[kAtFileEnd] = event.at_file_end ? 1 : 0;
  fields_[kSourceFailed] = event.source_failed ? 1 : 0;
}

void Environment::report(const FileFacts& facts) {
  facts_fields_[kKind] = static_cast<double>(facts.kind);
  facts_fields_[kSize] = static_cast<double>(facts.size);
  facts_fields_[kSizeKnown] = facts.size_known ? 1 : 0;
}

void Environment::expect_event() {
  if (expected_events_++ == 0) napi_ref_threadsafe_function(callback_.Env(), channel_);
}

void Environment::expect_event_no_more() {
  if (--expected_events_ == 0) napi_unref_threadsafe_function(callback_.Env(), channel_);
}

void Environment::on_event(napi_env env, napi_value, void* environment, void*) {
  // A null env: the environment is going, and with it everything that would have been told.
  if (env != nullptr) static_cast<Environment*>(environment)->deliver(env);
}

void Environment::deliver(Napi::Env env) {
  std::vector<Event> events;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    events.swap(events_);
  }
  for (Event& event : events) {
    Napi::HandleScope scope(env);
    if (event.expected) expect_event_no_more();
    if (event.opened) event.value = hold(std::move(*event.opened));
    report(event);
    napi_value residual = env.Undefined();
    if (!event.residual.empty())
      residual = Napi::Buffer<uint8_t>::Copy(env, event.residual.data(), event.residual.size());
    callback_.Call({Napi::Number::New(env, event.id), residual});
    // Node would only print a warning of what is thrown here (DEP0168); it is a user's listener
    // that threw, so it must be an uncaught exception like any other.
    if (env.IsExceptionPending()) {
      napi_value error;
      napi_get_and_clear_last_exception(env, &error);
      napi_fatal_exception(env, error);
    }
  }
}

void Environment::on_cleanup(void* environment) {
  static_cast<Environment*>(environment)->close();
}

void Environment::close() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    events_.clear();
    napi_release_threadsafe_function(channel_, napi_tsfn_abort);
  }
  Engine::instance().cancel_all(this);
  files_.clear();
  descriptors_.clear();
  // Here and not in the destructor, which may run on another thread, after the environment.
  callback_.Reset();
  report_.Reset();
  facts_.Reset();
}

int Environment::hold(UniqueFd fd, const FileFacts& facts, bool share) {
  const Inode inode{facts.device, facts.inode};
  if (share) {
    const auto known = descriptors_.find(inode);
    if (known != descriptors_.end()) {
      ++files_[known->second].uses;
      return known->second;
    }
  }
  const int number = fd.get();
  Held& held = files_[number];
  const FileSystem system = Mounts::instance().of(facts.device, number);
  held.file = std::make_shared<const File>(std::move(fd), facts.device, system);
  held.inode = inode;
  // Not where a server or a process tells which files are the same: some give two one number. Nor
  // could what is opened once more be closed here then, without waiting for them.
  held.shared = share && system != FileSystem::served;
  if (held.shared) descriptors_[inode] = number;
  return number;
}

// A regular file is held together with whatever else has it open from a path.
int Environment::hold(OpenedFile opened) {
  report(opened.facts);
  return hold(std::move(opened.fd), opened.facts, opened.facts.kind == FileKind::regular);
}

std::shared_ptr<const File> Environment::file(int fd) const {
  const auto found = files_.find(fd);
  return found == files_.end() ? nullptr : found->second.file;
}

void Environment::release(int fd) {
  const auto found = files_.find(fd);
  if (found == files_.end() || --found->second.uses > 0) return;
  if (found->second.shared) descriptors_.erase(found->second.inode);
  files_.erase(found);
}

}  // namespace zerocopy
