#include "sim/cluster/optimizer_plan.hpp"

#include <bit>

#include "model/operations/optimizer_operations.hpp"
#include "model/ops/kernel_cost.hpp"
#include "sim/gpu/parameter_collective.hpp"

namespace pipecast {

namespace {

/// From ZeRO-2 on gradients are reduced, with ZeRO-3 weights are gathered, inside chunks.
void add_collectives(OptimizerPlan& out, const Scenario& scenario, const PlanSpec& plan,
                     const HeldParameters& held, int holders, const Placement& placement) {
  const auto add = [&](Duration& time, Precision precision) {
    const ParameterCollective collective =
        parameter_collective(scenario, plan, placement, held, holders, precision);
    time = collective.time;
    out.nic_bytes += collective.nic;
    out.nvlink_bytes += collective.nvlink;
  };
  if (plan.zero_stage <= 1) add(out.reduce_scatter, plan.precision.gradients);
  if (plan.zero_stage == 0) add(out.all_gather, plan.precision.gradients);
  if (plan.zero_stage == 1 || plan.zero_stage == 2) {
    add(out.all_gather, plan.precision.parameter_gather);
  }
}

/// Master weights and both moments of the shard, in one direction.
Bytes optimizer_state(const PlanSpec& plan, std::int64_t shard_parameters) {
  return stored_bytes(plan.precision.master_weights, 1, shard_parameters) +
         2 * stored_bytes(plan.precision.moments, 1, shard_parameters);
}

}  // namespace

OptimizerPlan plan_optimizer(const Scenario& scenario, const PlanSpec& plan,
                             const HeldParameters& held, int holders, const Placement& placement) {
  OptimizerPlan out;
  add_collectives(out, scenario, plan, held, holders, placement);

  const int replicas = placement.group(holders, 1).gpus();
  const int expert_replicas = placement.group(holders, plan.ep).gpus();
  const auto own = [](bool sharded, std::int64_t parameters, int over) {
    return sharded ? ceil_div(parameters, over) : parameters;
  };
  const bool sharded = plan.zero_stage >= 1;
  const bool sharded_weights = plan.zero_stage >= 3;
  const OptimizerLoad load{.shard_parameters = own(sharded, held.replicated(), replicas) +
                                               own(sharded, held.expert, expert_replicas),
                           .fp8_parameters = own(sharded_weights, held.dense, replicas) +
                                             own(sharded_weights, held.expert, expert_replicas)};
  const Duration gap =
      duration_from_seconds(scenario.calibration.latency.launch_gap_us.value * 1e-6);
  const auto add = [&out](const WorkShare& work) {
    out.update += work.time;
    out.work.push_back(work);
  };
  for (const Operation& op : optimizer_operations(plan, load)) {
    const KernelCost cost =
        kernel_cost(op, scenario.cluster.gpu, scenario.calibration, scenario.cluster.gpu.sm_count);
    const Duration time = cost.time + gap;
    add({op.label.empty() ? op.op : op.label, name_of(cost.limited_by), time});
    if (op.op != "adamw" || plan.memory.optimizer != MemoryPlace::kHost) continue;
    // In and out at once: PCIe is full duplex.
    const Bytes state = optimizer_state(plan, load.shard_parameters);
    const Duration over_pcie = state / scenario.cluster.pcie.bandwidth;
    out.pcie_bytes = state;
    if (over_pcie > time) add({"optimizer_over_pcie", "pcie", over_pcie - time});
  }
  return out;
}

Duration all_reduce_latency(const ClusterSpec& cluster) {
  const auto depth = static_cast<int>(std::bit_width(static_cast<unsigned>(cluster.nodes - 1)));
  return 2 * (depth * hop_latency({}, cluster) + hop_latency({.same_node = true}, cluster));
}

}  // namespace pipecast
