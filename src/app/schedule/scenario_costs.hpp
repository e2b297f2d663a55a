/// A scenario's own chunk times, for a schedule of any kind.
#pragma once

#include "app/schedule/schedule_study.hpp"
#include "model/specs/scenario.hpp"

namespace pipecast {

/// stage_costs() of the main phase, and what chunks keep.
/// @param stages  of one path: those of the plan's layout, or where it has another number the
///                automatic layout
/// @throws Error if the model cannot be laid out over so many stages
StageCosts scenario_costs(const Scenario& scenario, int stages);

/// Micro-batches of a step at the main phase's full batch.
int microbatches_of_step(const Scenario& scenario);

}  // namespace pipecast
