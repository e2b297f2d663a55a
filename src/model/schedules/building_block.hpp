/// Schedules of a V of stages that repeat the passes of one micro-batch at a fixed interval.
#pragma once

#include <string_view>

#include "model/schedules/schedule.hpp"

namespace pipecast {

/// When the passes of one micro-batch are planned, in passes (F, Bi and W of a chunk last one
/// each). Lane 0 goes down the ranks, lane 1 back up, the backwards return the same way. A rank
/// repeats the block every six passes, so no two of its four passes may fall together modulo six on
/// any rank; the weight gradients get the two places left.
///
/// With forward_down + backward_up = forward_up + backward_down = s, the two chunks of a
/// micro-batch live 2(p-1)s passes and the turns on every rank: it keeps about ps/3 chunks. Source:
/// Qi et al. 2024, "Pipeline Parallelism with Controllable Memory" (arXiv 2405.15362), section 3.
struct BuildingBlock {
  // From a pass to the same pass on the next rank of its way.
  int forward_down = 1;   ///< F0
  int forward_up = 1;     ///< F1
  int backward_down = 1;  ///< Bi1
  int backward_up = 1;    ///< Bi0
  // From a pass to the one after it on the same rank.
  int forward_turn = 1;   ///< F0 to F1 on the last rank
  int loss_turn = 1;      ///< F1 to Bi1 on the first rank
  int backward_turn = 1;  ///< Bi1 to Bi0 on the last rank
};

/// Repeats the block for every micro-batch and squeezes the plan: each rank keeps the planned order
/// of its passes and runs each as early as it can; time that would be idle goes to forwards of lane
/// 0 before their turn, no more of them alive than planned, and to weight gradients.
/// @param most_kept  chunks of which a rank keeps anything, from their F to their W; at least what
///                   the plan keeps
Schedule squeeze(const BuildingBlock& block, const PipelineShape& shape, int most_kept);

/// @throws ImpossiblePlan unless the shape has ranks, micro-batches and two stages on a rank
void require_v_shape(std::string_view kind, const PipelineShape& shape);

}  // namespace pipecast
