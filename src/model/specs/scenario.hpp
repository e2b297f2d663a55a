/// Everything one forecast rests on.
#pragma once

#include <string>

#include "model/specs/calibration.hpp"
#include "model/specs/cluster.hpp"
#include "model/specs/model.hpp"
#include "model/specs/plan.hpp"
#include "model/specs/recipe.hpp"
#include "model/specs/routing.hpp"
#include "model/specs/variation.hpp"

namespace pipecast {

struct Scenario {
  std::string name;
  ClusterSpec cluster;
  ModelSpec model;
  PlanSpec plan;
  RoutingSpec routing;
  RecipeSpec recipe;
  VariationSpec variation;
  Usd cost_per_gpu_hour;
  CalibrationSpec calibration;

  /// Data-parallel ranks: GPUs / (tp * cp * pp).
  [[nodiscard]] int data_parallel() const { return cluster.gpus() / (plan.tp * plan.cp * plan.pp); }
};

}  // namespace pipecast
