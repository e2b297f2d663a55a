/// What a skewed gate costs: the step over the exponent of a Zipf distribution.
#pragma once

#include <vector>

#include "app/routing/routing_study.hpp"

namespace pipecast {

/// A training step, its experts' popularity falling with rank^-exponent.
struct ZipfStep {
  double max_violation = 0;      ///< of the experts' loads over a whole batch, mean over layers
  double gpu_max_over_mean = 0;  ///< of a micro-batch, mean over layers
  Duration time;
};

struct ZipfPoint {
  double exponent = 0;
  ZipfStep skewed{};    ///< as the gate is
  ZipfStep balanced{};  ///< after the bias rule's steps
};

struct ZipfCurve {
  BiasRuleSpec rule;
  Duration even;  ///< step with balanced routing
  std::vector<ZipfPoint> points{};
};

/// Exponents from 0 to 1 in steps of a tenth.
/// @param scenario  its distribution is replaced; its bias rule runs, with 1,000 steps where it
///                  says none
/// @throws as study_routing
ZipfCurve zipf_curve(const Scenario& scenario, const RoutingRequest& request);

}  // namespace pipecast
