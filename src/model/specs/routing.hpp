/// How tokens spread over the experts.
#pragma once

#include <string>

#include "model/specs/calibration.hpp"

namespace pipecast {

/// Balancing without an auxiliary loss: after every training step the bias of each expert, which
/// counts in its selection alone, moves by `update` toward the mean load.
/// Source: Wang et al. 2024 (arXiv 2408.15664), algorithm 1; DeepSeek-V3 report, section 2.1.2.
struct BiasRuleSpec {
  double update = 0.001;  ///< of scores in 0 .. 1; the value of both papers
  int steps = 0;          ///< training steps before the simulated one; 0: no bias
};

struct RoutingSpec {
  std::string distribution = "balanced";  ///< a name of the registry of popularities
  /// dirichlet: parameter of every expert's popularity. Its coefficient of variation is
  /// 1/sqrt(concentration) where experts are many.
  Constant concentration;
  Constant exponent;  ///< zipf: popularity falls with rank^-exponent
  Constant spread;    ///< topics: standard deviation of the logarithm of an expert's popularity
  int topics = 0;     ///< topics: how many there are
  double drift_micro_batch = 0;  ///< topics: correlation between consecutive micro-batches, 0 .. 1
  double drift_layer = 0;        ///< topics: correlation between consecutive layers, 0 .. 1
  BiasRuleSpec bias;
  double capacity_factor =
      0;  ///< tokens beyond this times the mean of an expert are dropped; 0: none
  int redundant_experts = 0;  ///< copies of the busiest experts of a layer in a group; 0: none
  std::string trace;          ///< trace: CSV of recorded counts, traces/routing/README.md
};

}  // namespace pipecast
