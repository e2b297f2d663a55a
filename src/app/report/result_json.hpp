/// The machine-readable result of `pipecast run`: format pipecast-result/1.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>

#include "app/forecast/forecast.hpp"

namespace pipecast {

/// What the simulator itself took.
struct SimulatorCost {
  double wall_s = 0;
  std::uint64_t peak_rss_bytes = 0;
};

/// @param config  the resolved scenario
nlohmann::ordered_json result_json(const Scenario& scenario, const Forecast& forecast,
                                   SimulationMode mode, std::uint64_t seed,
                                   const nlohmann::ordered_json& config, const SimulatorCost& cost);

/// Mean over pipeline ranks of every category, exact: the remainders of the division go to the
/// bubble.
std::array<Duration, kTimeCategories> mean_breakdown(const StepTimes& times);
OverlapTimes mean_overlap(const StepTimes& times);

/// `memory_bytes` of a rank.
nlohmann::ordered_json totals_json(const MemoryTotals& memory, Bytes capacity);

std::string_view name_of(SimulationMode mode);

}  // namespace pipecast
