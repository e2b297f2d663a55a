#include "app/memory/fullest_rank.hpp"

#include <algorithm>

namespace pipecast {

namespace {

Duration busiest_rank(const StepPlan& plan) {
  Duration out;
  for (std::size_t rank = 0; rank < plan.steps.size(); ++rank) {
    Duration busy = plan.norm_all_reduce;
    for (const PlannedStep& step : plan.steps[rank]) {
      busy += plan.programs[static_cast<std::size_t>(step.program)].alone;
    }
    if (rank < plan.optimizer.size()) {
      const OptimizerPlan& optimizer = plan.optimizer[rank];
      busy += optimizer.reduce_scatter + optimizer.update + optimizer.all_gather;
    }
    out = std::max(out, busy);
  }
  return out;
}

}  // namespace

FullestRank fullest_rank(const StepMemory& memory, Bytes capacity) {
  const int rank = memory.fullest();
  return {.rank = rank, .peak = memory.peak(rank).totals, .capacity = capacity};
}

RecipeMemory recipe_memory(const Scenario& scenario, SimulationMode mode, std::uint64_t seed,
                           int threads) {
  RecipeMemory out;
  bool first = true;
  const auto add = [&](const PhaseSpec& phase, int size, const StepRouting& routing, bool is_main) {
    const SimulationMode of_step = is_main ? mode : SimulationMode::kFolded;
    const StepForecast step = planned_step(scenario, phase.plan, size, routing, of_step);
    const FullestRank fullest =
        fullest_rank(step_memory(scenario, phase.plan, step, routing, of_step, threads),
                     memory_capacity(scenario.cluster.gpu, phase.plan));
    if (is_main) out.busy = busiest_rank(step.plan);
    if (first || fullest.missing() > out.fullest.missing()) out.fullest = fullest;
    first = false;
  };
  const PhaseSpec& main = main_phase(scenario.recipe);
  for (const PhaseSpec& phase : scenario.recipe.phases) {
    if (!phase.tokens) continue;
    const StepRouting routing = step_routing(scenario, phase.plan, seed);
    for (const int size : telling_batch_sizes(scenario, phase)) {
      add(phase, size, routing, &phase == &main && size == main.global_batch_size->to);
    }
  }
  return out;
}

}  // namespace pipecast
