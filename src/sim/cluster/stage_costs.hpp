/// What a plan's chunks and messages take when nothing else runs, for schedules that are timed or
/// searched by themselves.
#pragma once

#include "model/routing/balanced.hpp"
#include "model/schedules/costs.hpp"
#include "model/specs/scenario.hpp"

namespace pipecast {

/// Every stage's chunks as the cluster plays them on one GPU, kernel by kernel, with balanced
/// routing and nobody late; the message between two stages alone on the NIC, across the fabric. A
/// pair is of one stage's forward and its own backward; every stage has one holder.
/// @param plan     whose layout says what the stages are
/// @param routing  of the plan's expert-parallel groups, were it balanced
/// @return one entry per stage
/// @throws Error for operations that the GPU cannot run
ScheduleCosts stage_costs(const Scenario& scenario, const PlanSpec& plan,
                          const RoutingStatistics& routing);

}  // namespace pipecast
