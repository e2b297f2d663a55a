/// What commands say of a plan that does not fit.
#pragma once

#include "app/commands/command_line.hpp"
#include "app/forecast/forecast.hpp"
#include "app/memory/fixes.hpp"

namespace pipecast {

/// @param line  names the scenario and its --set
/// @throws DoesNotFit always: `why`, and then the changes that would make the plan fit
[[noreturn]] void refuse_with_fixes(const DoesNotFit& why, const Scenario& scenario,
                                    const CommandLine& line, const FixOptions& options);

}  // namespace pipecast
