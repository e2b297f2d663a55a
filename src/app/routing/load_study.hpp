/// How uneven the loads of an expert-parallel group are.
#pragma once

#include <string>
#include <vector>

#include "model/routing/router.hpp"

namespace pipecast {

/// Of the loads of experts, GPUs or nodes; means over the draws but for `worst`.
struct Unevenness {
  double max_over_mean = 0;
  double worst = 0;  ///< largest of any draw
  double gini = 0;   ///< mean difference of two loads over twice the mean load
  double coefficient_of_variation = 0;
};

/// Loads are pairs of a token and an expert: those that want the expert, those that the GPU or the
/// GPUs of the node compute.
struct LayerLoads {
  Unevenness expert;
  Unevenness gpu;
  Unevenness node;
};

struct LoadStudy {
  int layers = 0;
  int micro_batches = 0;
  std::vector<GroupLoad> draws{};      ///< [layer][micro-batch] of the first group
  LayerLoads all{};                    ///< over all draws
  std::vector<LayerLoads> by_layer{};  ///< over micro-batches
  double nodes_per_token = 0;          ///< distinct nodes of a token, its own included
  double gpus_per_token = 0;           ///< distinct GPUs
  double dropped_share = 0;            ///< of all pairs, by the capacity factor

  [[nodiscard]] const GroupLoad& draw(int layer, int micro_batch) const {
    return draws[static_cast<std::size_t>(layer * micro_batches + micro_batch)];
  }
};

/// @param layers         > 0, at most the router's
/// @param micro_batches  > 0
LoadStudy study_loads(const Router& router, int layers, int micro_batches);

/// Pairs that the GPUs of each node compute.
std::vector<double> node_rows(const GroupLoad& load, const RoutingGroup& group);

/// How uneven one set of loads is.
Unevenness unevenness_of(const std::vector<double>& loads);

/// What the experts were asked for as a trace that can be replayed (traces/routing/README.md),
/// micro-batches as its steps.
std::string record_of(const LoadStudy& study);

}  // namespace pipecast
