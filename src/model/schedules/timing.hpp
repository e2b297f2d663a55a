/// Times a schedule by itself: every pass takes what its kind takes, and waits for what it needs.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/units.hpp"
#include "model/schedules/schedule.hpp"

namespace pipecast {

/// How long a pass of each kind takes. In the text formats a tick is a picosecond.
struct PassDurations {
  Duration forward{};
  Duration backward{};         ///< both gradients
  Duration backward_input{};   ///< gradient of the input alone
  Duration backward_weight{};  ///< gradient of the weights alone
  Duration overlapped{};       ///< a forward and a backward beside each other
};

struct ScheduleCosts {
  /// One entry for every stage alike, or one entry per stage. A pair whose halves belong to
  /// different stages takes the mean of the two stages' `overlapped`, rounded up.
  std::vector<PassDurations> stages;
  /// From the end of a pass until its result can be used on another rank.
  Duration transfer_latency{};
};

struct StepTime {
  Time start;
  Time end;
};

struct ScheduleTiming {
  Time makespan;
  std::vector<Time> finish;      ///< [rank]: end of its last step
  std::vector<Duration> bubble;  ///< [rank]: makespan less the time in which it runs a step
  /// [rank]: most chunks alive at once. A chunk lives from the start of its forward to the end of
  /// its B or Bi; both halves of a pair count while it runs.
  std::vector<int> peak_live_activations;
  std::vector<std::vector<StepTime>> steps;  ///< [rank][position]
};

/// Runs every rank's steps in their order, each as soon as its inputs are there: a forward needs
/// the forward of the stage before; a backward needs its own forward and the backward (B, or the Bi
/// of a split one) of the stage after; a weight gradient needs its own Bi.
/// @throws ImpossiblePlan that names the first rank, and its step, that wait forever
/// @throws Error if `costs` has neither one entry nor one per stage
/// Not modelled: links shared by transfers.
ScheduleTiming time_schedule(const Schedule& schedule, const ScheduleCosts& costs);

/// What locks the schedule, in words; nothing if it runs to its end.
std::optional<std::string> find_deadlock(const Schedule& schedule);

}  // namespace pipecast
