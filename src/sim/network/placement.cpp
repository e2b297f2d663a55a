#include "sim/network/placement.hpp"

#include <algorithm>
#include <cmath>

namespace pipecast {

namespace {

/// Down-links of a leaf switch: its ports less the up-links that the oversubscription leaves.
int down_links(const FabricSpec& fabric) {
  const double share = fabric.oversubscription / (1 + fabric.oversubscription);
  return std::max(1, static_cast<int>(std::floor(fabric.switch_ports * share)));
}

}  // namespace

Placement::Placement(const ClusterSpec& cluster, int data_parallel)
    : data_parallel_(data_parallel),
      gpus_per_node_(cluster.gpus_per_node),
      nodes_per_leaf_(down_links(cluster.fabric)) {}

Distance Placement::between(int rank_a, int rank_b, int replica) const {
  const int a = node(rank_a, replica);
  const int b = node(rank_b, replica);
  return {.same_node = a == b, .same_leaf = a / nodes_per_leaf_ == b / nodes_per_leaf_};
}

GroupShape Placement::group(int holders, int stride) const {
  const int members = data_parallel_ / stride;
  const int per_node = std::clamp(gpus_per_node_ / stride, 1, members);
  return {.nodes = holders * members / per_node, .gpus_per_node = per_node};
}

}  // namespace pipecast
