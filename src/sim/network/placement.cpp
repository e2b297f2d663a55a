#include "sim/network/placement.hpp"

#include <algorithm>

#include "model/fabric/fabric_kind.hpp"

namespace pipecast {

Placement::Placement(const ClusterSpec& cluster, int data_parallel)
    : data_parallel_(data_parallel), gpus_per_node_(cluster.gpus_per_node) {
  const FabricShape shape = fabric_shape(cluster);
  nodes_per_leaf_ = shape.nodes_per_leaf;
  nodes_per_pod_ = shape.nodes_per_leaf * shape.leaves_per_pod;
}

Distance Placement::between(int rank_a, int rank_b, int replica) const {
  const int a = node(rank_a, replica);
  const int b = node(rank_b, replica);
  return {.same_node = a == b,
          .same_leaf = a / nodes_per_leaf_ == b / nodes_per_leaf_,
          .same_pod = a / nodes_per_pod_ == b / nodes_per_pod_};
}

GroupShape Placement::group(int holders, int stride) const {
  const int members = data_parallel_ / stride;
  const int per_node = std::clamp(gpus_per_node_ / stride, 1, members);
  return {.nodes = holders * members / per_node, .gpus_per_node = per_node};
}

}  // namespace pipecast
