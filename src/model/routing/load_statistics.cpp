#include "model/routing/load_statistics.hpp"

#include <algorithm>
#include <cmath>

#include "base/error.hpp"

namespace pipecast {

LoadStatistics load_statistics(std::vector<double> loads) {
  require(!loads.empty(), "load statistics: there are no loads");
  std::sort(loads.begin(), loads.end());
  const auto count = static_cast<double>(loads.size());
  double sum = 0;
  double squares = 0;
  double ranked = 0;  // sum of rank * load, ranks from 1
  for (std::size_t i = 0; i < loads.size(); ++i) {
    sum += loads[i];
    squares += loads[i] * loads[i];
    ranked += static_cast<double>(i + 1) * loads[i];
  }
  require(sum > 0 && loads.front() >= 0, "load statistics: loads from {} to {}", loads.front(),
          loads.back());
  const double mean = sum / count;
  return {
      .max_over_mean = loads.back() / mean,
      .coefficient_of_variation = std::sqrt(std::max(0.0, squares / count - mean * mean)) / mean,
      .gini = 2 * ranked / (count * sum) - (count + 1) / count};
}

}  // namespace pipecast
