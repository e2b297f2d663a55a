#include "model/routing/bias_rule.hpp"

#include <algorithm>
#include <cmath>

#include "base/assert.hpp"
#include "model/routing/load_statistics.hpp"

namespace pipecast {

std::vector<double> biased_weights(const AggregateSampler& sampler,
                                   const std::vector<double>& weights,
                                   const std::vector<double>& bias) {
  PIPECAST_ASSERT(weights.size() == bias.size());
  // A score u^(1/w) passes the cut 1 - t with probability 1 - (1 - t)^w, and with a bias b it is
  // cut at 1 - t - b. An expert behind the cut hardly ever comes up; a group must keep some rate.
  constexpr double kLeast = 1e-6;
  const double cut = 1 - sampler.cut();
  std::vector<double> out(weights.size());
  for (std::size_t e = 0; e < out.size(); ++e) {
    const double w = weights[e];
    const double passes = 1 - std::pow(std::clamp(cut - bias[e], 0.0, 1.0), w);
    out[e] = w * std::max(kLeast, passes / (1 - std::pow(cut, w)));
  }
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
