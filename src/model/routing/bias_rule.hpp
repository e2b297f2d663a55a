/// Balancing without an auxiliary loss.
#pragma once

#include <vector>

#include "model/routing/aggregate_sampler.hpp"
#include "model/specs/routing.hpp"

namespace pipecast {

struct BiasHistory {
  std::vector<double> max_violations;  ///< [step] MaxVio of the expected loads before its update
  std::vector<double> bias;            ///< [expert] after the last step
};

/// Popularities as a selection by score + bias sees them. Near the top, an expert of popularity w
/// and bias b comes before the distance t to the best score at the rate w (1 + b / t); t is where
/// the gate cuts.
std::vector<double> biased_weights(const AggregateSampler& sampler,
                                   const std::vector<double>& weights,
                                   const std::vector<double>& bias);

/// After every training step each bias moves by `update` toward the mean load, by the sign alone:
/// b += update * sign(mean - load). Loads are those expected of a whole batch.
/// Source: Wang et al. 2024 (arXiv 2408.15664), algorithm 1.
/// @param weights  [expert] popularity over a whole batch, the same in every step
/// Not modelled: that the gate itself learns meanwhile.
BiasHistory run_bias_rule(const AggregateSampler& sampler, const std::vector<double>& weights,
                          const BiasRuleSpec& rule);

}  // namespace pipecast
