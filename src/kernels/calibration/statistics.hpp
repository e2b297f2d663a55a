/// What repetitions of one measurement say together.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace pipecast::kernels {

struct RepeatedTimes {
  double median = 0;
  double spread = 0;  ///< width of the middle half over the median
};

/// Between neighbours linearly. @param values  at least one
inline RepeatedTimes summary_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto quantile = [&](double share) {
    const double place = share * static_cast<double>(values.size() - 1);
    const auto below = static_cast<std::size_t>(place);
    const std::size_t above = std::min(below + 1, values.size() - 1);
    return values[below] + (place - std::floor(place)) * (values[above] - values[below]);
  };
  const double median = quantile(0.5);
  return {median, median > 0 ? (quantile(0.75) - quantile(0.25)) / median : 0};
}

}  // namespace pipecast::kernels
