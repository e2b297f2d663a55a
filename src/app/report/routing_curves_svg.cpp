#include <utility>

#include "app/report/line_chart.hpp"
#include "app/report/routing_report.hpp"
#include "app/report/svg.hpp"
#include "app/report/table.hpp"

namespace pipecast {

namespace {

constexpr std::string_view kDashes = "7 5";

}  // namespace

std::string bias_svg(const RoutingAnswer& answer) {
  const RoutingSpec& routing = answer.scenario.routing;
  Series mean{.name = "mean of layers", .colour = kBlue, .dashes = "", .points = {}};
  Series worst{.name = "worst layer", .colour = kVermilion, .dashes = kDashes, .points = {}};
  double step = 1;
  for (const BiasStep& one : answer.study.bias) {
    mean.points.emplace_back(step, one.mean);
    worst.points.emplace_back(step, one.worst);
    step += 1;
  }
  return line_chart(
      {.title = fmt::format("{}: the bias evens the experts' loads", answer.scenario.name),
       .subtitle = fmt::format("{} popularity; the bias moves by {:g} a training step",
                               routing.distribution, routing.bias.update),
       .x_label = "training step",
       .y_label = "MaxVio: (largest load - mean) / mean",
       .from_zero = true,
       .series = {std::move(worst), std::move(mean)}});
}

std::string zipf_svg(const Scenario& scenario, const ZipfCurve& curve) {
  Series skewed{.name = "without the bias rule", .colour = kVermilion, .dashes = "", .points = {}};
  Series balanced{
      .name = fmt::format("after {} training steps of the bias rule", grouped(curve.rule.steps)),
      .colour = kBlue,
      .dashes = "",
      .points = {}};
  Series even{.name = "balanced routing", .colour = kGreen, .dashes = kDashes, .points = {}};
  for (const ZipfPoint& point : curve.points) {
    skewed.points.emplace_back(point.exponent, to_seconds(point.skewed.time));
    balanced.points.emplace_back(point.exponent, to_seconds(point.balanced.time));
    even.points.emplace_back(point.exponent, to_seconds(curve.even));
  }
  return line_chart({.title = fmt::format("{}: what a skewed gate costs", scenario.name),
                     .subtitle = "Popularity of experts falls with rank^-exponent",
                     .x_label = "Zipf exponent",
                     .y_label = "training step, s",
                     .from_zero = false,
                     .series = {std::move(skewed), std::move(balanced), std::move(even)}});
}

}  // namespace pipecast
