/// Which work decided how long a played step took.
#pragma once

#include <string>
#include <vector>

#include "sim/cluster/step_plan.hpp"

namespace pipecast {

/// A step of the schedule on one pipeline rank.
struct StepId {
  int rank = -1;
  int step = 0;
};

/// What happened to a step on the first replica, for the critical path.
struct PlayedStep {
  StepId sender;       // whose message let it begin; no rank: the rank's own previous step did
  Duration under_way;  // of that message
  Duration span;
};

/// Time on the step's critical path.
struct CriticalShare {
  std::string operation;
  std::string resource;
  int pipeline_rank = 0;
  Duration time;
};

/// Walks from the end of the step back to its beginning, always to whatever was waited for. The
/// shares sum to the step's time.
/// @param played     [rank][position] of the first replica
/// @param last_rank  whose passes let the last gradient reduction begin
/// @return longest first
std::vector<CriticalShare> critical_path(const StepPlan& plan,
                                         const std::vector<std::vector<PlayedStep>>& played,
                                         int last_rank);

}  // namespace pipecast
