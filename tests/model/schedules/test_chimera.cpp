#include <catch2/catch.hpp>

#include "kinds.hpp"
#include "model/schedules/checker.hpp"

using namespace pipecast;

namespace {

/// Micro-batches that chimera runs on p ranks: 2, about half a unit, a unit, some units.
std::vector<int> possible_microbatches(int ranks) {
  return {2, (ranks / 4 + 1) * 2 > ranks ? ranks : (ranks / 4 + 1) * 2, ranks, 2 * ranks,
          5 * ranks};
}

}  // namespace

TEST_CASE("chimera does all the work and stashes p/2+1 to p micro-batches",
          "[schedule][property]") {
  const int ranks = GENERATE(2, 4, 6, 8, 14, 64);
  for (const int microbatches : possible_microbatches(ranks)) {
    CAPTURE(ranks, microbatches);
    const Schedule schedule = kind("chimera").make({ranks, microbatches});
    REQUIRE(check_schedule(schedule) == std::nullopt);
    REQUIRE(find_blocking_deadlock(schedule) == std::nullopt);
    REQUIRE(schedule.stage_of == stages_both_ways(ranks));
    REQUIRE(schedule.microbatches == std::vector<int>(2, microbatches / 2));
    const std::vector<int> peaks =
        time_schedule(schedule, {{PassDurations{}}}).peak_live_activations;
    const int half = std::min(microbatches, ranks) / 2;  // micro-batches of a direction in a unit
    for (int rank = 0; rank < ranks; ++rank) {
      const int peak = peaks[static_cast<std::size_t>(rank)];
      REQUIRE(peak == std::min(half, ranks - rank) + std::min(half, rank + 1));
      if (microbatches < ranks) continue;
      REQUIRE(peak >= ranks / 2 + 1);
      REQUIRE(peak <= ranks);
    }
    REQUIRE((microbatches < ranks || peaks.front() == ranks / 2 + 1));
    REQUIRE((microbatches < ranks || peaks[static_cast<std::size_t>(ranks / 2)] == ranks));
  }
}

TEST_CASE("chimera idles (p/2-1)(F+B) on every rank where F and B are equal",
          "[schedule][property]") {
  const int ranks = GENERATE(2, 4, 6, 8, 14, 64);
  const int units = GENERATE(1, 2, 5);
  CAPTURE(ranks, units);
  const PassDurations d{.forward = Duration(7), .backward = Duration(7)};
  const PipelineShape shape{ranks, units * ranks};
  const Duration bubble = (d.forward + d.backward) * (ranks / 2 - 1);
  REQUIRE(published("chimera", shape, d) == bubble);
  const ScheduleTiming timing = time_schedule(kind("chimera").make(shape), {{d}});
  for (const Duration idle : timing.bubble) REQUIRE(idle == bubble);
}

TEST_CASE("chimera idles in its first unit's corners and, where F and B differ, between units",
          "[schedule][property]") {
  const int ranks = GENERATE(2, 4, 6, 8, 14, 64);
  RandomDurations random(1);
  for (const int microbatches : possible_microbatches(ranks)) {
    const Schedule schedule = kind("chimera").make({ranks, microbatches});
    const int in_unit = std::min(microbatches, ranks);
    const int units = std::max(microbatches / ranks, 1);
    for (int i = 0; i < 5; ++i) {
      const PassDurations d = random.next();
      const Duration shorter = std::min(d.forward, d.backward);
      const Duration longer = std::max(d.forward, d.backward);
      CAPTURE(ranks, microbatches, shorter.count(), longer.count());
      const Duration expected = (shorter + longer) * (ranks - in_unit) + longer * (in_unit - 2) +
                                (longer - shorter) * ((units - 1) * (ranks - 2));
      for (const Duration idle : time_schedule(schedule, {{d}}).bubble) REQUIRE(idle == expected);
    }
  }
}

TEST_CASE("a unit of chimera with B = 2F idles the paper's share (p-2)/(3N/2+p-2)", "[schedule]") {
  const int ranks = GENERATE(2, 4, 8, 16, 32);
  const PassDurations d{.forward = Duration(5), .backward = Duration(10)};
  const ScheduleTiming timing = time_schedule(kind("chimera").make({ranks, ranks}), {{d}});
  for (const Duration idle : timing.bubble) {
    REQUIRE(idle.count() * (3 * ranks + 2 * (ranks - 2)) ==
            (timing.makespan - Time{}).count() * 2 * (ranks - 2));
  }
}

TEST_CASE("chimera's two directions mirror each other", "[schedule]") {
  const int ranks = GENERATE(2, 4, 10);
  const Schedule schedule = kind("chimera").make({ranks, 3 * ranks});
  for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
    std::vector<Step> mirror = schedule.ranks[schedule.ranks.size() - 1 - rank];
    for (Step& step : mirror) step.first.lane = 1 - step.first.lane;
    REQUIRE(schedule.ranks[rank] == mirror);
  }
}

TEST_CASE("chimera says what shape it needs", "[schedule]") {
  const auto make = [](int ranks, int microbatches) {
    return kind("chimera").make({ranks, microbatches});
  };
  REQUIRE_THROWS_AS(make(16, 24), ImpossiblePlan);
  REQUIRE_THROWS_WITH(make(16, 24),
                      "chimera: 24 micro-batches on 16 ranks; it needs an even number of ranks and "
                      "an even number of micro-batches, at most as many as ranks or a multiple of "
                      "them");
  REQUIRE_THROWS_AS(make(5, 10), ImpossiblePlan);
  REQUIRE_THROWS_AS(make(8, 3), ImpossiblePlan);
  REQUIRE_THROWS_AS(make(8, 0), ImpossiblePlan);
  REQUIRE_THROWS_AS(make(0, 0), ImpossiblePlan);
  REQUIRE_NOTHROW(make(8, 6));
  REQUIRE_NOTHROW(make(8, 24));
}
