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

/// Only what is on a longest chain of steps, each starting where the one before ends, makes a
/// schedule as long as it is. Changes steps that one rank runs back to back on such a chain: swaps
/// two neighbours, brings one to the front or the end of the block (Nowicki and Smutnicki 1996, for
/// job shops), or splits or joins a backward. Keeps what is not longer, and at first, less and
/// less, what is little longer (simulated annealing).
/// @param schedule  runs and keeps the limit; its overlapped pairs stay together
/// @return the shortest found
Schedule improve_locally(Schedule schedule, const ScheduleCosts& costs,
                         const LocalSearchLimits& limits, Random& random);

/// Joins Bi and its W right behind it to a full backward where that takes no longer and what needs
/// the input gradient does not start before: then no step starts later than before.
Schedule join_backwards(const Schedule& schedule, const ScheduleCosts& costs);

}  // namespace pipecast
