#include <fmt/format.h>

#include "app/report/result_json.hpp"
#include "app/report/routing_report.hpp"
#include "app/report/table.hpp"

namespace pipecast {

namespace {

std::string ratio(double value) { return fmt::format("{:.3f}", value); }
std::string megabytes(double bytes) { return fmt::format("{:.1f}", bytes / 1e6); }
std::string milliseconds(Duration time) {
  return fmt::format("{:.3f}", to_microseconds(time) / 1e3);
}
std::string percent(double share) { return fmt::format("{:.2f} %", 100 * share); }
std::string change(double value, double reference) {
  return fmt::format("{:+.2f} %", 100 * (value / reference - 1));
}

std::string plural(std::int64_t count, std::string_view one, std::string_view ending = "s") {
  return fmt::format("{} {}{}", grouped(static_cast<double>(count)), one, count == 1 ? "" : ending);
}

std::string heading(const RoutingAnswer& answer) {
  const RoutingStudy& study = answer.study;
  return fmt::format(
      "{}: {} on {} in {}, {} a GPU and micro-batch\nrouting: {}; {} and {} of one group\n\n",
      answer.scenario.name, plural(study.experts, "expert"), plural(study.group.gpus, "GPU"),
      plural(study.group.nodes(), "node"), plural(study.group.tokens, "token"),
      answer.scenario.routing.distribution, plural(study.loads.layers, "layer"),
      plural(study.loads.micro_batches, "micro-batch", "es"));
}

std::string load_table(const LoadStudy& loads) {
  Table table({"load of", "max over mean", "worst draw", "MaxVio", "Gini", "variation"});
  const auto row = [&](const char* name, const Unevenness& u) {
    table.add({name, ratio(u.max_over_mean), ratio(u.worst), ratio(u.max_over_mean - 1),
               ratio(u.gini), ratio(u.coefficient_of_variation)});
  };
  row("experts", loads.all.expert);
  row("GPUs", loads.all.gpu);
  row("nodes", loads.all.node);
  return table.text();
}

/// Some of many training steps: 1, 2, 5, 10, ... and the last.
std::vector<std::size_t> shown_steps(std::size_t steps) {
  std::vector<std::size_t> out;
  for (std::size_t decade = 1; decade <= steps; decade *= 10) {
    for (const std::size_t digit : {1U, 2U, 5U}) {
      if (digit * decade < steps) out.push_back(digit * decade);
    }
  }
  out.push_back(steps);
  return out;
}

std::string bias_table(const BiasRuleSpec& rule, const std::vector<BiasStep>& curve) {
  if (curve.empty()) return "";
  Table table({"training step", "MaxVio, mean of layers", "worst layer"});
  for (const std::size_t step : shown_steps(curve.size()))
    table.add({grouped(static_cast<double>(step)), ratio(curve[step - 1].mean),
               ratio(curve[step - 1].worst)});
  return fmt::format("\nThe bias of every expert moves by {:g} a step toward the mean load.\n",
                     rule.update) +
         table.text();
}

std::string volume_table(const RoutingStudy& study) {
  Table table({"per layer", "NIC MB", "busiest", "NVLink MB", "busiest", "ms", "balanced", ""});
  const auto row = [&](const char* name, const ExchangeVolume& v) {
    table.add({name, megabytes(v.nic.mean), megabytes(v.nic.busiest), megabytes(v.nvlink.mean),
               megabytes(v.nvlink.busiest), milliseconds(v.time), milliseconds(v.balanced),
               change(to_seconds(v.time), to_seconds(v.balanced))});
  };
  row("dispatch", study.volume.dispatch);
  row("combine", study.volume.combine);
  return fmt::format("\nA token goes to {:.2f} nodes and {:.2f} GPUs, its own included.\n",
                     study.loads.nodes_per_token, study.loads.gpus_per_token) +
         table.text();
}

std::string step_table(const RoutingAnswer& answer) {
  const StepTimes& even = answer.study.balanced().step;
  const StepTimes& uneven = answer.study.chosen().step;
  Table table({fmt::format("step, {} mode, mean over ranks", name_of(answer.mode)), "balanced s",
               "this routing s", "difference s"});
  const auto row = [&](std::string_view name, Duration a, Duration b) {
    if (a == Duration() && b == Duration()) return;
    table.add({std::string(name), fmt::format("{:.4f}", to_seconds(a)),
               fmt::format("{:.4f}", to_seconds(b)), fmt::format("{:+.4f}", to_seconds(b - a))});
  };
  const auto before = mean_breakdown(even);
  const auto after = mean_breakdown(uneven);
  for (std::size_t c = 0; c < kTimeCategories; ++c)
    row(name_of(static_cast<TimeCategory>(c)), before[c], after[c]);
  row("the step", even.time, uneven.time);
  row("of it all-to-alls exposed", mean_overlap(even).exposed, mean_overlap(uneven).exposed);
  row("of it waiting for peers", mean_overlap(even).waiting_for_peers,
      mean_overlap(uneven).waiting_for_peers);
  return "\n" + table.text();
}

std::string variant_table(const RoutingStudy& study) {
  Table table({"max over mean", "experts", "GPUs", "nodes", "dropped", "step s", ""});
  for (const RoutingVariant& v : study.variants) {
    table.add({v.name, ratio(v.loads.expert.max_over_mean), ratio(v.loads.gpu.max_over_mean),
               ratio(v.loads.node.max_over_mean), percent(v.dropped_share),
               fmt::format("{:.4f}", to_seconds(v.step.time)),
               change(to_seconds(v.step.time), to_seconds(study.balanced().step.time))});
  }
  return "\n" + table.text();
}

std::string exact_tables(const std::vector<ExactLayer>& layers) {
  std::string out;
  for (const ExactLayer& layer : layers) {
    Table table({fmt::format("layer {}, first micro-batch", layer.layer), "token by token",
                 "fast, mean", "its spread", "difference"});
    for (const ExactRow& row : layer.rows) {
      table.add({row.quantity, fmt::format("{:.4f}", row.exact), fmt::format("{:.4f}", row.fast),
                 fmt::format("{:.4f}", row.spread), change(row.fast, row.exact)});
    }
    out += "\n" + table.text();
  }
  return out;
}

}  // namespace

std::string routing_text(const RoutingAnswer& answer) {
  return heading(answer) + load_table(answer.study.loads) +
         bias_table(answer.scenario.routing.bias, answer.study.bias) + volume_table(answer.study) +
         step_table(answer) + variant_table(answer.study) + exact_tables(answer.study.exact);
}

std::string zipf_text(const Scenario& scenario, const ZipfCurve& curve) {
  Table table({"exponent", "MaxVio", "GPU load", "step s", "", "with rule: MaxVio", "GPU load",
               "step s", ""});
  const auto add = [&](std::vector<std::string>& cells, const ZipfStep& step) {
    cells.insert(cells.end(), {ratio(step.max_violation), ratio(step.gpu_max_over_mean),
                               fmt::format("{:.4f}", to_seconds(step.time)),
                               change(to_seconds(step.time), to_seconds(curve.even))});
  };
  for (const ZipfPoint& point : curve.points) {
    std::vector<std::string> cells = {fmt::format("{:g}", point.exponent)};
    add(cells, point.skewed);
    add(cells, point.balanced);
    table.add(std::move(cells));
  }
  return fmt::format(
      "{}: popularity of experts falls with rank^-exponent; without the bias rule, and after\n{} "
      "training steps of it (update {:g}). Balanced routing: {:.4f} s.\n\n{}GPU load: busiest over "
      "mean in a micro-batch. MaxVio: (largest - mean) / mean of the experts'\nloads over a whole "
      "batch.\n",
      scenario.name, grouped(curve.rule.steps), curve.rule.update, to_seconds(curve.even),
      table.text());
}

}  // namespace pipecast
