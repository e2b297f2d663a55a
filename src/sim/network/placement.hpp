/// Which GPU sits where: pipeline ranks take whole blocks of nodes, their replicas lie side by side
/// in them.
#pragma once

#include "model/collectives/links.hpp"
#include "model/collectives/reduction.hpp"
#include "model/specs/scenario.hpp"

namespace pipecast {

/// Numbers GPUs as pipeline_rank * data_parallel + replica, nodes in that order, and nodes below
/// leaf switches in that order too (every plane wires its leaves alike). An expert-parallel group
/// is `ep` neighbouring replicas.
class Placement {
 public:
  Placement(const ClusterSpec& cluster, int data_parallel);

  [[nodiscard]] int node(int pipeline_rank, int replica) const {
    return (pipeline_rank * data_parallel_ + replica) / gpus_per_node_;
  }

  /// Between the GPUs of one replica on two pipeline ranks.
  [[nodiscard]] Distance between(int rank_a, int rank_b, int replica) const;

  /// Members of a collective over replicas 0, stride, 2 stride, ... of `holders` pipeline ranks.
  /// Holders are taken to lie on different nodes.
  [[nodiscard]] GroupShape group(int holders, int stride) const;

 private:
  int data_parallel_;
  int gpus_per_node_;
  int nodes_per_leaf_;
  int nodes_per_pod_;
};

}  // namespace pipecast
