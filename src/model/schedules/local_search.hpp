/// Makes a schedule better by small changes to the ranks' orders.
#pragma once

#include <cstdint>

#include "base/random.hpp"
#include "model/schedules/schedule.hpp"

namespace pipecast {

struct LocalSearchLimits {
  int live_chunks = 0;           ///< most on a rank
  Duration goal{};               ///< ends when the makespan is no longer than this
  std::int64_t timed_steps = 0;  ///< work: steps of all schedules timed
};

/// Only a pass that ends where its successor on the longest chain starts can make a schedule
/// longer. Takes random neighbours on the critical path out of their order: swaps two steps of a
/// rank that run back to back, or brings the last step of such a block to its front or the first
/// one to its end (Nowicki and Smutnicki 1996, for job shops), and keeps what is not longer.
/// @param schedule  runs, without overlapped pairs that would be taken apart
Schedule improve_locally(Schedule schedule, const ScheduleCosts& costs,
                         const LocalSearchLimits& limits, Random& random);

/// Joins Bi and its W right behind it to a full backward where that takes no longer and what needs
/// the input gradient does not start before: then no step starts later than before.
Schedule join_backwards(const Schedule& schedule, const ScheduleCosts& costs);

}  // namespace pipecast
