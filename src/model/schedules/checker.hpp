/// Tells whether a schedule, from wherever it comes, does the work of a training step.
#pragma once

#include <optional>
#include <string>

#include "model/schedules/schedule.hpp"

namespace pipecast {

/// Every rank must run each micro-batch of each direction once forward and once backward (B, or Bi
/// and W), in that order, and the ranks' orders together must not lock.
/// @return the first violation, in words; nothing if there is none
std::optional<std::string> check_schedule(const Schedule& schedule);

}  // namespace pipecast
