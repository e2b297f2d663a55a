/// What the GPUs of an expert-parallel group exchange.
#pragma once

#include <cstdint>
#include <vector>

namespace pipecast {

/// GPUs that hold all experts of a layer together, in order.
struct RoutingGroup {
  int gpus = 0;
  int gpus_per_node = 0;    ///< divides gpus, or the group lies in one node
  std::int64_t tokens = 0;  ///< of a micro-batch, per GPU

  [[nodiscard]] int nodes() const { return gpus <= gpus_per_node ? 1 : gpus / gpus_per_node; }
  [[nodiscard]] std::int64_t all_tokens() const { return tokens * gpus; }
};

/// What one expert-parallel group exchanges in one layer for one micro-batch. Counts, not shares.
struct GroupLoad {
  std::vector<float> rows;  ///< [GPU] (token, expert) pairs that its experts compute
  std::vector<float>
      received;  ///< [GPU] distinct tokens that want one of its experts, own included
  /// [node] distinct tokens of the whole group that want an expert there, the own node's included
  std::vector<float> node_copies;
  std::vector<float> experts;       ///< pairs that want the expert, before any are dropped
  double dropped = 0;               ///< pairs beyond the capacity of their expert
  double expert_max_over_mean = 0;  ///< pairs of the busiest expert, before any are dropped
  double nodes_per_token = 0;       ///< mean distinct nodes of a token, its own included
};

}  // namespace pipecast
