#include "app/schedule/scenario_costs.hpp"

#include <map>

#include "app/config/layout.hpp"
#include "app/forecast/forecast.hpp"
#include "base/error.hpp"
#include "model/collectives/links.hpp"
#include "model/memory/rank_memory.hpp"
#include "model/routing/balanced.hpp"
#include "sim/gpu/chunk.hpp"

namespace pipecast {
namespace {

PlanSpec plan_over(const Scenario& scenario, int stages) {
  PlanSpec plan = main_phase(scenario.recipe).plan;
  if (plan.pipeline_layout.size() != static_cast<std::size_t>(stages)) {
    plan.pipeline_layout = config::automatic_layout(scenario.model, stages);
  }
  return plan;
}

PassDurations times_of_stage(ChunkBuilder& builder, int stage) {
  const auto alone = [&](Pass pass) { return builder.single(pass, stage).alone; };
  return {.forward = alone(Pass::kForward),
          .backward = alone(Pass::kBackward),
          .backward_input = alone(Pass::kBackwardInput),
          .backward_weight = alone(Pass::kBackwardWeight),
          .overlapped = builder.overlapped(stage, stage).alone};
}

}  // namespace

StageCosts stage_costs(const Scenario& scenario, int stages) {
  Scenario phase = scenario;
  phase.plan = plan_over(scenario, stages);
  const PlanSpec& plan = phase.plan;
  ChunkBuilder builder(phase, plan,
                       balanced_routing(phase.model, plan.ep, phase.cluster.gpus_per_node));
  const MemoryAccount memory(phase, plan);
  StageCosts out;
  std::map<std::vector<LayerKind>, PassDurations> known;  // many stages are alike
  for (int stage = 0; stage < stages; ++stage) {
    const std::vector<LayerKind>& layers = plan.pipeline_layout[static_cast<std::size_t>(stage)];
    const auto [it, fresh] = known.try_emplace(layers);
    if (fresh) it->second = times_of_stage(builder, stage);
    out.costs.passes.push_back(it->second);
    out.bytes.push_back(
        {.activations = memory.activations({.stage = stage, .live_chunks = 1}),
         .weight_operands = memory.activations({.stage = stage, .deferred_weights = 1})});
  }
  const Bytes message =
      stored_bytes(plan.precision.pipeline_transfer,
                   plan.micro_batch_size * phase.recipe.seq_length, phase.model.hidden_size);
  out.costs.transfer_latency = hop_latency({}, phase.cluster);
  out.costs.transfer_time = transfer_time(message, {}, phase.cluster, phase.calibration);
  return out;
}

int microbatches_of_step(const Scenario& scenario) {
  const PhaseSpec& main = main_phase(scenario.recipe);
  const int data_parallel = scenario.cluster.gpus() / (main.plan.tp * main.plan.cp * main.plan.pp);
  const auto sequences = data_parallel * main.plan.micro_batch_size;
  return static_cast<int>(main.global_batch_size->to / sequences);
}

}  // namespace pipecast
