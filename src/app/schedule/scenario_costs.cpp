#include "app/schedule/scenario_costs.hpp"

#include "app/config/layout.hpp"
#include "app/forecast/forecast.hpp"
#include "model/memory/rank_memory.hpp"
#include "sim/cluster/stage_costs.hpp"

namespace pipecast {

StageCosts scenario_costs(const Scenario& scenario, int stages) {
  Scenario phase = scenario;
  phase.plan = main_phase(scenario.recipe).plan;
  PlanSpec& plan = phase.plan;
  if (plan.pipeline_layout.size() != static_cast<std::size_t>(stages)) {
    plan.pipeline_layout = config::automatic_layout(phase.model, stages);
  }
  const RoutingStatistics routing =
      balanced_routing(phase.model, plan.ep, phase.cluster.gpus_per_node);
  StageCosts out{.costs = stage_costs(phase, plan, routing), .bytes = {}};
  const MemoryAccount memory(phase, plan);
  for (int stage = 0; stage < stages; ++stage) {
    out.bytes.push_back(
        {.activations = memory.activations({.stage = stage, .live_chunks = 1}),
         .weight_operands = memory.activations({.stage = stage, .deferred_weights = 1})});
  }
  return out;
}

int microbatches_of_step(const Scenario& scenario) {
  const PhaseSpec& main = main_phase(scenario.recipe);
  Scenario phase = scenario;
  phase.plan = main.plan;
  return static_cast<int>(main.global_batch_size->to /
                          (phase.data_parallel() * main.plan.micro_batch_size));
}

}  // namespace pipecast
