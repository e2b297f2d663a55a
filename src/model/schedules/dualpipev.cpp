#include "base/error.hpp"
#include "model/schedules/dualpipe_steps.hpp"

namespace pipecast {
namespace {

/// DualPipeV: one half of DualPipe, its two directions joined to a V, so that every stage is held
/// once: lane 0 goes down the ranks, lane 1 back up. Source: Sea AI Lab, "Cut-in-half" view of
/// DualPipe (2025); step counts of deepseek-ai/DualPipe, dualpipe/dualpipev.py.
Schedule make_dualpipev(const PipelineShape& shape) {
  require<ImpossiblePlan>(shape.ranks >= 1 && shape.microbatches >= 2 * shape.ranks,
                          "dualpipev: {} micro-batches on {} ranks; it needs at least one rank and "
                          "at least 2 x ranks = {} micro-batches",
                          shape.microbatches, shape.ranks, 2 * shape.ranks);
  require<ImpossiblePlan>(shape.virtual_stages == 0 || shape.virtual_stages == 2,
                          "dualpipev: {} virtual stages on a rank; it needs 2, one on the way down "
                          "the ranks and one on the way back",
                          shape.virtual_stages);
  Schedule out;
  out.microbatches = {shape.microbatches};
  out.stage_of = stages_in_v(shape.ranks);
  for (int rank = 0; rank < shape.ranks; ++rank) {
    out.ranks.push_back(dualpipe_steps({.from_end = rank,
                                        .half = shape.ranks,
                                        .near_lane = 0,
                                        .microbatches = shape.microbatches}));
  }
  return out;
}

// The table of deepseek-ai/DualPipe: (p/2-1)(F&B+B-3W) with p the ranks of the DualPipe that was
// cut in half. It is the bubble of the ranks that idle most, when F, Bi and W are equal.
Duration bubble(const PipelineShape& shape, const PassDurations& d) {
  return (d.overlapped + d.backward - d.backward_weight * 3) * (shape.ranks - 1);
}

const Register<ScheduleKind> kEntry{
    "dualpipev",
    {.make = make_dualpipev,
     .bubble = {"(p-1)(F&B+B-3W)", bubble},
     .description = "DualPipe cut in half, its directions joined to a V; micro-batches >= 2p",
     .virtual_stages = 2}};

}  // namespace
}  // namespace pipecast
