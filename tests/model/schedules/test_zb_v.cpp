#include <algorithm>
#include <catch2/catch.hpp>

#include "v_shapes.hpp"

using namespace pipecast;

TEST_CASE("zb-v does all the work and keeps the 2p chunks of 1f1b on every rank",
          "[schedule][property]") {
  const int ranks = GENERATE(1, 2, 3, 4, 5, 6, 7, 8, 16, 17, 33, 64);
  const int microbatches = GENERATE(1, 2, 3, 5, 8, 13, 34, 64, 129);
  CAPTURE(ranks, microbatches);
  const Schedule schedule = kind("zb-v").make({ranks, microbatches});
  REQUIRE(check_schedule(schedule) == std::nullopt);
  const std::vector<int> peaks = peak_live_activations(schedule);
  REQUIRE(*std::max_element(peaks.begin(), peaks.end()) == 2 * std::min(ranks, microbatches));
  if (microbatches >= 2 * ranks) {
    for (const int peak : peaks) REQUIRE(peak == 2 * ranks);
  }
  require_kept_within(schedule, 2 * ranks);
  // Rank 0 cannot hand its next forward to a rank that waits to hand back its first.
  REQUIRE(find_blocking_deadlock(schedule).has_value() == (ranks > 1 && microbatches > ranks));
}

TEST_CASE(
    "zb-v has no bubble between the first and the last step of a rank where F, Bi and W are "
    "equal",
    "[schedule][property]") {
  const int ranks = GENERATE(1, 2, 3, 4, 5, 8, 16, 31, 64);
  const int more = GENERATE(0, 1, 2, 21, 64);
  CAPTURE(ranks, more);
  const PipelineShape shape{ranks, 2 * ranks + more};
  const ScheduleTiming timing = time_schedule(kind("zb-v").make(shape), {{kEqualPasses}});
  for (int rank = 0; rank < ranks; ++rank) {
    const auto r = static_cast<std::size_t>(rank);
    REQUIRE(idle_within(timing, r) == published("zb-v", shape, kEqualPasses));
    // It begins when the first micro-batch can reach it, and works without a pause.
    REQUIRE(timing.steps[r].front().start == Time{} + kPassTime * rank);
    REQUIRE(timing.finish[r] == Time{} + kPassTime * (rank + 6 * shape.microbatches));
  }
}

TEST_CASE("zb-v ends as soon as any schedule can from p micro-batches on", "[schedule][property]") {
  const int ranks = GENERATE(1, 2, 3, 4, 5, 8, 16, 31, 64);
  const int more = GENERATE(0, 1, 2, 21, 64);
  CAPTURE(ranks, more);
  const ScheduleTiming timing =
      time_schedule(kind("zb-v").make({ranks, ranks + more}), {{kEqualPasses}});
  // The last rank waits p-1 forwards for its first input and then has six passes a micro-batch.
  for (const Duration bubble : timing.bubble) REQUIRE(bubble == kPassTime * (ranks - 1));
  REQUIRE(timing.makespan - Time{} <= one_f_one_b_makespan(ranks, ranks + more));
}

TEST_CASE("zb-v does its work whatever the passes take", "[schedule][property]") {
  const int ranks = GENERATE(1, 2, 3, 8, 17);
  const int microbatches = GENERATE(1, 2, 7, 40);
  CAPTURE(ranks, microbatches);
  require_work_at_random_durations("zb-v", ranks, microbatches);
}

TEST_CASE("zb-v says what shape it needs", "[schedule]") { require_v_shape_errors("zb-v"); }
