#include "base/error.hpp"
#include "model/schedules/schedule.hpp"

namespace pipecast {
namespace {

/// Forwards alone, as in an evaluation: micro-batches follow each other down the pipeline. No rank
/// keeps activations for a backward: one chunk is live, the one that runs.
Schedule make_forward_only(const PipelineShape& shape) {
  require<ImpossiblePlan>(
      shape.ranks > 0 && shape.microbatches > 0,
      "forward-only: {} micro-batches on {} ranks; it needs at least one of each",
      shape.microbatches, shape.ranks);
  std::vector<Step> steps;
  steps.reserve(static_cast<std::size_t>(shape.microbatches));
  for (int i = 0; i < shape.microbatches; ++i) steps.push_back({{Pass::kForward, 0, i}});
  Schedule out;
  out.microbatches = {shape.microbatches};
  out.stage_of = stages_in_line(shape.ranks);
  out.ranks.assign(static_cast<std::size_t>(shape.ranks), steps);
  return out;
}

// Rank r waits r forwards at the start and p-1-r at the end.
Duration bubble(const PipelineShape& shape, const PassDurations& d) {
  return d.forward * (shape.ranks - 1);
}

const Register<ScheduleKind> kEntry{
    "forward-only",
    {.make = make_forward_only,
     .bubble = {"(p-1)F", bubble},
     .description = "forwards without backwards; any ranks and micro-batches"}};

}  // namespace
}  // namespace pipecast
