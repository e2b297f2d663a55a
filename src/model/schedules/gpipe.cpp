#include "base/error.hpp"
#include "model/schedules/schedule.hpp"

namespace pipecast {
namespace {

/// GPipe: every micro-batch forward, then every micro-batch backward, both in the order in which
/// they enter. A rank stashes all M of them. Source: Huang et al. 2019 (arXiv 1811.06965); drawn
/// with this order by Narayanan et al. 2021 (Megatron-LM), section 2.2.1.
Schedule make_gpipe(const PipelineShape& shape) {
  require<ImpossiblePlan>(shape.ranks > 0 && shape.microbatches > 0,
                          "gpipe: {} micro-batches on {} ranks; it needs at least one of each",
                          shape.microbatches, shape.ranks);
  std::vector<Step> steps;
  steps.reserve(2 * static_cast<std::size_t>(shape.microbatches));
  for (const Pass pass : {Pass::kForward, Pass::kBackward}) {
    for (int i = 0; i < shape.microbatches; ++i) steps.push_back({{pass, 0, i}});
  }
  Schedule out;
  out.microbatches = {shape.microbatches};
  out.stage_of = stages_in_line(shape.ranks);
  out.ranks.assign(static_cast<std::size_t>(shape.ranks), steps);
  return out;
}

// Exact for any number of micro-batches.
Duration bubble(const PipelineShape& shape, const PassDurations& d) {
  return (d.forward + d.backward) * (shape.ranks - 1);
}

const Register<ScheduleKind> kEntry{
    "gpipe",
    {.make = make_gpipe,
     .bubble = {"(p-1)(F+B)", bubble},
     .description = "all forwards, then all backwards; any ranks and micro-batches"}};

}  // namespace
}  // namespace pipecast
