#include <algorithm>
#include <catch2/catch.hpp>

#include "model/schedules/checker.hpp"
#include "model/schedules/timing.hpp"
#include "worked.hpp"

using namespace pipecast;

namespace {

Schedule make(int ranks, int microbatches) {
  return Registry<ScheduleKind>::instance().find("dualpipe").make({ranks, microbatches});
}

}  // namespace

TEST_CASE("dualpipe equals the worked schedules token by token and tick by tick", "[schedule]") {
  const auto [ranks, microbatches] = GENERATE(
      table<int, int>({{2, 4}, {4, 8}, {4, 12}, {8, 16}, {8, 20}, {8, 32}, {16, 32}, {16, 120}}));
  CAPTURE(ranks, microbatches);
  require_worked(make(ranks, microbatches), "dualpipe", ranks, microbatches);
}

TEST_CASE("dualpipe does all the work with p+1 live chunks and mirror-image halves",
          "[schedule][property]") {
  const int ranks = GENERATE(2, 4, 6, 8, 10, 12, 14, 16);
  const int more = GENERATE(0, 2, 4, 18, 40);
  CAPTURE(ranks, more);
  const Schedule schedule = make(ranks, 2 * ranks + more);
  REQUIRE(check_schedule(schedule) == std::nullopt);
  const ScheduleTiming timing = time_schedule(schedule, {{kWorkedTicks}, Duration{}});
  for (const int peak : timing.peak_live_activations) REQUIRE(peak == ranks + 1);
  for (std::size_t rank = 0; rank < schedule.ranks.size(); ++rank) {
    const auto& mirror = schedule.ranks[schedule.ranks.size() - 1 - rank];
    REQUIRE(schedule.ranks[rank].size() == mirror.size());
    for (std::size_t i = 0; i < mirror.size(); ++i) {
      REQUIRE(schedule.ranks[rank][i].first.pass == mirror[i].first.pass);
      REQUIRE(schedule.ranks[rank][i].first.lane == 1 - mirror[i].first.lane);
      REQUIRE(schedule.ranks[rank][i].first.microbatch == mirror[i].first.microbatch);
      REQUIRE(schedule.ranks[rank][i].overlapped == mirror[i].overlapped);
    }
  }
}

TEST_CASE("the bubble of dualpipe is within the published one and the same at any length",
          "[schedule][property]") {
  const int ranks = GENERATE(2, 4, 8, 16);
  CAPTURE(ranks);
  // (p/2-1)(F&B + B - 3W): DeepSeek-V3 Technical Report, table 2.
  const Duration published =
      (kWorkedTicks.overlapped + kWorkedTicks.backward - kWorkedTicks.backward_weight * 3) *
      (ranks / 2 - 1);
  const auto bubbles = [&](int microbatches) {
    return time_schedule(make(ranks, microbatches), {{kWorkedTicks}, Duration{}}).bubble;
  };
  const auto shortest = bubbles(2 * ranks);
  for (const Duration bubble : shortest) REQUIRE(bubble <= published);
  REQUIRE(bubbles(2 * ranks + 2) == shortest);
  REQUIRE(bubbles(8 * ranks) == shortest);
}

TEST_CASE("the largest bubble of dualpipe is the published one where F, Bi and W are equal",
          "[schedule][property]") {
  const int ranks = GENERATE(2, 4, 6, 8, 16, 32, 64);
  const int microbatches = 2 * ranks + GENERATE(0, 2, 30);
  const std::int64_t unit = GENERATE(1, 7);
  const std::int64_t gain = GENERATE(0, 1);  // of an overlapped pair
  CAPTURE(ranks, microbatches, unit, gain);
  const PassDurations equal{.forward = Duration(unit),
                            .backward = Duration(2 * unit),
                            .backward_input = Duration(unit),
                            .backward_weight = Duration(unit),
                            .overlapped = Duration(3 * unit - gain)};
  const auto bubble = time_schedule(make(ranks, microbatches), {{equal}}).bubble;
  const Duration largest = *std::max_element(bubble.begin(), bubble.end());
  // (p/2-1)(F&B + B - 3W)
  REQUIRE(largest == Duration((ranks / 2 - 1) * (2 * unit - gain)));
  const auto& formula = Registry<ScheduleKind>::instance().find("dualpipe").bubble;
  REQUIRE(formula.value({ranks, microbatches}, equal) == largest);
}

TEST_CASE("dualpipe overlaps all pairs of the main part but one on the two middle ranks",
          "[schedule][property]") {
  const int ranks = GENERATE(2, 4, 8, 16);
  const int per_direction = GENERATE(16, 17, 60);
  CAPTURE(ranks, per_direction);
  const Schedule schedule = make(ranks, 2 * per_direction);
  for (int rank = 0; rank < ranks; ++rank) {
    const int h = std::min(rank, ranks - 1 - rank);
    const bool middle = h == ranks / 2 - 1;
    const auto& steps = schedule.ranks[static_cast<std::size_t>(rank)];
    const auto pairs =
        std::count_if(steps.begin(), steps.end(), [](const Step& step) { return step.overlapped; });
    // Two in each round of step 4, one in each round of step 5.
    REQUIRE(pairs == 2 * (per_direction - ranks + h + 1) + (ranks / 2 - h - 1) - (middle ? 1 : 0));
  }
}

TEST_CASE("dualpipe says what shape it needs", "[schedule]") {
  REQUIRE_THROWS_AS(make(16, 24), ImpossiblePlan);
  REQUIRE_THROWS_WITH(make(16, 24),
                      "dualpipe: 24 micro-batches on 16 ranks; it needs an even number of ranks "
                      "and an even number of micro-batches, at least 2 x ranks = 32");
  REQUIRE_NOTHROW(make(16, 32));
  REQUIRE_THROWS_AS(make(16, 33), ImpossiblePlan);
  REQUIRE_THROWS_AS(make(5, 20), ImpossiblePlan);
  REQUIRE_THROWS_AS(make(0, 0), ImpossiblePlan);
}
