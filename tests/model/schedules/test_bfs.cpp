#include <catch2/catch.hpp>

#include "kinds.hpp"
#include "model/schedules/checker.hpp"

using namespace pipecast;

TEST_CASE("bfs idles (p-1)(F+B) of a chunk from p micro-batches on and stashes every chunk",
          "[schedule][property]") {
  const int ranks = GENERATE(1, 2, 3, 8, 17, 64);
  const int microbatches = GENERATE(1, 2, 7, 17, 64, 100);
  const int virtual_stages = GENERATE(0, 1, 2, 3);
  CAPTURE(ranks, microbatches, virtual_stages);
  const PipelineShape shape{ranks, microbatches, virtual_stages};
  const Schedule schedule = kind("bfs").make(shape);
  REQUIRE(check_schedule(schedule) == std::nullopt);
  // The last rank cannot hand back its first result before rank 0 comes to its second chunk; until
  // then there is room for 2p-1 micro-batches in between.
  REQUIRE(find_blocking_deadlock(schedule).has_value() ==
          (ranks > 1 && schedule.lanes() > 1 && microbatches >= 2 * ranks));
  const int v = kind("bfs").stages_per_rank(shape);
  REQUIRE(schedule.stage_of == stages_looped(ranks, v));
  RandomDurations random(1);
  for (int i = 0; i < 2; ++i) {
    const PassDurations d = random.next();
    const ScheduleTiming timing = time_schedule(schedule, {{d}});
    REQUIRE(published("bfs", shape, d) == (d.forward + d.backward) * (ranks - 1));
    // Too few micro-batches keep rank 0 waiting for p-M chunks whenever they return.
    const int waits = ranks - 1 + (v - 1) * std::max(ranks - microbatches, 0);
    for (const Duration idle : timing.bubble) REQUIRE(idle == (d.forward + d.backward) * waits);
    for (const int peak : timing.peak_live_activations) REQUIRE(peak == v * microbatches);
  }
}

TEST_CASE("bfs with one chunk is gpipe", "[schedule]") {
  REQUIRE(kind("bfs").make({5, 8, 1}).ranks == kind("gpipe").make({5, 8}).ranks);
}

TEST_CASE("bfs says what shape it needs", "[schedule]") {
  REQUIRE_THROWS_AS(kind("bfs").make({0, 4}), ImpossiblePlan);
  REQUIRE_THROWS_AS(kind("bfs").make({4, 4, -1}), ImpossiblePlan);
  REQUIRE_THROWS_WITH(kind("bfs").make({4, 0}),
                      "bfs: 0 micro-batches on 4 ranks with 2 virtual stages; it needs at least "
                      "one of each");
}
