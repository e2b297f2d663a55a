/// Rules that tie sections of a scenario together.
#pragma once

#include <cstdint>

#include "app/config/node.hpp"
#include "model/specs/scenario.hpp"

namespace pipecast::config {

/// Far more than a GPU holds, and small enough that a micro-batch's bytes fit 63 bits.
inline constexpr std::int64_t kMostTokensPerMicroBatch = 1 << 24;

/// @param resolved  what was read, for the origins of the keys that messages point to
/// @throws Error with origin and path of the key that breaks a rule
void check_scenario(const Scenario& scenario, const Node& resolved);

}  // namespace pipecast::config
