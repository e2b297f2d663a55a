#include "model/schedules/split_one_f_one_b.hpp"

#include <algorithm>

namespace pipecast {

Schedule split_one_f_one_b(const PipelineShape& shape, int lead) {
  const int microbatches = shape.microbatches;
  Schedule out;
  out.microbatches = {microbatches};
  out.stage_of = stages_in_line(shape.ranks);
  for (int rank = 0; rank < shape.ranks; ++rank) {
    auto& steps = out.ranks.emplace_back();
    steps.reserve(3 * static_cast<std::size_t>(microbatches));
    const int warmup = std::min(lead * (shape.ranks - 1 - rank), microbatches);
    const int deferred = lead * rank;
    int forward = 0;
    const auto run_forward = [&] { steps.push_back({{Pass::kForward, 0, forward++}}); };
    const auto run_weight = [&](int i) { steps.push_back({{Pass::kBackwardWeight, 0, i}}); };
    while (forward < warmup) run_forward();
    for (int i = 0; i < microbatches; ++i) {
      if (forward < microbatches) run_forward();
      steps.push_back({{Pass::kBackwardInput, 0, i}});
      if (i >= deferred) run_weight(i - deferred);
    }
    for (int i = std::max(microbatches - deferred, 0); i < microbatches; ++i) run_weight(i);
  }
  return out;
}

}  // namespace pipecast
