/// What a forecast assumes, and how far each assumption could move it.
#pragma once

#include <string>
#include <vector>

#include "app/forecast/forecast.hpp"

namespace pipecast {

/// A constant of the calibration and its name there, e.g. "tensor.gemm_fp8".
struct NamedConstant {
  std::string name;
  Constant* constant;
};
std::vector<NamedConstant> constants_of(CalibrationSpec& calibration);

/// Everything numeric that the scenario assumes with a range: constants of the calibration and of
/// the routing's distribution, by their keys in the scenario.
std::vector<NamedConstant> ranges_of(Scenario& scenario);

/// Constants with their ranges, and the keys of the plan whose defaults no publication confirms.
/// @param plan  of the main phase
std::vector<Assumption> assumptions_of(const Scenario& scenario, const PlanSpec& plan);

/// A resource of the cluster that can be made better.
struct Resource {
  std::string name;
  /// @param factor  by which it is to be better
  /// @return by how much it is: SMs come whole
  double (*improve)(ClusterSpec& cluster, double factor);
};
const std::vector<Resource>& resources();

}  // namespace pipecast
