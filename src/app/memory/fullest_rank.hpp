/// What the steps of a recipe need of a GPU at most, without simulating them.
#pragma once

#include <cstdint>
#include <string>

#include "app/forecast/forecast.hpp"

namespace pipecast {

/// The rank that has least room at its peak.
struct FullestRank {
  int rank = 0;
  MemoryTotals peak{};
  Bytes capacity{};  ///< of its GPUs, for tensors

  /// What is too much; negative: free.
  [[nodiscard]] Bytes missing() const { return peak.total() - capacity; }
  [[nodiscard]] bool fits() const { return missing() <= Bytes(); }
};

/// Of one step.
FullestRank fullest_rank(const StepMemory& memory, Bytes capacity);

/// Of the recipe's steps and of its main one.
struct RecipeMemory {
  FullestRank fullest;  ///< of all steps that forecast() checks
  Duration busy;  ///< of the main step's busiest rank: its chunks one by one and the optimizer;
                  ///< without bubbles and waiting, so less than the step takes
};

/// Plans the steps that forecast() simulates: the main one in the mode that is asked for, others in
/// folded mode. Of a ramp that runs one schedule the first and the last batch size stand for all: a
/// peak does not shrink when more micro-batches follow.
/// @throws Error     if the routing does not fit the plan
/// @throws ImpossiblePlan  if a step's schedule cannot run
/// @param threads  for drawing loads
RecipeMemory recipe_memory(const Scenario& scenario, SimulationMode mode, std::uint64_t seed,
                           int threads = 1);

}  // namespace pipecast
