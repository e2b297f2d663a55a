#include "model/collectives/reduction.hpp"

#include "model/collectives/all_to_all.hpp"

namespace pipecast {

namespace {

Bytes ring_share(Bytes size, int members) { return Bytes(size.count() / members * (members - 1)); }

}  // namespace

ReductionLoad reduction_load(Bytes size, const GroupShape& group) {
  const Bytes per_index = Bytes(ceil_div(size.count(), group.gpus_per_node));
  return {.nvlink = ring_share(size, group.gpus_per_node),
          .nic = ring_share(per_index, group.nodes)};
}

Duration reduction_time(Bytes size, const GroupShape& group, const ClusterSpec& cluster,
                        const CalibrationSpec& calibration) {
  if (size == Bytes(0)) return Duration();
  const ReductionLoad load = reduction_load(size, group);
  const Duration inside = load.nvlink / reached_nvlink(cluster, calibration) +
                          (group.gpus_per_node - 1) * hop_latency({.same_node = true}, cluster);
  const Duration across = load.nic / reached_nic(cluster, calibration) +
                          (group.nodes - 1) * hop_latency({.same_node = false}, cluster);
  return inside + across;
}

}  // namespace pipecast
