/// What `pipecast routing` tells.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "app/routing/routing_study.hpp"
#include "app/routing/zipf_curve.hpp"

namespace pipecast {

struct RoutingAnswer {
  const Scenario& scenario;
  RoutingStudy study;
  SimulationMode mode = SimulationMode::kFolded;
};

/// Tables for the terminal.
std::string routing_text(const RoutingAnswer& answer);

/// Keys, loads over their mean:
///   group { gpus, nodes, experts, tokens_per_gpu, layers, micro_batches }
///   load { expert, gpu, node: { max_over_mean, worst, max_violation, gini,
///          coefficient_of_variation }, dropped_share }
///   layers [ { layer, expert { ... }, gpu { ... }, node { ... } } ]
///   bias { update, steps, max_violation [ ... ], worst_layer [ ... ] }, by training step; null
///     without the rule
///   all_to_all { nodes_per_token, gpus_per_token, dispatch, combine: { nic_bytes, nvlink_bytes:
///     { mean, busiest }, balanced_time_us, time_us } }, of one layer and micro-batch
///   step { mode, time_s, breakdown_s { ... }, overlap_s { ... } }, `balanced` beside it the same
///   variants [ { name, expert, gpu, node: max over mean, dropped_share, time_s } ]
///   exact [ { layer, quantities [ { quantity, exact, fast, fast_spread } ] } ]; empty without
nlohmann::ordered_json routing_json(const RoutingAnswer& answer);

enum class HeatRows { kLayers, kMicroBatches };
enum class HeatColumns { kGpus, kExperts };

/// Loads over their mean as a grid of colours: of the first micro-batch by layer, or of the first
/// layer by micro-batch.
std::string heat_map_svg(const RoutingAnswer& answer, HeatRows rows, HeatColumns columns);

/// MaxVio over training steps.
std::string bias_svg(const RoutingAnswer& answer);

std::string zipf_text(const Scenario& scenario, const ZipfCurve& curve);
/// Keys: bias { update, steps }, balanced_time_s, points [ { exponent, skewed, balanced:
/// { max_violation, gpu_max_over_mean, time_s } } ].
nlohmann::ordered_json zipf_json(const ZipfCurve& curve);
/// Step time over the exponent, without and with the bias rule.
std::string zipf_svg(const Scenario& scenario, const ZipfCurve& curve);

}  // namespace pipecast
