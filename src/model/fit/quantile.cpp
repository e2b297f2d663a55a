#include "model/fit/quantile.hpp"

#include <algorithm>

#include "base/error.hpp"

namespace pipecast {

double weighted_quantile(std::vector<WeightedValue> values, double share) {
  std::sort(values.begin(), values.end(),
            [](const WeightedValue& a, const WeightedValue& b) { return a.value < b.value; });
  double total = 0;
  for (const WeightedValue& v : values) total += v.weight;
  require(total > 0, "no quantile of {} values without weight", values.size());
  double sum = 0;
  for (const WeightedValue& v : values) {
    sum += v.weight;
    if (v.weight > 0 && sum >= share * total) return v.value;
  }
  return values.back().value;  // rounding kept the sum below the total
}

double interpolated_quantile(std::vector<double> values, double share) {
  require(!values.empty(), "no quantile of no values");
  std::sort(values.begin(), values.end());
  const double place = share * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (place - static_cast<double>(below)) * (values[above] - values[below]);
}

}  // namespace pipecast
