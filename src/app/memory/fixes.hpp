/// Changes of a plan that make it fit, each tried.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "app/memory/fullest_rank.hpp"

namespace pipecast {

/// A change of the plan, as `--set` takes it.
struct Fix {
  std::vector<std::string> sets;
  FullestRank fullest;  ///< of all steps of the recipe
  Duration step;        ///< of the main phase, simulated in folded mode
};

struct FixSearch {
  Duration step;           ///< of the main phase as it is, if memory were larger
  bool pairs = false;      ///< no change fits alone, so two at a time were tried
  int tried = 0;           ///< plans that could run
  std::vector<Fix> fixes;  ///< that fit, fastest first; at most six
  std::vector<std::string>
      closest;    ///< where none fits: the plan that lacks least; empty: none ran
  Bytes missing;  ///< on that plan's fullest rank
};

/// Loads the scenario with changes after its own.
/// @throws Error for changes that are refused
using LoadWith = std::function<Scenario(const std::vector<std::string>& sets)>;

struct FixOptions {
  SimulationMode mode = SimulationMode::kFull;  ///< in which the main step must fit
  std::uint64_t seed = 1;
  int threads = 1;  ///< for drawing loads; the result does not depend on it
  std::function<void(std::string_view stage, double fraction)> progress{};  ///< may be empty
};

/// Recomputation, ZeRO stage, number formats, host memory, micro-batch, pipeline and
/// expert-parallel ranks, a schedule with one copy of the parameters; those that do more than the
/// plan does already. A change that the loader or the schedule refuses is none. What fits is
/// simulated; of many those whose busiest rank has least to do.
/// @param scenario  that does not fit
FixSearch find_fixes(const Scenario& scenario, const LoadWith& load, const FixOptions& options);

}  // namespace pipecast
