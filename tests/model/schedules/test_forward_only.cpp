#include <catch2/catch.hpp>

#include "kinds.hpp"
#include "model/schedules/checker.hpp"
#include "model/schedules/live_chunks.hpp"

using namespace pipecast;

TEST_CASE("forward-only runs nothing but forwards and idles (p-1)F on every rank",
          "[schedule][property]") {
  const int ranks = GENERATE(1, 2, 3, 8, 17, 64);
  const int microbatches = GENERATE(1, 2, 7, 64, 100);
  CAPTURE(ranks, microbatches);
  const PipelineShape shape{ranks, microbatches};
  const Schedule schedule = kind("forward-only").make(shape);
  REQUIRE(check_schedule(schedule) == std::nullopt);
  REQUIRE(find_blocking_deadlock(schedule) == std::nullopt);
  for (const std::vector<Step>& steps : schedule.ranks) {
    REQUIRE(steps.size() == static_cast<std::size_t>(microbatches));
    for (const Step& step : steps) REQUIRE(step.first.pass == Pass::kForward);
  }
  for (const int live : peak_live_activations(schedule)) REQUIRE(live == 1);
  RandomDurations random(1);
  for (int i = 0; i < 5; ++i) {
    const PassDurations d = random.next();
    REQUIRE(published("forward-only", shape, d) == d.forward * (ranks - 1));
    for (const Duration idle : time_schedule(schedule, {{d}}).bubble) {
      REQUIRE(idle == d.forward * (ranks - 1));
    }
  }
}

TEST_CASE("forward-only says what shape it needs", "[schedule]") {
  REQUIRE_THROWS_AS(kind("forward-only").make({0, 4}), ImpossiblePlan);
  REQUIRE_THROWS_WITH(kind("forward-only").make({4, 0}),
                      "forward-only: 0 micro-batches on 4 ranks; it needs at least one of each");
}
