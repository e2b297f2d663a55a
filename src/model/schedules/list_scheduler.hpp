/// Makes a schedule by playing it: a rank that is free starts the best of what is ready.
#pragma once

#include <vector>

#include "model/schedules/cost_table.hpp"
#include "model/schedules/schedule.hpp"

namespace pipecast {

/// How a rank chooses. Micro-batches of a lane go in their order.
struct ListPolicy {
  bool split = true;  ///< backwards are Bi and W; else B
  /// A forward or backward of micro-batch i is due at i x period + its offset; the earliest due
  /// goes first. Only the order of these matters.
  Duration period{};
  std::vector<Duration> forward_due{};   ///< [stage]
  std::vector<Duration> backward_due{};  ///< [stage]
  std::vector<int> live_limit{};         ///< [rank]: most chunks alive; at least one per lane
  int most_deferred = 0;                 ///< W to put off before they go first; 0: any number
  Duration pace{};                       ///< micro-batch i enters no earlier than i x pace
  /// A W starts while nothing else is ready if the next input that is on its way comes when at
  /// least this share of it is done: 1 never delays what comes, 0 never waits.
  double weight_fit = 0;
  /// A forward or backward waits for an input on its way that is due earlier and comes within this
  /// share of its length.
  double patience = 0;
};

/// The schedule that the policy makes on an empty one's placement of a single path.
/// @param placement  its stage map and micro-batches; a rank's later lanes hold later stages
Schedule make_list_schedule(const Schedule& placement, const CostTable& costs,
                            const ListPolicy& policy);

}  // namespace pipecast
