#pragma once

#include <optional>
#include <string>
#include <vector>

#include "fault_scenarios.h"

namespace zerocopy::test {

struct Ending {
  Outcome outcome;
  Call call = Call::none;
  int error = 0;
  bool source_failed = false;
};

struct Expectation {
  std::vector<Ending> endings;     // one of them
  bool may_be_less = false;        // done, though not all has gone: the source says it has ended
  bool may_lose_residual = false;  // what was taken can't be read back
  bool goes_on = false;            // it waits once more, after a cancel during its step
};

// How a flow must end, by the rules and what its calls were answered.
Expectation expect(const std::deque<Flow>& flows, size_t number, Scenario::Start start,
                   const std::vector<Event>& events);

std::string name_of(const Ending& ending);

}  // namespace zerocopy::test
