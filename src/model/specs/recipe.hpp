/// What is trained: phases of a run, each simulated by itself or taken from a publication.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/units.hpp"
#include "model/specs/plan.hpp"

namespace pipecast {

/// Sequences per step; from == to is a constant batch. A ramp spends equal numbers of tokens on
/// every size.
struct BatchRamp {
  int from = 0;
  int to = 0;
  int increment = 0;  ///< > 0 where from != to
};

struct PhaseSpec {
  std::string name;
  std::optional<Tokens> tokens;                ///< simulated phases
  std::optional<BatchRamp> global_batch_size;  ///< simulated phases
  PlanSpec plan;                               ///< the scenario's, with the phase's overrides
  std::optional<double> gpu_hours;             ///< published phases
};

struct RecipeSpec {
  std::string optimizer;  ///< adamw
  std::int64_t seq_length = 0;
  std::vector<PhaseSpec> phases;
};

}  // namespace pipecast
