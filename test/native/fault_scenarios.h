#pragma once

#include <functional>
#include <string>
#include <vector>

#include "fault_seam.h"
#include "fault_world.h"

namespace zerocopy::test {

// Files that all runs read and write: none of them costs a run a file of its own.
struct FaultFiles {
  TestFile source{100'000};
  TestFile large{3 * 1024 * 1024};
  TestFile sparse{0};  // data, a hole, data, and a hole to the end
  TestFile sink{0};
  FaultFiles();
};

struct Scenario {
  // How a transfer begins: handed to the engine; as binding.cc's send() does, with a step on the
  // calling thread before that; or with that step alone, as its send_now() does.
  enum class Start { submitted, stepped, now };

  std::string name;
  Shape shape;
  std::function<void(World&, FaultFiles&)> make;
  Start start = Start::submitted;
  // On an engine of its own that hasn't started yet; then only the calls by which it starts fail.
  // Such engines stay.
  bool starts_engine = false;
};

const std::vector<Scenario>& fault_scenarios();

}  // namespace zerocopy::test
