#include <catch2/catch.hpp>

#include "kinds.hpp"
#include "model/schedules/checker.hpp"

using namespace pipecast;

TEST_CASE("interleaved idles (p-1)(F+B) of a chunk on every rank and stashes its warm-up and one",
          "[schedule][property]") {
  const int ranks = GENERATE(1, 2, 3, 8, 17, 64);
  const int rounds = GENERATE(1, 2, 5);
  const int virtual_stages = GENERATE(0, 2, 3, 6);
  CAPTURE(ranks, rounds, virtual_stages);
  const PipelineShape shape{ranks, rounds * ranks, virtual_stages};
  const Schedule schedule = kind("interleaved").make(shape);
  REQUIRE(check_schedule(schedule) == std::nullopt);
  // A group's first backward meets the next group's forwards.
  REQUIRE(find_blocking_deadlock(schedule).has_value() == (ranks > 1 && rounds > 1));
  const int v = kind("interleaved").stages_per_rank(shape);
  REQUIRE(schedule.stage_of == stages_looped(ranks, v));
  RandomDurations random(1);
  for (int i = 0; i < 3; ++i) {
    const PassDurations d = random.next();
    const ScheduleTiming timing = time_schedule(schedule, {{d}});
    const Duration bubble = (d.forward + d.backward) * (ranks - 1);
    REQUIRE(published("interleaved", shape, d) == bubble);
    for (const Duration idle : timing.bubble) REQUIRE(idle == bubble);
    for (int rank = 0; rank < ranks; ++rank) {
      const int warmup = 2 * (ranks - 1 - rank) + (v - 1) * ranks;
      REQUIRE(timing.peak_live_activations[static_cast<std::size_t>(rank)] ==
              std::min(warmup + 1, v * shape.microbatches));
    }
  }
}

TEST_CASE("interleaved takes micro-batches through a chunk in groups of p", "[schedule]") {
  // Rank 1 of 2 warms up with 2(p-1-r) + (v-1)p = 2 chunks.
  const Schedule schedule = kind("interleaved").make({2, 4});
  std::string text;
  for (const Step& step : schedule.ranks[1]) text += to_text(step) + " ";
  REQUIRE(text ==
          "F0.0 F0.1 F1.0 B1.0 F1.1 B1.1 F0.2 B0.0 F0.3 B0.1 F1.2 B1.2 F1.3 B1.3 B0.2 B0.3 ");
}

TEST_CASE("interleaved says what shape it needs", "[schedule]") {
  const auto make = [](int ranks, int microbatches, int virtual_stages) {
    return kind("interleaved").make({ranks, microbatches, virtual_stages});
  };
  REQUIRE_THROWS_AS(make(4, 6, 2), ImpossiblePlan);
  REQUIRE_THROWS_WITH(make(4, 6, 0),
                      "interleaved: 6 micro-batches on 4 ranks with 2 virtual stages; it needs at "
                      "least one rank, a positive multiple of the ranks as micro-batches and at "
                      "least 2 virtual stages");
  REQUIRE_THROWS_AS(make(4, 8, 1), ImpossiblePlan);
  REQUIRE_THROWS_AS(make(4, 8, -2), ImpossiblePlan);
  REQUIRE_THROWS_AS(make(4, 0, 2), ImpossiblePlan);
  REQUIRE_THROWS_AS(make(0, 4, 2), ImpossiblePlan);
}
