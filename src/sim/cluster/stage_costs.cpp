#include "sim/cluster/stage_costs.hpp"

#include <map>

#include "model/collectives/links.hpp"
#include "sim/gpu/chunk.hpp"

namespace pipecast {

namespace {

PassDurations times_of_stage(ChunkBuilder& builder, int stage) {
  const auto alone = [&](Pass pass) { return builder.single(pass, stage).alone; };
  return {.forward = alone(Pass::kForward),
          .backward = alone(Pass::kBackward),
          .backward_input = alone(Pass::kBackwardInput),
          .backward_weight = alone(Pass::kBackwardWeight),
          .overlapped = builder.overlapped(stage, stage).alone};
}

}  // namespace

ScheduleCosts stage_costs(const Scenario& scenario, const PlanSpec& plan,
                          const RoutingStatistics& routing) {
  ChunkBuilder builder(scenario, plan, routing);
  ScheduleCosts out;
  std::map<std::vector<LayerKind>, PassDurations> known;  // many stages are alike
  for (std::size_t stage = 0; stage < plan.pipeline_layout.size(); ++stage) {
    const auto [it, fresh] = known.try_emplace(plan.pipeline_layout[stage]);
    if (fresh) it->second = times_of_stage(builder, static_cast<int>(stage));
    out.passes.push_back(it->second);
  }
  const Bytes message =
      stored_bytes(plan.precision.pipeline_transfer,
                   plan.micro_batch_size * scenario.recipe.seq_length, scenario.model.hidden_size);
  out.transfer_latency = hop_latency({}, scenario.cluster);
  out.transfer_time = transfer_time(message, {}, scenario.cluster, scenario.calibration);
  return out;
}

}  // namespace pipecast
