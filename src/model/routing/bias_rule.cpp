#include "model/routing/bias_rule.hpp"

#include <algorithm>

#include "base/assert.hpp"
#include "model/routing/load_statistics.hpp"

namespace pipecast {

std::vector<double> biased_weights(const AggregateSampler& sampler,
                                   const std::vector<double>& weights,
                                   const std::vector<double>& bias) {
  PIPECAST_ASSERT(weights.size() == bias.size());
  // An expert whose bias takes it behind the cut hardly ever comes up; a group must keep some rate.
  constexpr double kLeast = 1e-6;
  std::vector<double> out(weights.size());
  for (std::size_t e = 0; e < out.size(); ++e)
    out[e] = weights[e] * std::max(kLeast, 1 + bias[e] / sampler.cut());
  return out;
}

BiasHistory run_bias_rule(const AggregateSampler& sampler, const std::vector<double>& weights,
                          const BiasRuleSpec& rule) {
  BiasHistory out{.max_violations = {}, .bias = std::vector<double>(weights.size(), 0)};
  for (int step = 0; step < rule.steps; ++step) {
    const std::vector<double> loads =
        sampler.expect(biased_weights(sampler, weights, out.bias)).experts;
    out.max_violations.push_back(load_statistics(loads).max_violation());
    double mean = 0;
    for (const double load : loads) mean += load / static_cast<double>(loads.size());
    for (std::size_t e = 0; e < loads.size(); ++e) {
      if (loads[e] != mean) out.bias[e] += loads[e] < mean ? rule.update : -rule.update;
    }
  }
  return out;
}

}  // namespace pipecast
