/// When and why the ranks of a timed schedule idle.
#pragma once

#include <vector>

#include "model/schedules/timing.hpp"

namespace pipecast {

/// The bubble of one rank, divided by when and by cause; either sums to it.
struct IdleTime {
  // By when.
  Duration warm_up;  ///< before its first backward; before its first pass if it has no backward
  Duration steady;   ///< from then to the end of its last forward
  Duration drain;    ///< after that, to the end of the schedule
  /// Between the start of its first pass and the end of its last: what zero-bubble papers count.
  Duration inside;
  // By cause, one taken away at a time: what is left when transfers take no time and every kind of
  // pass takes its mean over all stages and micro-batches; what is more when passes take their own
  // time; what is more with transfers. A rank with more work than the mean idles less for it:
  // imbalance may be negative.
  Duration dependency;
  Duration imbalance;
  Duration transfer;
};

/// @param timing  of the schedule with these costs
/// @return [rank]
std::vector<IdleTime> classify_idle(const Schedule& schedule, const ScheduleCosts& costs,
                                    const ScheduleTiming& timing);

/// Every kind of pass takes its mean, rounded to the nearest count; transfers take no time.
ScheduleCosts equalised(const ScheduleCosts& costs);

}  // namespace pipecast
