/// Fabrics for tests, in round numbers.
#pragma once

#include <string>
#include <vector>

#include "machines.hpp"

namespace pipecast::testing {

/// Nodes of two GPUs on two planes of 8-port switches (four down, four up), without latencies that
/// do not halve.
inline ClusterSpec small_fabric(const std::string& topology, int nodes) {
  ClusterSpec c = round_cluster();
  c.nodes = nodes;
  c.gpus_per_node = 2;
  c.fabric.topology = topology;
  c.fabric.planes = 2;
  c.fabric.core_latency = microseconds(6);
  return c;
}

inline std::vector<std::string> topologies() {
  return {"dragonfly", "multi-plane-fat-tree", "multi-rail-fat-tree", "three-layer-fat-tree"};
}

}  // namespace pipecast::testing
