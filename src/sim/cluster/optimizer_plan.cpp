#include "sim/cluster/optimizer_plan.hpp"

#include <bit>

#include "model/operations/optimizer_operations.hpp"
#include "model/ops/kernel_cost.hpp"

namespace pipecast {

namespace {

struct Sharded {
  std::int64_t parameters = 0;
  GroupShape group;
};

void add_collectives(OptimizerPlan& out, const Scenario& scenario, const PlanSpec& plan,
                     const Sharded& part) {
  const Precision gathered =
      plan.zero_stage >= 1 ? plan.precision.parameter_gather : plan.precision.gradients;
  const Bytes reduce = stored_bytes(plan.precision.gradients, 1, part.parameters);
  const Bytes gather = stored_bytes(gathered, 1, part.parameters);
  out.reduce_scatter += reduction_time(reduce, part.group, scenario.cluster, scenario.calibration);
  out.all_gather += reduction_time(gather, part.group, scenario.cluster, scenario.calibration);
  for (const Bytes size : {reduce, gather}) {
    const ReductionLoad load = reduction_load(size, part.group);
    out.nic_bytes += load.nic;
    out.nvlink_bytes += load.nvlink;
  }
}

}  // namespace

OptimizerPlan plan_optimizer(const Scenario& scenario, const PlanSpec& plan,
                             const HeldParameters& held, int holders, const Placement& placement) {
  const Sharded dense{held.replicated(), placement.group(holders, 1)};
  const Sharded experts{held.expert, placement.group(holders, plan.ep)};
  OptimizerPlan out;
  add_collectives(out, scenario, plan, dense);
  add_collectives(out, scenario, plan, experts);

  const bool sharded = plan.zero_stage >= 1;
  const auto own = [sharded](const Sharded& part) {
    return sharded ? ceil_div(part.parameters, part.group.gpus()) : part.parameters;
  };
  const OptimizerLoad load{.shard_parameters = own(dense) + own(experts),
                           .fp8_parameters = held.dense + held.expert};
  const Duration gap =
      duration_from_seconds(scenario.calibration.latency.launch_gap_us.value * 1e-6);
  for (const Operation& op : optimizer_operations(plan, load)) {
    const KernelCost cost =
        kernel_cost(op, scenario.cluster.gpu, scenario.calibration, scenario.cluster.gpu.sm_count);
    out.update += cost.time + gap;
    out.work.push_back({op.op, name_of(cost.limited_by), cost.time + gap});
  }
  return out;
}

Duration all_reduce_latency(const ClusterSpec& cluster) {
  const auto depth = static_cast<int>(std::bit_width(static_cast<unsigned>(cluster.nodes - 1)));
  return 2 * (depth * hop_latency({}, cluster) + hop_latency({.same_node = true}, cluster));
}

}  // namespace pipecast
