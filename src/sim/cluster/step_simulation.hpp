/// Plays a planned step on the event engine, every simulated GPU an actor with its own clock.
#pragma once

#include <functional>
#include <vector>

#include "sim/cluster/column.hpp"
#include "sim/cluster/critical_path.hpp"
#include "sim/cluster/step_plan.hpp"

namespace pipecast {

/// When the GPUs of a pipeline rank, one of every data-parallel replica, finished their last pass.
struct FinishTimes {
  Duration earliest;
  Duration mean;
  Duration latest;
};

/// Means over the GPUs of a pipeline rank.
struct RankTimes {
  std::array<Duration, kTimeCategories> breakdown;  ///< sums to the step's time
  OverlapTimes overlap;
  FinishTimes finish;
};

struct LinkUse {
  Bytes bytes;               ///< sent by all simulated GPUs
  double busy_fraction = 0;  ///< mean over GPUs, at the bandwidth that transfers reach
};

/// When the first GPU of a pipeline rank ran what.
struct RankSpans {
  std::vector<TaskSpan> steps;  ///< [position in the schedule]
  TaskSpan gather{};            ///< of updated parameters, at the step's end
};

struct StepTimes {
  Duration time;
  std::vector<RankTimes> ranks;
  std::vector<RankSpans> spans;              ///< [pipeline rank]
  std::vector<CriticalShare> critical_path;  ///< longest first; sums to `time`
  LinkUse nic;
  LinkUse nvlink;
  LinkUse pcie;     ///< what goes through NICs and to the host, at PCIe's line rate
  LoadMeans loads;  ///< of all columns
  std::uint64_t events = 0;
  int simulated_gpus = 0;
};

/// Calls a function once for every number below `count`, in any order and on any threads.
using ForEach =
    std::function<void(std::size_t count, const std::function<void(std::size_t)>& function)>;

/// Not modelled: failures; messages inside a node beside an all-to-all's NVLink traffic; exchanges
/// whose GPUs leave them one by one (a group's GPUs leave together).
/// @param schedule  what `plan` was made from, for names in the trace
/// @param trace     filled if given
/// @param for_each  plays the columns; the result does not depend on it
StepTimes simulate_step(const Scenario& scenario, const PlanSpec& plan_spec, const StepPlan& plan,
                        const Schedule& schedule, const StepConditions& conditions,
                        StepTrace* trace = nullptr, const ForEach& for_each = {});

}  // namespace pipecast
