/// A scenario's own chunk times, for a schedule of any kind.
#pragma once

#include "app/schedule/schedule_study.hpp"
#include "model/specs/scenario.hpp"

namespace pipecast {

/// Every stage's chunks as the cluster plays them on one GPU, kernel by kernel, with balanced
/// routing and nobody late; the message between two stages alone on the NIC, across the fabric. A
/// pair is of one stage's forward and its own backward.
/// @param stages  of one path: the plan's layout, or where it has another number of stages the
///                automatic one
/// @throws Error if the model cannot be laid out over so many stages
StageCosts stage_costs(const Scenario& scenario, int stages);

/// Micro-batches of a step at the main phase's full batch.
int microbatches_of_step(const Scenario& scenario);

}  // namespace pipecast
