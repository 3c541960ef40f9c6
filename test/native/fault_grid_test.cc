// Every call that a transfer makes goes wrong, in every way in which it may, at every number; then
// two of them in one run. What is to come of it fault_model.cc says.
//
// ZEROCOPY_FAULT runs one scenario alone, by its name, or one case, as it is told when it is wrong:
//   ZEROCOPY_FAULT='file to tcp: sendfile#3=EAGAIN' make -C test/native plain ARGS="-tc='fault*'"
// ZEROCOPY_FAULTS_ONE_OF=20 takes one of twenty cases, for a machine that is slow.
#include <stdlib.h>

#include <algorithm>
#include <array>
#include <map>
#include <random>

#include "fault_grid.h"

namespace zerocopy::test {
namespace {

using Fate = FaultSeam::Fate;

// The sanitizers make of each case several, and of the whole grid too long a run: they take one of
// so many of the cases.
#if defined(__SANITIZE_THREAD__)
constexpr unsigned kOneOf = 10;
#elif defined(__SANITIZE_ADDRESS__)
constexpr unsigned kOneOf = 3;
#else
constexpr unsigned kOneOf = 1;
#endif

unsigned one_of() {
  const char* text = ::getenv("ZEROCOPY_FAULTS_ONE_OF");
  const int wanted = text ? ::atoi(text) : 0;
  return wanted > 0 ? static_cast<unsigned>(wanted) : kOneOf;
}

constexpr uint32_t kSeed = 20'250'801;
constexpr unsigned kPairsOfAScenario = 60;
constexpr int kMostTold = 5;

bool is_made_at_start(CallKind call) {
  switch (call) {
    case CallKind::epoll_create:
    case CallKind::epoll_control:
    case CallKind::event_create:
    case CallKind::event_signal:
    case CallKind::thread_create:
      return true;
    default:
      return false;
  }
}

// The engine opens no files by path, and asks no descriptor for its flags: binding.cc does.
bool is_made_by_the_engine(CallKind call) {
  return call != CallKind::open_cached && call != CallKind::status_flags;
}

void tell(const Scenario& scenario, const Plan& plan, const Run& run) {
  std::string text = "ZEROCOPY_FAULT='" + scenario.name + ": " + name_of(plan) + "'\n  ended";
  for (const Ending& ending : run.endings) text += " " + name_of(ending);
  for (const std::string& complaint : run.wrong) text += "\n  WRONG: " + complaint;
  for (const Event& event : run.events) text += "\n    " + name_of(event);
  MESSAGE(text);
}

class Tally {
 public:
  void add(const Scenario& scenario, const Plan& plan, const Run& run) {
    ++cases_;
    if (run.fate == Fate::not_reached) ++not_reached_;
    for (const Ending& ending : run.endings) ++endings_[ending.outcome];
    for (const Event& event : run.events)
      if (event.fault) ++fired_[name_of(event.call) + " " + name_of(*event.fault)];
    if (run.wrong.empty()) return;
    ++wrong_;
    tell(scenario, plan, run);
  }

  std::string summary() const {
    std::string text = std::to_string(cases_) + " cases";
    for (const auto& [outcome, count] : endings_)
      text += ", " + std::to_string(count) + " " + name_of(Ending{outcome});
    return text + "; of " + std::to_string(not_reached_) +
           " cases a faulty call was not made this time; " + std::to_string(wrong_) + " wrong";
  }

  int fired(CallKind call, const Fault& fault) const {
    const auto found = fired_.find(name_of(call) + " " + name_of(fault));
    return found == fired_.end() ? 0 : found->second;
  }

  // More would tell nothing new, and each may be one that hangs.
  bool has_told_enough() const { return wrong_ >= kMostTold; }

  void check() const {
    CHECK(wrong_ == 0);
    // When they are made depends on threads: some are not, now and then.
    CHECK(not_reached_ <= cases_ / 10);
  }

 private:
  int cases_ = 0, wrong_ = 0, not_reached_ = 0;
  std::map<Outcome, int> endings_;
  std::map<std::string, int> fired_;
};

struct Wish {
  std::string scenario;
  std::optional<Plan> plan;
};

Wish wish() {
  const char* text = ::getenv("ZEROCOPY_FAULT");
  if (!text) return {};
  const std::string whole = text;
  const size_t colon = whole.rfind(": ");
  if (colon != std::string::npos) {
    const std::optional<Plan> plan = plan_named(whole.substr(colon + 2));
    if (plan) return {whole.substr(0, colon), plan};
  }
  return {whole, std::nullopt};
}

// Those that are wished for.
template <typename Each>
int for_each_scenario(const Wish& wanted, Each each) {
  int count = 0;
  for (const Scenario& scenario : fault_scenarios()) {
    if (!wanted.scenario.empty() && wanted.scenario != scenario.name) continue;
    ++count;
    each(scenario);
  }
  return count;
}

TEST_CASE("fault grid: one fault at every call of every transfer") {
  const Wish wanted = wish();
  const unsigned kept = one_of();
  FaultGrid grid;
  Tally tally;
  int calls = 0, faults = 0, impossible = 0;
  std::mt19937 random(kSeed);
  const int scenarios = for_each_scenario(wanted, [&](const Scenario& scenario) {
    if (wanted.plan) {
      const Run run = grid.run(scenario, *wanted.plan);
      tell(scenario, *wanted.plan, run);
      CHECK(run.wrong.empty());
      return;
    }
    const Run clean = grid.run(scenario, {});
    tally.add(scenario, {}, clean);
    for (const Event& event : clean.events) {
      if (scenario.starts_engine && !is_made_at_start(event.call)) continue;
      ++calls;
      for (const Fault& fault : faults_of(event.call)) {
        ++faults;
        if (random() % kept != 0 || tally.has_told_enough()) continue;
        const Plan plan{{event.call, event.number, fault}};
        const Run run = grid.run(scenario, plan);
        if (run.fate == Fate::impossible) ++impossible;
        tally.add(scenario, plan, run);
      }
    }
  });
  if (wanted.plan) return;
  MESSAGE(scenarios << " scenarios, " << calls << " calls in them, " << faults
                    << " faults of these calls, 1 of " << kOneOf << " tried, " << impossible
                    << " of those impossible there (nothing to shorten, nothing to cancel yet); "
                    << tally.summary());
  tally.check();
  // Every fault of the table has come to pass.
  for (size_t kind = 0; kept == 1 && wanted.scenario.empty() && kind < kCallKinds; ++kind) {
    const auto call = static_cast<CallKind>(kind);
    CHECK(is_made_by_the_engine(call) == !faults_of(call).empty());
    for (const Fault& fault : faults_of(call)) {
      CAPTURE(name_of(call));
      CAPTURE(name_of(fault));
      CHECK(tally.fired(call, fault) > 0);
    }
  }
}

template <typename Choices>
const auto& any_of(const Choices& choices, std::mt19937& random) {
  return choices[random() % choices.size()];
}

// What a transfer survives, as a rule, so that something follows.
bool is_mild(const Fault& fault) {
  return fault.kind == Fault::Kind::shortened || fault.error == EAGAIN || fault.error == EINTR ||
         fault.error == EINVAL;
}

// A call of a run, from one on, and a fault of it. Its number is counted from there.
std::optional<Injection> any_fault(const std::vector<Event>& events, size_t from, bool mild,
                                   std::mt19937& random) {
  for (int tries = 0; from < events.size() && tries < 100; ++tries) {
    const size_t at = from + random() % (events.size() - from);
    const CallKind call = events[at].call;
    const Fault& fault = any_of(faults_of(call), random);
    if (mild && !is_mild(fault)) continue;
    const auto number = std::count_if(events.begin() + static_cast<ptrdiff_t>(from),
                                      events.begin() + static_cast<ptrdiff_t>(at) + 1,
                                      [call](const Event& event) { return event.call == call; });
    return Injection{call, static_cast<int>(number), fault};
  }
  return std::nullopt;
}

TEST_CASE("fault grid: two faults in one run, a random sample") {
  const Wish wanted = wish();
  if (wanted.plan) return;
  const unsigned pairs = std::max(1u, kPairsOfAScenario / one_of());
  FaultGrid grid;
  Tally tally;
  std::mt19937 random(kSeed);
  const int scenarios = for_each_scenario(wanted, [&](const Scenario& scenario) {
    if (scenario.starts_engine) return;
    const Run clean = grid.run(scenario, {});
    for (unsigned i = 0; i < pairs && !tally.has_told_enough(); ++i) {
      const auto first = any_fault(clean.events, 0, random() % 4 != 0, random);
      if (!first) continue;
      // What follows may be calls that are not made without it: epoll_ctl(2) behind an EAGAIN.
      const std::vector<Event> events = grid.run(scenario, {*first}).events;
      const auto fired = std::find_if(events.begin(), events.end(),
                                      [](const Event& event) { return event.fault.has_value(); });
      if (fired == events.end()) continue;
      const size_t from = static_cast<size_t>(fired - events.begin()) + 1;
      // The very next call half the time.
      const std::vector<Event> next(
          events.begin(),
          events.begin() + static_cast<ptrdiff_t>(
                               std::min(from + 1 + random() % 2 * events.size(), events.size())));
      const auto second = any_fault(next, from, false, random);
      if (!second) continue;
      const Plan plan{*first, *second};
      tally.add(scenario, plan, grid.run(scenario, plan));
    }
  });
  MESSAGE(scenarios << " scenarios, " << pairs << " pairs of each, seed " << kSeed << "; "
                    << tally.summary());
  tally.check();
}

}  // namespace
}  // namespace zerocopy::test
