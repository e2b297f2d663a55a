#include "app/forecast/step_operations.hpp"

#include <set>

#include "model/operations/layer_operations.hpp"
#include "model/operations/optimizer_operations.hpp"

namespace pipecast {

std::vector<Operation> step_operations(const Scenario& scenario, const PlanSpec& plan,
                                       std::int64_t shard_parameters) {
  std::set<LayerKind> kinds;
  for (const auto& stage : plan.pipeline_layout) kinds.insert(stage.begin(), stage.end());
  const LayerLoad load = balanced_load(scenario.model, plan, scenario.recipe.seq_length);
  std::vector<Operation> out;
  for (const LayerKind kind : kinds) {
    const LayerOperations layer = layer_operations(scenario.model, plan, kind, load);
    for (const auto& phase : layer.phases) out.insert(out.end(), phase.begin(), phase.end());
  }
  for (const Operation& operation : optimizer_operations(
           plan, {.shard_parameters = shard_parameters, .fp8_parameters = shard_parameters})) {
    out.push_back(operation);
  }
  return out;
}

}  // namespace pipecast
