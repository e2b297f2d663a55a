#include <algorithm>
#include <catch2/catch.hpp>

#include "v_shapes.hpp"

using namespace pipecast;

TEST_CASE("v-half does all the work and keeps half the chunks of 1f1b on every rank",
          "[schedule][property]") {
  const int ranks = GENERATE(1, 2, 3, 4, 5, 6, 7, 8, 16, 17, 33, 64);
  const int microbatches = GENERATE(1, 2, 3, 5, 8, 13, 34, 66, 129);
  CAPTURE(ranks, microbatches);
  const Schedule schedule = kind("v-half").make({ranks, microbatches});
  REQUIRE(check_schedule(schedule) == std::nullopt);
  // 1F1B keeps 2p chunks; half of the micro-batches, and one more.
  const int most = 2 * (ranks / 2 + 1);
  const std::vector<int> peaks = peak_live_activations(schedule);
  REQUIRE(*std::max_element(peaks.begin(), peaks.end()) <= std::min(most, 2 * microbatches));
  if (microbatches >= ranks + 2) {
    for (const int peak : peaks) REQUIRE(peak == most);
  }
  require_kept_within(schedule, most);
  const int locks_from = ranks % 2 == 0 ? ranks / 2 + 3 : (ranks + 3) / 2;
  REQUIRE(find_blocking_deadlock(schedule).has_value() ==
          (ranks > 1 && microbatches >= locks_from));
}

TEST_CASE("v-half has half the bubble of 1f1b where F, Bi and W are equal",
          "[schedule][property]") {
  const int ranks = GENERATE(1, 2, 3, 4, 5, 6, 7, 8, 16, 31, 64);
  const int more = GENERATE(0, 1, 2, 21, 64);
  CAPTURE(ranks, more);
  const PipelineShape shape{ranks, ranks + more};
  const ScheduleTiming timing = time_schedule(kind("v-half").make(shape), {{kEqualPasses}});
  // Published: half of the (p-1)(F+B) of 1F1B, whose stages are twice as long. The turns save some.
  REQUIRE(published("v-half", shape, kEqualPasses) ==
          (kEqualPasses.forward + kEqualPasses.backward) * (ranks - 1));
  const int saved = ranks == 1 ? 0 : ranks == 2 || ranks % 2 == 1 ? 1 : 3;
  for (const Duration bubble : timing.bubble) {
    REQUIRE(bubble == published("v-half", shape, kEqualPasses) - kPassTime * saved);
  }
  REQUIRE(timing.makespan - Time{} <= one_f_one_b_makespan(ranks, ranks + more));
}

TEST_CASE("v-half does its work whatever the passes take", "[schedule][property]") {
  const int ranks = GENERATE(1, 2, 3, 8, 17);
  const int microbatches = GENERATE(1, 2, 7, 40);
  CAPTURE(ranks, microbatches);
  require_work_at_random_durations("v-half", ranks, microbatches);
}

TEST_CASE("v-half says what shape it needs", "[schedule]") { require_v_shape_errors("v-half"); }
