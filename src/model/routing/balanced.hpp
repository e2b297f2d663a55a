/// Where tokens go when every expert is as popular as any other.
#pragma once

#include "model/specs/model.hpp"

namespace pipecast {

/// Means over tokens, seen from one GPU of an expert-parallel group.
struct RoutingStatistics {
  double nodes_per_token =
      0;  ///< distinct nodes that hold one of the token's experts, its own node included
  double gpus_per_token = 0;  ///< distinct GPUs that do, its own included
};

/// Passes tokens with independent, equally distributed scores through the model's gate
/// (group-limited top-k: the best topk_group of n_group groups by the sum of their two highest
/// scores, then the best experts of those) and counts where their experts are. Experts lie in order
/// over `ep` GPUs, those over nodes. The draw is fixed: the result is a property of the gate, not
/// of a run. 1,024 tokens, standard error below 0.4 %.
/// @param ep             GPUs of the expert-parallel group; divides n_routed_experts
/// @param gpus_per_node  > 0
/// Source: DeepSeek-V3 Technical Report (arXiv 2412.19437), section 2.1.2 and the published
/// inference code.
RoutingStatistics balanced_routing(const ModelSpec& model, int ep, int gpus_per_node);

}  // namespace pipecast
