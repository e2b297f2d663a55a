/// A forecast for people, on the terminal.
#pragma once

#include "app/report/result_json.hpp"

namespace pipecast {

/// Prints tables and per-rank bars on standard output.
void print_summary(const Scenario& scenario, const Forecast& forecast, SimulationMode mode,
                   const SimulatorCost& cost);

}  // namespace pipecast
