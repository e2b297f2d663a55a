/// From the keys of a plan to its schedule.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "model/schedules/schedule.hpp"
#include "model/specs/plan.hpp"

namespace pipecast {

/// Before the name of a file that holds a schedule in the text format: "file:PATH".
inline constexpr std::string_view kScheduleFile = "file:";
inline bool names_file(std::string_view schedule) {
  return schedule.substr(0, kScheduleFile.size()) == kScheduleFile;
}

/// Stages of a path on one rank; with `pp` the number of stages that the plan's layout needs. The
/// bidirectional kinds have one: both directions pass the same stages.
/// @throws ImpossiblePlan if the plan's schedule does not have as many as `vpp` says
int stages_per_rank(const PlanSpec& plan);

/// What a step of this many micro-batches runs.
struct ChosenSchedule {
  std::string name;
  Schedule schedule;
};

/// The plan's schedule, or its fallback where that cannot run. A schedule from a file runs with its
/// own number of micro-batches alone.
/// @throws ImpossiblePlan if neither can; a fallback needs as many stages per rank as the layout
///         was made for
/// @param costs_of  of the layout's stages, asked for if the schedule is searched; none: every F,
/// Bi
///                  and W takes as long
ChosenSchedule choose_schedule(const PlanSpec& plan, int microbatches,
                               const std::function<ScheduleCosts()>& costs_of = {});

}  // namespace pipecast
