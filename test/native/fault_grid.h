#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "fault_model.h"
#include "fault_scenarios.h"
#include "fault_seam.h"

namespace zerocopy::test {

// One run of a scenario, and what is wrong with it.
struct Run {
  std::vector<Ending> endings;  // of its flows
  FaultSeam::Fate fate = FaultSeam::Fate::not_reached;
  std::vector<Event> events;
  std::vector<std::string> wrong;
};

// Runs scenarios under faults, one after the other, on engines of its own, and checks each.
class FaultGrid {
 public:
  FaultGrid();
  ~FaultGrid();

  Run run(const Scenario& scenario, const Plan& plan);

 private:
  void follow_up(Engine& engine, Run* run);

  FaultSeam seam_;
  FaultFiles files_;
  Engine* engine_ = nullptr;
  int epoll_ = -1;
  // Full: a transfer waits for it all the time, so that steps have their small budget.
  Channel parked_{Kind::unix_stream, Buffers::small};
  Bytes parked_bytes_ = Bytes(1);
  std::shared_ptr<Recorder> parked_client_ = std::make_shared<Recorder>();
};

}  // namespace zerocopy::test
