/// Time of the gradient and parameter collectives of data parallelism.
#pragma once

#include "model/specs/calibration.hpp"
#include "model/specs/cluster.hpp"

namespace pipecast {

/// The GPUs of one collective: `nodes` x `gpus_per_node` members, equally many on every node.
struct GroupShape {
  int nodes = 1;
  int gpus_per_node = 1;
  [[nodiscard]] int gpus() const { return nodes * gpus_per_node; }
};

/// Bytes that one GPU sends in a hierarchical ring reduce-scatter or all-gather of `size` bytes:
/// first over NVLink inside the node, then each GPU with its peers of the same index on the other
/// nodes.
struct ReductionLoad {
  Bytes nvlink;
  Bytes nic;
};
ReductionLoad reduction_load(Bytes size, const GroupShape& group);

/// Reduce-scatter (or all-gather, the same in reverse) of `size` bytes per GPU, alone on its links:
/// the two levels one after the other, each a ring of (n-1)/n of its data and n-1 hops of latency.
/// Not modelled: pipelining of the two levels, SMs and HBM bandwidth that the reduction takes.
Duration reduction_time(Bytes size, const GroupShape& group, const ClusterSpec& cluster,
                        const CalibrationSpec& calibration);

}  // namespace pipecast
