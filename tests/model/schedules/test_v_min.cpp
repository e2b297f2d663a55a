#include <algorithm>
#include <catch2/catch.hpp>

#include "v_shapes.hpp"

using namespace pipecast;

TEST_CASE("v-min does all the work and keeps a third of the chunks of 1f1b",
          "[schedule][property]") {
  const int ranks = GENERATE(1, 2, 3, 4, 5, 6, 7, 8, 16, 17, 33, 64);
  const int microbatches = GENERATE(1, 2, 3, 5, 8, 13, 34, 64, 129);
  CAPTURE(ranks, microbatches);
  const Schedule schedule = kind("v-min").make({ranks, microbatches});
  REQUIRE(check_schedule(schedule) == std::nullopt);
  // 1F1B keeps 2p chunks; a third of the micro-batches, and up to one and a third more.
  const int most = 2 * ((ranks + 4) / 3);
  const std::vector<int> peaks = peak_live_activations(schedule);
  REQUIRE(*std::max_element(peaks.begin(), peaks.end()) == std::min(most, 2 * microbatches));
  if (ranks > 2 && microbatches >= ranks) {
    for (const int peak : peaks) REQUIRE(peak >= most - 1);
  }
  require_kept_within(schedule, most);
  const int locks_from = (ranks + 1) / 3 + 2;
  REQUIRE(find_blocking_deadlock(schedule).has_value() ==
          (ranks > 2 && microbatches >= locks_from));
}

TEST_CASE("v-min has two thirds of the bubble of 1f1b where F, Bi and W are equal",
          "[schedule][property]") {
  const int ranks = GENERATE(1, 2, 3, 4, 5, 6, 7, 8, 16, 31, 64);
  const int microbatches = GENERATE(2, 3, 8, 64, 150);
  CAPTURE(ranks, microbatches);
  const PipelineShape shape{ranks, microbatches};
  const ScheduleTiming timing = time_schedule(kind("v-min").make(shape), {{kEqualPasses}});
  // Published: two thirds of the (p-1)(F+B) of 1F1B, whose stages are twice as long. No micro-batch
  // waits on its way, so the step takes the 4p passes of one way, its last weight gradient, and six
  // passes for every other micro-batch; a rank works six for each.
  REQUIRE(published("v-min", shape, kEqualPasses) == kPassTime * 4 * (ranks - 1));
  const Duration expected = ranks > 2 ? kPassTime * (4 * ranks - 5) : kPassTime * (ranks - 1);
  for (const Duration bubble : timing.bubble) REQUIRE(bubble == expected);
  REQUIRE(timing.makespan - Time{} <= one_f_one_b_makespan(ranks, microbatches));
}

TEST_CASE("v-min loses time on every micro-batch where Bi takes longer than F and W",
          "[schedule][property]") {
  const int ranks = GENERATE(4, 8, 16);
  PassDurations uneven = kEqualPasses;
  uneven.backward_input = kPassTime * 2;
  const auto bubble = [&](int microbatches) {
    return time_schedule(kind("v-min").make({ranks, microbatches}), {{uneven}}).bubble.front();
  };
  const Duration lost = bubble(65) - bubble(64);
  REQUIRE(lost > Duration{});
  REQUIRE(bubble(129) - bubble(65) == lost * 64);
}

TEST_CASE("v-min does its work whatever the passes take", "[schedule][property]") {
  const int ranks = GENERATE(1, 2, 3, 8, 17);
  const int microbatches = GENERATE(1, 2, 7, 40);
  CAPTURE(ranks, microbatches);
  require_work_at_random_durations("v-min", ranks, microbatches);
}

TEST_CASE("v-min says what shape it needs", "[schedule]") { require_v_shape_errors("v-min"); }
