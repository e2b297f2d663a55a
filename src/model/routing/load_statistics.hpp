/// How uneven loads are.
#pragma once

#include <vector>

namespace pipecast {

/// Of the loads of one layer's experts, GPUs or nodes.
struct LoadStatistics {
  double max_over_mean = 1;
  double coefficient_of_variation = 0;
  /// Mean absolute difference of two loads over twice the mean: 0 even, towards 1 all on one.
  double gini = 0;

  /// MaxVio of Wang et al. 2024 (arXiv 2408.15664): (largest - mean) / mean.
  [[nodiscard]] double max_violation() const { return max_over_mean - 1; }
};

/// @param loads  >= 0, at least one of them positive
LoadStatistics load_statistics(std::vector<double> loads);

}  // namespace pipecast
