#include "app/routing/bias_curve.hpp"

#include <algorithm>

namespace pipecast {

std::vector<BiasStep> bias_curve(const Router& router) {
  if (!router.biased()) return {};
  std::vector<BiasStep> out(router.bias(0).max_violations.size());
  for (int layer = 0; layer < router.layers(); ++layer) {
    const std::vector<double>& violations = router.bias(layer).max_violations;
    for (std::size_t step = 0; step < out.size(); ++step) {
      out[step].mean += violations[step] / router.layers();
      out[step].worst = std::max(out[step].worst, violations[step]);
    }
  }
  return out;
}

}  // namespace pipecast
