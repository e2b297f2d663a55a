/// How short a schedule of a placement can be at best.
#pragma once

#include "base/units.hpp"
#include "model/schedules/schedule.hpp"

namespace pipecast {

/// Lower bound of the makespan of every order of passes, split or not, on the schedule's placement
/// (its stage map and micro-batches). The largest over the ranks of two bounds:
///
/// - One rank alone, passes preemptible: each pass has a head (the shortest chain of passes and
///   transfers before it) and a tail (the shortest chain after it); the best one-machine order of
///   those is known (Jackson's rule: of what is ready, the longest tail first). Where durations
///   do not differ between micro-batches, the n-th forward of a stage starts no earlier than the
///   (n - limit)-th plus a round trip, and the same from the end for the backwards.
/// - Area: a chunk lives for at least the round trip to the last stage and back, and the k-th place
///   for a chunk can be taken only after k forwards and must be free before k backwards. A chunk
///   of a rank's second stage on a path lives beside its micro-batch's chunk of the first, so half
///   the limit holds for it, and so on.
///
/// Pairs are counted only if the schedule has pairs: each half as at least half of its
/// `overlapped`. A schedule without backwards is bounded as one of forwards.
/// @param schedule          its order of passes does not matter
/// @param activation_limit  most live chunks on a rank; 0: no limit
/// @throws Error as time_schedule does
Duration makespan_bound(const Schedule& schedule, const ScheduleCosts& costs, int activation_limit);

}  // namespace pipecast
