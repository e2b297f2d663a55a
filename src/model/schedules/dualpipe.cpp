#include <algorithm>

#include "base/error.hpp"
#include "model/schedules/dualpipe_steps.hpp"

namespace pipecast {
namespace {

/// DualPipe: micro-batches enter at both ends of the pipeline and every rank holds a stage of each
/// direction; forwards and backwards of opposite directions run mutually overlapped. Source:
/// DeepSeek-V3 Technical Report (arXiv 2412.19437), section 3.2.1; step counts of
/// deepseek-ai/DualPipe, dualpipe/dualpipe.py.
Schedule make_dualpipe(const PipelineShape& shape) {
  const bool possible = shape.ranks >= 2 && shape.ranks % 2 == 0 && shape.microbatches % 2 == 0 &&
                        shape.microbatches >= 2 * shape.ranks;
  require<ImpossiblePlan>(possible,
                          "dualpipe: {} micro-batches on {} ranks; it needs an even number of "
                          "ranks and an even number of micro-batches, at least 2 x ranks = {}",
                          shape.microbatches, shape.ranks, 2 * shape.ranks);
  const int per_direction = shape.microbatches / 2;
  Schedule out;
  out.microbatches = {per_direction, per_direction};
  out.stage_of = stages_both_ways(shape.ranks);
  for (int rank = 0; rank < shape.ranks; ++rank) {
    out.ranks.push_back(dualpipe_steps({.from_end = std::min(rank, shape.ranks - 1 - rank),
                                        .half = shape.ranks / 2,
                                        .near_lane = rank < shape.ranks / 2 ? 0 : 1,
                                        .microbatches = per_direction}));
  }
  return out;
}

// Table 2 of the report. It is the bubble of the ranks that idle most, when F, Bi and W are equal.
Duration bubble(const PipelineShape& shape, const PassDurations& d) {
  return (d.overlapped + d.backward - d.backward_weight * 3) * (shape.ranks / 2 - 1);
}

const Register<ScheduleKind> kEntry{
    "dualpipe",
    {.make = make_dualpipe,
     .bubble = {"(p/2-1)(F&B+B-3W)", bubble},
     .description = "two directions, forward and backward overlapped; even ranks p, even "
                    "micro-batches >= 2p"}};

}  // namespace
}  // namespace pipecast
