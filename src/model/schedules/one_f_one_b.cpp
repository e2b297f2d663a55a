#include <algorithm>

#include "base/error.hpp"
#include "model/schedules/schedule.hpp"

namespace pipecast {
namespace {

/// 1F1B: stage s runs S-1-s forwards to warm up, then one forward and one backward in turn, then
/// drains. Stage s stashes at most min(S-s, M) micro-batches. Source: Narayanan et al. 2021
/// (Megatron-LM), section 2.2.
Schedule make_1f1b(const PipelineShape& shape) {
  require<ImpossiblePlan>(shape.ranks > 0 && shape.microbatches > 0,
                          "1f1b: {} micro-batches on {} ranks; it needs at least one of each",
                          shape.microbatches, shape.ranks);
  Schedule out;
  out.microbatches = {shape.microbatches};
  out.stage_of = stages_in_line(shape.ranks);
  for (int stage = 0; stage < shape.ranks; ++stage) {
    auto& steps = out.ranks.emplace_back();
    const int warmup = std::min(shape.ranks - 1 - stage, shape.microbatches);
    int forward = 0;
    int backward = 0;
    const auto run_forward = [&] { steps.push_back({{Pass::kForward, 0, forward++}}); };
    const auto run_backward = [&] { steps.push_back({{Pass::kBackward, 0, backward++}}); };
    while (forward < warmup) run_forward();
    while (forward < shape.microbatches) {
      run_forward();
      run_backward();
    }
    while (backward < shape.microbatches) run_backward();
  }
  return out;
}

// Published for at least as many micro-batches as ranks.
Duration bubble(const PipelineShape& shape, const PassDurations& d) {
  return (d.forward + d.backward) * (shape.ranks - 1);
}

const Register<ScheduleKind> kEntry{
    "1f1b",
    {.make = make_1f1b,
     .bubble = {"(p-1)(F+B)", bubble},
     .description = "one forward, one backward in turn; any ranks and micro-batches"}};

}  // namespace
}  // namespace pipecast
