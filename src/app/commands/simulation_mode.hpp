/// How commands that simulate a step are told in which mode.
#pragma once

#include <string>

#include "base/error.hpp"
#include "sim/cluster/step_simulation.hpp"

namespace pipecast {

/// @throws Error for another word than full and folded
inline SimulationMode mode_of(const std::string& name) {
  require(name == "full" || name == "folded", "--mode: unknown mode '{}'; expected full or folded",
          name);
  return name == "full" ? SimulationMode::kFull : SimulationMode::kFolded;
}

}  // namespace pipecast
