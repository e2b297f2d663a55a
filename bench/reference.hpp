/// The reference case that benchmarks share.
#pragma once

#include "app/config/load.hpp"
#include "model/routing/balanced.hpp"

namespace pipecast {

inline const Scenario& reference() {
  static const Scenario kScenario =
      load_scenario(config_directory() / "scenarios/deepseek-v3-h800.yaml", {}).scenario;
  return kScenario;
}

inline RoutingStatistics routing() {
  return balanced_routing(reference().model, reference().plan.ep,
                          reference().cluster.gpus_per_node);
}

}  // namespace pipecast
