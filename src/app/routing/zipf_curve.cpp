#include "app/routing/zipf_curve.hpp"

namespace pipecast {

namespace {

ZipfStep step_with(const Scenario& scenario, const RoutingRequest& request) {
  const auto router = make_router(scenario, main_phase(scenario.recipe).plan, request.seed);
  const LoadStudy loads = study_loads(*router, studied_layers(*router, request), 1);
  ZipfStep out{.gpu_max_over_mean = loads.all.gpu.max_over_mean,
               .time = step_times(scenario, router, request).time};
  // The popularity of a Zipf gate is that of the whole batch.
  for (int layer = 0; layer < loads.layers; ++layer) {
    std::vector<double> weights = router->popularity(0, layer, 0);
    if (router->biased())
      weights = biased_weights(router->sampler(), weights, router->bias(layer).bias);
    const std::vector<double> expected = router->sampler().expect(weights).experts;
    out.max_violation += (unevenness_of(expected).max_over_mean - 1) / loads.layers;
  }
  return out;
}

}  // namespace

ZipfCurve zipf_curve(const Scenario& scenario, const RoutingRequest& request) {
  require_experts(scenario.model);
  constexpr int kPoints = 11;
  constexpr int kUsualSteps = 1000;
  Scenario one = scenario;
  one.routing.distribution = "zipf";
  ZipfCurve out{.rule = scenario.routing.bias, .even = step_times(one, nullptr, request).time};
  if (out.rule.steps == 0) out.rule.steps = kUsualSteps;
  for (int i = 0; i < kPoints; ++i) {
    if (request.progress) request.progress("Zipf exponents", static_cast<double>(i) / kPoints);
    ZipfPoint point{.exponent = static_cast<double>(i) / (kPoints - 1)};
    one.routing.exponent.value = point.exponent;
    one.routing.bias.steps = 0;
    point.skewed = step_with(one, request);
    one.routing.bias = out.rule;
    point.balanced = step_with(one, request);
    out.points.push_back(point);
  }
  return out;
}

}  // namespace pipecast
