#include <catch2/catch.hpp>

#include "kinds.hpp"
#include "model/schedules/checker.hpp"

using namespace pipecast;

TEST_CASE("gpipe stashes every micro-batch and idles (p-1)(F+B) on every rank",
          "[schedule][property]") {
  const int ranks = GENERATE(1, 2, 3, 8, 17, 64);
  const int microbatches = GENERATE(1, 2, 7, 64, 100);
  CAPTURE(ranks, microbatches);
  const PipelineShape shape{ranks, microbatches};
  const Schedule schedule = kind("gpipe").make(shape);
  REQUIRE(check_schedule(schedule) == std::nullopt);
  REQUIRE(find_blocking_deadlock(schedule) == std::nullopt);
  RandomDurations random(1);
  for (int i = 0; i < 5; ++i) {
    const PassDurations d = random.next();
    const ScheduleTiming timing = time_schedule(schedule, {{d}});
    const Duration bubble = (d.forward + d.backward) * (ranks - 1);
    REQUIRE(published("gpipe", shape, d) == bubble);
    for (const Duration idle : timing.bubble) REQUIRE(idle == bubble);
    for (const int peak : timing.peak_live_activations) REQUIRE(peak == microbatches);
  }
}

TEST_CASE("gpipe says what shape it needs", "[schedule]") {
  REQUIRE_THROWS_AS(kind("gpipe").make({0, 4}), ImpossiblePlan);
  REQUIRE_THROWS_WITH(kind("gpipe").make({4, 0}),
                      "gpipe: 0 micro-batches on 4 ranks; it needs at least one of each");
}
