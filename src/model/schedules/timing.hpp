/// Times a schedule by itself: every pass takes what its costs say, and waits for what it needs.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/units.hpp"
#include "model/schedules/schedule.hpp"

namespace pipecast {

struct StepTime {
  Time start;
  Time end;
};

struct ScheduleTiming {
  Time makespan;
  std::vector<Time> finish;                  ///< [rank]: end of its last step
  std::vector<Duration> bubble;              ///< [rank]: makespan less the time it runs steps
  std::vector<int> peak_live_activations;    ///< [rank]: see live_chunks.hpp
  std::vector<std::vector<StepTime>> steps;  ///< [rank][position]
};

/// Runs every rank's steps in their order, each as soon as its inputs are there: a forward needs
/// the forward of the stage before; a backward needs its own forward and the backward (B, or the Bi
/// of a split one) of the stage after; a weight gradient needs its own Bi. Ranks send without
/// waiting for the receiver.
/// @throws ImpossiblePlan that names the first rank, and its step, that wait forever
/// @throws Error if `costs` has neither one entry nor one per stage nor one per stage and
///         micro-batch
ScheduleTiming time_schedule(const Schedule& schedule, const ScheduleCosts& costs);

/// What locks the schedule, in words, when ranks send without waiting; nothing if it runs to its
/// end.
std::optional<std::string> find_deadlock(const Schedule& schedule);

}  // namespace pipecast
