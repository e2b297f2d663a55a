/// How the bias rule evens the loads from training step to training step.
#pragma once

#include <vector>

#include "model/routing/router.hpp"

namespace pipecast {

/// MaxVio, (largest - mean) / mean of the loads that experts have over a whole batch
/// (Wang et al. 2024, arXiv 2408.15664), in one training step.
struct BiasStep {
  double mean = 0;   ///< over layers
  double worst = 0;  ///< of the layer where it is largest
};

/// [training step], each before its update; empty without the rule.
std::vector<BiasStep> bias_curve(const Router& router);

}  // namespace pipecast
