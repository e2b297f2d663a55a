/// One scenario's routing: how uneven it is, what it costs.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "app/forecast/forecast.hpp"
#include "app/routing/bias_curve.hpp"
#include "app/routing/exact_comparison.hpp"
#include "app/routing/load_study.hpp"
#include "app/routing/volume_study.hpp"

namespace pipecast {

using RoutingProgress = std::function<void(std::string_view stage, double fraction)>;

struct RoutingRequest {
  std::optional<int> layers;  ///< none: all that have experts
  int micro_batches = 1;
  SimulationMode mode = SimulationMode::kFolded;
  std::uint64_t seed = 0;
  int threads = 1;
  bool exact = false;          ///< compare with the token-level sampler
  RoutingProgress progress{};  ///< may be empty
};

/// The scenario's routing with one thing changed.
struct RoutingVariant {
  std::string name;
  LayerLoads loads{};
  double dropped_share = 0;
  StepTimes step{};
};

struct RoutingStudy {
  RoutingGroup group;
  int experts = 0;
  LoadStudy loads{};
  VolumeStudy volume{};
  std::vector<BiasStep> bias{};  ///< empty without the rule
  /// Balanced routing, the scenario's without each of the means against imbalance that it uses, and
  /// last the scenario's as it is.
  std::vector<RoutingVariant> variants{};
  std::vector<ExactLayer> exact{};

  [[nodiscard]] const RoutingVariant& balanced() const { return variants.front(); }
  [[nodiscard]] const RoutingVariant& chosen() const { return variants.back(); }
};

/// Studies the group and the step of the recipe's main phase.
/// @throws Error for a model without experts, more layers than there are, numbers that do not fit
/// @throws ImpossiblePlan if no schedule of the plan can run
RoutingStudy study_routing(const Scenario& scenario, const RoutingRequest& request);

/// The step of the main phase.
/// @param router  null: balanced routing
StepTimes step_times(const Scenario& scenario, const std::shared_ptr<const Router>& router,
                     const RoutingRequest& request);

/// How many layers the request wants.
/// @throws Error if the model has fewer with experts
int studied_layers(const Router& router, const RoutingRequest& request);

/// @throws Error for a model without experts
void require_experts(const ModelSpec& model);

}  // namespace pipecast
