#include "fault_grid.h"

#include <fcntl.h>

#include <algorithm>
#include <sstream>

namespace zerocopy::test {
namespace {

constexpr std::chrono::seconds kLongestRun{20};
constexpr std::chrono::milliseconds kTurn{1};

// Hears of the ends of a run's transfers.
class Endings : public Client {
 public:
  void complete(Completion completion) override {
    std::lock_guard<std::mutex> lock(mutex_);
    completions_.push_back(std::move(completion));
    changed_.notify_all();
  }
  bool wait_until(size_t count, std::chrono::milliseconds patience) {
    std::unique_lock<std::mutex> lock(mutex_);
    return changed_.wait_for(lock, patience, [&] { return completions_.size() >= count; });
  }
  std::vector<Completion> all() {
    std::lock_guard<std::mutex> lock(mutex_);
    return completions_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Completion> completions_;
};

// What became of one flow.
struct Ended {
  bool has_ended = false;
  TransferId id = 0;  // 0: it was never the engine's
  Completion completion{};
  bool at_file_end = false;
};

Ended told(const Transfer& transfer, Outcome outcome) {
  return {true,
          0,
          {0, outcome, transfer.transferred(), transfer.backend(), transfer.failed_call(),
           transfer.error(), transfer.source_failed()}};
}

bool is_an_end(Outcome outcome) {
  return outcome != Outcome::again && outcome != Outcome::wait_writable && outcome != Outcome::cold;
}

// As binding.cc's send_now(), whose transfer is never anybody else's. Cold: it was declined.
Ended send_now(Transfer& transfer) {
  auto& gather = static_cast<GatherTransfer&>(transfer);
  Outcome outcome;
  if (!gather.step_if_short(&outcome, kShortStretchBytes)) return told(gather, Outcome::cold);
  Ended ended = told(gather, outcome);
  ended.at_file_end = outcome == Outcome::done && gather.is_at_file_end();
  return ended;
}

// As binding.cc's send(), up to where the transfer is handed over.
Ended begin(Flow& flow, Scenario::Start start) {
  if (start == Scenario::Start::now) return send_now(*flow.transfer);
  if (start == Scenario::Start::stepped) {
    auto& gather = static_cast<GatherTransfer&>(*flow.transfer);
    Outcome outcome = Outcome::again;
    if (gather.step_if_short(&outcome) && is_an_end(outcome)) return told(gather, outcome);
  }
  if (flow.transfer->own() != 0) return told(*flow.transfer, Outcome::failed);
  flow.own_source = flow.transfer->source_fd();
  flow.own_sink = flow.transfer->sink_fd();
  return {};
}

// And as its submit().
Ended hand_over(Engine& engine, Flow& flow, const std::shared_ptr<Client>& client) {
  Ended ended;
  ended.id = engine.submit(&flow.transfer, client);
  if (ended.id != 0) return ended;
  return told(*flow.transfer, Outcome::unsupported);
}

class Complaints {
 public:
  explicit Complaints(std::vector<std::string>* list) : list_(*list) {}
  template <typename... Parts>
  void check(bool is_right, Parts... parts) {
    if (is_right) return;
    std::ostringstream text;
    (text << ... << parts);
    list_.push_back(text.str());
  }

 private:
  std::vector<std::string>& list_;
};

bool is_one_of(const std::vector<Ending>& endings, const Completion& completion) {
  return std::any_of(endings.begin(), endings.end(), [&](const Ending& ending) {
    return ending.outcome == completion.outcome && ending.call == completion.call &&
           ending.error == completion.error && ending.source_failed == completion.source_failed;
  });
}

Ending ending_of(const Completion& completion) {
  return {completion.outcome, completion.call, completion.error, completion.source_failed};
}

std::string names_of(const std::vector<Ending>& endings) {
  std::string text;
  for (const Ending& ending : endings) text += (text.empty() ? "" : ", or ") + name_of(ending);
  return text;
}

bool is_backend_of(const Flow& flow, Backend backend) {
  switch (flow.movement) {
    case Movement::splice:
      return backend == Backend::splice;
    case Movement::copy:
      return backend != Backend::splice;
    default:
      return backend == Backend::read ||
             backend == (flow.sink_kind == Endpoint::pipe ? Backend::splice : Backend::sendfile);
  }
}

// Every byte is where it should be, once.
void check_bytes(World& world, Flow& flow, const Ended& ended, const Expectation& expected,
                 Complaints* complaints) {
  const uint64_t gone = ended.completion.transferred;
  const Bytes whole = concatenation({flow.all, flow.behind});
  Bytes accepted = world.arrived(flow, gone);
  accepted.erase(accepted.begin(), accepted.begin() + static_cast<ptrdiff_t>(std::min(
                                                          flow.before.size(), accepted.size())));
  complaints->check(accepted.size() == gone, "transferred is ", gone, ", but ", accepted.size(),
                    " bytes have come to the sink");
  const Bytes prefix(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(
                                                        std::min(accepted.size(), whole.size())));
  std::string different = difference(accepted, prefix);
  complaints->check(different.empty(), "what has come to the sink is wrong: ", different);
  const bool is_done = ended.completion.outcome == Outcome::done;
  complaints->check(!is_done || expected.may_be_less || gone == flow.all.size(), "done after ",
                    gone, " of ", flow.all.size(), " bytes");
  complaints->check(gone <= flow.all.size(), "more has gone than was asked for");
  if (flow.at_position) {
    const auto position = static_cast<uint64_t>(::lseek(flow.sink, 0, SEEK_CUR));
    complaints->check(position == flow.sink_offset + gone, "the sink's position is ", position,
                      " after ", gone, " bytes");
  }
  if (flow.movement != Movement::splice) {
    complaints->check(ended.completion.residual.empty(), "a residual, though nothing was taken");
    return;
  }
  Bytes residual = ended.completion.residual;
  if (ended.id == 0) {  // the caller still has the head
    const uint64_t head = flow.all.size() + flow.behind.size() - flow.feed.size();
    residual = pattern(0, head);
  }
  const Bytes left = world.left(flow);
  const Bytes found = concatenation({accepted, residual, left});
  if (expected.may_lose_residual && found.size() < whole.size()) {
    const Bytes end(whole.end() - static_cast<ptrdiff_t>(left.size()), whole.end());
    complaints->check(difference(left, end).empty(), "what is left in the source is wrong");
    return;
  }
  different = difference(found, whole);
  complaints->check(different.empty(), "of what has come (", accepted.size(), "), is left over (",
                    residual.size(), ") and still in the source (", left.size(), "): ", different);
}

}  // namespace

FaultGrid::FaultGrid() {
  seam_.begin({}, {}, nullptr);
  engine_ = &started_engine(2);
  for (const Event& event : seam_.end())
    if (event.call == CallKind::epoll_create) epoll_ = static_cast<int>(event.value);
  parked_.fill();
  const int before = registrations_of(std::to_string(epoll_));
  submit(*engine_, parked_.in(), gather(memory(parked_bytes_)), parked_client_);
  CHECK(eventually([&] { return registrations_of(std::to_string(epoll_)) == before + 1; }));
}

FaultGrid::~FaultGrid() {
  engine_->cancel_all(parked_client_.get());
}

Run FaultGrid::run(const Scenario& scenario, const Plan& plan) {
  Run run;
  Complaints complaints(&run.wrong);
  World world;
  scenario.make(world, files_);
  Engine& engine = scenario.starts_engine ? new_engine(1) : *engine_;
  const size_t descriptors = count_descriptors();
  const int registered = registrations_of(std::to_string(epoll_));
  const auto client = std::make_shared<Endings>();
  std::vector<Ended> ended;
  const size_t flows = world.flows.size();

  if (!world.is_gradual) world.turn();
  std::vector<TransferId> ids(flows);
  seam_.begin(scenario.shape, plan, [&] {
    for (const TransferId id : ids) engine.cancel(id);
  });
  for (size_t i = 0; i < flows; ++i) {
    Flow& flow = world.flows[i];
    seam_.submitting(static_cast<int>(i));
    ended.push_back(begin(flow, scenario.start));
  }
  // All have their descriptors before any moves: so a number tells for good whose call it was.
  for (size_t i = 0; i < flows; ++i) {
    if (ended[i].has_ended) continue;
    seam_.submitting(static_cast<int>(i));
    ended[i] = hand_over(engine, world.flows[i], client);
    ids[i] = ended[i].id;
  }
  seam_.submitted();

  const auto expected_ends = static_cast<size_t>(
      std::count_if(ended.begin(), ended.end(), [](const Ended& end) { return !end.has_ended; }));
  const auto deadline = std::chrono::steady_clock::now() + kLongestRun;
  bool hangs = false;
  while (!hangs && !client->wait_until(expected_ends, std::chrono::milliseconds(0))) {
    if (!world.is_gradual || !world.turn())
      client->wait_until(expected_ends, world.is_gradual ? kTurn : kLongestRun);
    hangs = std::chrono::steady_clock::now() > deadline;
  }
  complaints.check(!hangs, "it hangs");
  if (hangs) {
    for (const TransferId id : ids) engine.cancel(id);
    // Beyond that nothing can be said of what its threads still touch.
    if (!client->wait_until(expected_ends, kLongestRun)) std::abort();
  }
  // Nobody has anything of it in hand any more.
  complaints.check(eventually([&] { return client.use_count() == 1; }), "somebody holds a task");
  run.fate = seam_.fate();
  run.events = seam_.end();

  std::vector<Completion> completions = client->all();
  complaints.check(completions.size() == expected_ends, completions.size(), " completions of ",
                   expected_ends);
  for (Ended& end : ended) {
    for (const Completion& completion : completions) {
      if (end.id == 0 || completion.id != end.id) continue;
      complaints.check(!end.has_ended, "completed twice");
      end.has_ended = true;
      end.completion = completion;
    }
    complaints.check(end.has_ended, "never completed");
  }
  for (Flow& flow : world.flows) flow.transfer.reset();
  const size_t own = scenario.starts_engine ? 2 : 0;  // the new engine's epoll and its eventfd
  if (scenario.starts_engine) follow_up(engine, &run);
  const size_t right = descriptors + own - world.closed();
  const bool is_back = eventually([&] { return count_descriptors() == right; });
  complaints.check(is_back, "descriptors: ", count_descriptors(), " and not ", right);
  const auto has_failed = [&run](CallKind call, int how = 0) {
    return std::any_of(run.events.begin(), run.events.end(), [&](const Event& event) {
      return event.call == call && event.arguments.how == how && event.fault && event.value < 0;
    });
  };
  const bool may_stay = has_failed(CallKind::epoll_control, EPOLL_CTL_DEL);
  const int now_registered = registrations_of(std::to_string(epoll_));
  complaints.check(now_registered == registered || may_stay, "the epoll has ", now_registered,
                   " registrations and not ", registered);

  for (size_t i = 0; i < flows; ++i) {
    Flow& flow = world.flows[i];
    const Completion& completion = ended[i].completion;
    const Expectation expected = expect(world.flows, i, scenario.start, run.events);
    complaints.check(is_one_of(expected.endings, completion), "ended ",
                     name_of(ending_of(completion)), ", and not ", names_of(expected.endings));
    complaints.check(!expected.goes_on, "waits, though it was cancelled in its step before");
    complaints.check(is_backend_of(flow, completion.backend), "backend ",
                     static_cast<int>(completion.backend));
    check_bytes(world, flow, ended[i], expected, &complaints);
    const bool is_told = scenario.start == Scenario::Start::now &&
                         completion.outcome == Outcome::done && !has_failed(CallKind::status);
    complaints.check(!is_told || ended[i].at_file_end == flow.at_file_end,
                     "whether the file ends there is told wrong");
    run.endings.push_back(ending_of(completion));
  }
  return run;
}

// After whatever befell its start, an engine works.
void FaultGrid::follow_up(Engine& engine, Run* run) {
  const SocketPair pair(Family::unix_stream);
  const auto client = std::make_shared<Endings>();
  submit(engine, pair.sender(), gather(files_.source.range(1, 30'000)), client);
  const bool is_right = receive_pattern(pair.receiver(), 1, 30'000).empty() &&
                        client->wait_until(1, kLongestRun) &&
                        client->all()[0].outcome == Outcome::done;
  Complaints(&run->wrong).check(is_right, "the engine doesn't work afterwards");
  eventually([&] { return client.use_count() == 1; });
}

}  // namespace zerocopy::test
