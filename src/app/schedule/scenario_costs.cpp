#include "app/schedule/scenario_costs.hpp"

#include "app/config/layout.hpp"
#include "app/forecast/forecast.hpp"
#include "model/memory/layer_memory.hpp"
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
  const LayerLoad load = balanced_load(phase.model, plan, phase.recipe.seq_length);
  for (const std::vector<LayerKind>& stage : plan.pipeline_layout) {
    StageBytes& bytes = out.bytes.emplace_back();
    for (const LayerKind kind : stage) {
      const LayerMemory layer = layer_memory(phase.model, plan, kind, load);
      bytes.activations +=
          layer.at(Bundle::kAttentionKept).bytes + layer.at(Bundle::kMlpKept).bytes;
      bytes.weight_operands +=
          layer.at(Bundle::kAttentionOperands).bytes + layer.at(Bundle::kMlpOperands).bytes;
    }
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
