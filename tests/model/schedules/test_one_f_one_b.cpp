#include <algorithm>
#include <catch2/catch.hpp>

#include "model/schedules/checker.hpp"
#include "model/schedules/timing.hpp"

using namespace pipecast;

namespace {

Schedule make(int ranks, int microbatches) {
  return Registry<ScheduleKind>::instance().find("1f1b").make({ranks, microbatches});
}

}  // namespace

TEST_CASE("1f1b runs every micro-batch once and bounds the stash", "[schedule][property]") {
  const int ranks = GENERATE(1, 2, 3, 4, 8, 17, 64);
  const int microbatches = GENERATE(1, 2, 3, 8, 17, 64);
  CAPTURE(ranks, microbatches);
  const Schedule schedule = make(ranks, microbatches);
  REQUIRE(check_schedule(schedule) == std::nullopt);
  REQUIRE(find_blocking_deadlock(schedule) == std::nullopt);
  const auto peaks = time_schedule(schedule, {{PassDurations{}}, Duration{}}).peak_live_activations;
  for (int stage = 0; stage < ranks; ++stage) {
    REQUIRE(peaks[static_cast<std::size_t>(stage)] == std::min(ranks - stage, microbatches));
  }
}

TEST_CASE("the bubble of 1f1b is (p-1)(F+B) on every rank", "[schedule][property]") {
  const int ranks = GENERATE(1, 2, 5, 16, 64);
  const int more = GENERATE(0, 1, 30);  // the formula needs at least as many micro-batches as ranks
  const int forward = GENERATE(1, 10);
  const int backward = GENERATE(10, 23);
  CAPTURE(ranks, more, forward, backward);
  const PassDurations durations{.forward = Duration(forward), .backward = Duration(backward)};
  const int microbatches = ranks + more;
  const auto timing = time_schedule(make(ranks, microbatches), {{durations}, Duration{}});
  const Duration per_microbatch(forward + backward);
  for (const Duration bubble : timing.bubble) REQUIRE(bubble == per_microbatch * (ranks - 1));
  REQUIRE(timing.makespan == Time{} + per_microbatch * (microbatches + ranks - 1));
}

TEST_CASE("1f1b refuses a pipeline of nothing", "[schedule]") {
  REQUIRE_THROWS_AS(make(0, 4), ImpossiblePlan);
  REQUIRE_THROWS_WITH(make(4, 0),
                      "1f1b: 0 micro-batches on 4 ranks; it needs at least one of each");
}
