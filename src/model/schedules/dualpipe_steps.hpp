/// The order that DualPipe and DualPipeV share: a rank of DualPipeV does what the same rank of
/// DualPipe on twice as many ranks does.
#pragma once

#include <vector>

#include "model/schedules/schedule.hpp"

namespace pipecast {

/// A rank in one half of a pipeline that passes run through both ways.
struct DualPipePlace {
  int from_end = 0;      ///< ranks between it and the end of its half where micro-batches enter
  int half = 0;          ///< ranks of a half
  int near_lane = 0;     ///< the lane that enters at this end; lane 1 - near_lane leaves there
  int microbatches = 0;  ///< of each lane, at least 2 x half
};

/// Source: step counts of deepseek-ai/DualPipe, dualpipe/dualpipe.py and dualpipe/dualpipev.py.
std::vector<Step> dualpipe_steps(const DualPipePlace& place);

}  // namespace pipecast
