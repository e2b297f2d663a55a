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

/// The longest path through the operations that the end of the step hangs on. No two of a path run
/// at once, so none takes longer than the step; the longest one takes as long.
/// @return longest first; sums to the step's time
std::vector<CriticalShare> critical_path(const StepPlan& plan,
                                         const std::vector<ColumnTimes>& columns,
                                         const PathEnd& last);

}  // namespace pipecast
