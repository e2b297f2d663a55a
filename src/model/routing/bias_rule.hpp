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

/// Popularities as a selection by score + bias sees them: those without bias that would pass the
/// gate's cut, at a distance t from the best score, as often: w (1 - (1 - t - b)^w) / (1 - (1 -
/// t)^w) for popularity w and bias b.
/// Not modelled: that the cut differs from token to token. Experts that a bias has evened out vary
/// a few per cent more than this says.
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
