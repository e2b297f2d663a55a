/// Which work decided how long a played step took.
#pragma once

#include <string>
#include <vector>

#include "sim/cluster/column.hpp"

namespace pipecast {

/// Time on the step's critical path.
struct CriticalShare {
  std::string operation;
  std::string resource;
  int pipeline_rank = 0;
  Duration time;
};

/// The GPU whose last pass let the optimizer begin.
struct PathEnd {
  int column = 0;
  int gpu = -1;  ///< of the column
  int rank = 0;  ///< its pipeline rank
};

/// Walks from the end of the step back to its beginning, always to whatever was waited for: within
/// a GPU from task to task, from an exchange to the GPU that entered it last, from a chunk to the
/// sender of the message that it waited for. Chunks on the way are played once more, from what the
/// columns recorded. The shares sum to the step's time.
/// @return longest first
std::vector<CriticalShare> critical_path(const StepPlan& plan,
                                         const std::vector<ColumnTimes>& columns,
                                         const PathEnd& last);

}  // namespace pipecast
