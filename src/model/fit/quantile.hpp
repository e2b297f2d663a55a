/// Order statistics of weighted values.
#pragma once

#include <vector>

namespace pipecast {

/// A number and how much it counts.
struct WeightedValue {
  double value = 0;
  double weight = 1;  ///< >= 0
};

/// The smallest value that, with all smaller ones, holds `share` of the weight.
/// @param share  0 .. 1; 0.5 is the median, the lower one of two
/// @throws Error if there is nothing that counts
double weighted_quantile(std::vector<WeightedValue> values, double share);

/// The value at `share` of the way from the smallest to the largest, between two linearly.
/// @throws Error if there is none
double interpolated_quantile(std::vector<double> values, double share);

}  // namespace pipecast
