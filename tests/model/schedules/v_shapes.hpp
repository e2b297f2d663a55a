/// Laws that the schedules on a V of two chunks a rank share.
#pragma once

#include <catch2/catch.hpp>
#include <string>

#include "kinds.hpp"
#include "model/schedules/checker.hpp"
#include "model/schedules/live_chunks.hpp"

namespace pipecast {

/// A pass of a chunk, whichever it is, in the published tables.
inline constexpr Duration kPassTime{7};
inline constexpr PassDurations kEqualPasses{.forward = kPassTime,
                                            .backward = kPassTime * 2,
                                            .backward_input = kPassTime,
                                            .backward_weight = kPassTime};

/// Every rank keeps at most `most` chunks, also if those count that wait for their weight gradient.
inline void require_kept_within(const Schedule& schedule, int most) {
  const StageBytes chunk{.activations = Bytes(1), .weight_operands = Bytes(1)};
  for (const Bytes kept : peak_live_bytes(schedule, {chunk})) REQUIRE(kept <= Bytes(most));
}

/// Whatever the passes of every stage and micro-batch take, a rank does all of its work, keeps as
/// many chunks, and the step takes no less than the longest way of a micro-batch.
inline void require_work_at_random_durations(std::string_view name, int ranks, int microbatches) {
  const Schedule schedule = kind(name).make({ranks, microbatches});
  const auto stages = static_cast<std::size_t>(2 * ranks);
  const auto all = static_cast<std::size_t>(microbatches);
  RandomDurations random(static_cast<std::uint64_t>(ranks * microbatches));
  std::vector<PassDurations> passes;
  while (passes.size() < stages * all) passes.push_back(random.next());
  const ScheduleTiming timing = time_schedule(schedule, {passes});
  REQUIRE(timing.peak_live_activations == peak_live_activations(schedule));
  for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
    Duration work{};
    for (const std::size_t stage : {rank, stages - 1 - rank}) {
      for (std::size_t i = 0; i < all; ++i) {
        const PassDurations& pass = passes[stage * all + i];
        work += pass.forward + pass.backward_input + pass.backward_weight;
      }
    }
    REQUIRE(timing.makespan - Time{} - timing.bubble[rank] == work);
  }
  for (std::size_t i = 0; i < all; ++i) {
    Duration way{};
    for (std::size_t stage = 0; stage < stages; ++stage) {
      way += passes[stage * all + i].forward + passes[stage * all + i].backward_input;
    }
    REQUIRE(timing.makespan - Time{} >= way);
  }
}

/// 1F1B on stages of both chunks, which keeps 2p chunks on rank 0.
inline Duration one_f_one_b_makespan(int ranks, int microbatches) {
  const PassDurations both{.forward = kEqualPasses.forward * 2,
                           .backward = kEqualPasses.backward * 2};
  return time_schedule(kind("1f1b").make({ranks, microbatches}), {{both}}).makespan - Time{};
}

inline void require_v_shape_errors(const std::string& name) {
  const ScheduleKind& v = kind(name);
  REQUIRE_THROWS_AS(v.make({0, 4}), ImpossiblePlan);
  REQUIRE_THROWS_WITH(v.make({4, 0}),
                      name + ": 0 micro-batches on 4 ranks; it needs at least one of each");
  REQUIRE_THROWS_AS(v.make({4, 8, 3}), ImpossiblePlan);
  REQUIRE_THROWS_WITH(v.make({4, 8, 3}), name +
                                             ": 3 virtual stages on a rank; it needs 2, one on the "
                                             "way down the ranks and one on the way back");
  REQUIRE(v.make({4, 8, 2}).ranks == v.make({4, 8}).ranks);
}

}  // namespace pipecast
