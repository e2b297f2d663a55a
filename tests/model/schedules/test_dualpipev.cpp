#include <algorithm>
#include <catch2/catch.hpp>

#include "model/schedules/checker.hpp"
#include "model/schedules/live_chunks.hpp"
#include "model/schedules/timing.hpp"
#include "worked.hpp"

using namespace pipecast;

namespace {

Schedule make(const char* kind, int ranks, int microbatches) {
  return Registry<ScheduleKind>::instance().find(kind).make({ranks, microbatches});
}
Schedule make(int ranks, int microbatches) { return make("dualpipev", ranks, microbatches); }

}  // namespace

TEST_CASE("dualpipev equals the worked schedules token by token and tick by tick", "[schedule]") {
  const auto [ranks, microbatches] =
      GENERATE(table<int, int>({{2, 4}, {4, 8}, {4, 10}, {8, 16}, {8, 60}}));
  CAPTURE(ranks, microbatches);
  require_worked(make(ranks, microbatches), "dualpipev", ranks, microbatches);
}

TEST_CASE("dualpipev does all the work with 2p+1 live chunks", "[schedule][property]") {
  const int ranks = GENERATE(1, 2, 3, 4, 5, 8, 15, 16, 33, 64);
  const int more = GENERATE(0, 1, 2, 17, 40);
  CAPTURE(ranks, more);
  const Schedule schedule = make(ranks, 2 * ranks + more);
  REQUIRE(check_schedule(schedule) == std::nullopt);
  // One of a pair that runs beside the others.
  for (const int peak : peak_live_activations(schedule)) REQUIRE(peak == 2 * ranks + 1);
}

TEST_CASE("a rank of dualpipev does what the same rank of dualpipe on twice the ranks does",
          "[schedule][property]") {
  const int ranks = GENERATE(1, 2, 3, 8);
  const int microbatches = 2 * ranks + GENERATE(0, 1, 9);
  CAPTURE(ranks, microbatches);
  const Schedule cut = make(ranks, microbatches);
  const Schedule whole = make("dualpipe", 2 * ranks, 2 * microbatches);
  for (std::size_t rank = 0; rank < cut.ranks.size(); ++rank) {
    REQUIRE(cut.ranks[rank] == whole.ranks[rank]);
  }
  const ScheduleTiming of_cut = time_schedule(cut, {{kWorkedTicks}});
  const ScheduleTiming of_whole = time_schedule(whole, {{kWorkedTicks}});
  REQUIRE(of_cut.makespan == of_whole.makespan);
  for (std::size_t rank = 0; rank < cut.ranks.size(); ++rank) {
    REQUIRE(of_cut.finish[rank] == of_whole.finish[rank]);
  }
}

TEST_CASE("the bubble of dualpipev is the published one where F, Bi and W are equal",
          "[schedule][property]") {
  const int ranks = GENERATE(1, 2, 3, 8, 16);
  const int microbatches = 2 * ranks + GENERATE(0, 1, 30);
  const std::int64_t unit = 7;
  const std::int64_t overlapped = GENERATE(14, 18, 21);  // between no gain and full overlap
  CAPTURE(ranks, microbatches, overlapped);
  const PassDurations equal{.forward = Duration(unit),
                            .backward = Duration(2 * unit),
                            .backward_input = Duration(unit),
                            .backward_weight = Duration(unit),
                            .overlapped = Duration(overlapped)};
  const auto bubble = time_schedule(make(ranks, microbatches), {{equal}}).bubble;
  // Published for the ranks that idle most: (p-1)(F&B + B - 3W).
  REQUIRE(*std::max_element(bubble.begin(), bubble.end()) ==
          Duration((ranks - 1) * (overlapped + 2 * unit - 3 * unit)));
  const auto& formula = Registry<ScheduleKind>::instance().find("dualpipev").bubble;
  REQUIRE(formula.value({ranks, microbatches}, equal) ==
          *std::max_element(bubble.begin(), bubble.end()));
}

TEST_CASE("dualpipev says what shape it needs", "[schedule]") {
  REQUIRE_THROWS_AS(make(8, 15), ImpossiblePlan);
  REQUIRE_THROWS_WITH(make(8, 15),
                      "dualpipev: 15 micro-batches on 8 ranks; it needs at least one rank and at "
                      "least 2 x ranks = 16 micro-batches");
  REQUIRE_NOTHROW(make(8, 16));
  REQUIRE_NOTHROW(make(1, 2));
  REQUIRE_THROWS_AS(make(1, 1), ImpossiblePlan);
  REQUIRE_THROWS_AS(make(0, 4), ImpossiblePlan);
  const auto& kind = Registry<ScheduleKind>::instance().find("dualpipev");
  REQUIRE(kind.make({8, 16, 2}).ranks == make(8, 16).ranks);
  REQUIRE_THROWS_AS(kind.make({8, 16, 1}), ImpossiblePlan);
  REQUIRE_THROWS_WITH(kind.make({8, 16, 1}),
                      "dualpipev: 1 virtual stages on a rank; it needs 2, one on the way down the "
                      "ranks and one on the way back");
}
