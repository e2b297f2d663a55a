/// Rules that tie sections of a scenario together.
#pragma once

#include "app/config/node.hpp"
#include "model/specs/scenario.hpp"

namespace pipecast::config {

/// @param resolved  what was read, for the origins of the keys that messages point to
/// @throws Error with origin and path of the key that breaks a rule
void check_scenario(const Scenario& scenario, const Node& resolved);

}  // namespace pipecast::config
