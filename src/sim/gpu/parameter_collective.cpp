#include "sim/gpu/parameter_collective.hpp"

#include "model/collectives/reduction.hpp"
#include "model/operations/operation.hpp"

namespace pipecast {

ParameterCollective parameter_collective(const Scenario& scenario, const PlanSpec& plan,
                                         const Placement& placement, const HeldParameters& held,
                                         int holders, Precision precision) {
  ParameterCollective out;
  const auto add = [&](std::int64_t parameters, const GroupShape& group) {
    const Bytes size = stored_bytes(precision, 1, parameters);
    const ReductionLoad load = reduction_load(size, group);
    out.time += reduction_time(size, group, scenario.cluster, scenario.calibration);
    out.nic += load.nic;
    out.nvlink += load.nvlink;
  };
  add(held.replicated(), placement.group(holders, 1));
  add(held.expert, placement.group(holders, plan.ep));
  if (out.nic > Bytes()) out.resource = "nic";
  return out;
}

}  // namespace pipecast
