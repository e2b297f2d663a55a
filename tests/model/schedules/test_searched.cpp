#include <algorithm>
#include <catch2/catch.hpp>
#include <optional>

#include "base/random.hpp"
#include "model/schedules/checker.hpp"
#include "model/schedules/live_chunks.hpp"
#include "model/schedules/makespan_bound.hpp"
#include "model/schedules/timing.hpp"

using namespace pipecast;

namespace {

Schedule make(const PipelineShape& shape) {
  return Registry<ScheduleKind>::instance().find("searched").make(shape);
}

Duration makespan(const Schedule& schedule, const ScheduleCosts& costs) {
  return time_schedule(schedule, costs).makespan - Time{};
}

int most_live(const Schedule& schedule) {
  const std::vector<int> peaks = peak_live_activations(schedule);
  return *std::max_element(peaks.begin(), peaks.end());
}

bool trains(const Schedule& schedule) {
  const Step& last = schedule.ranks.front().back();
  return last.overlapped || last.first.pass != Pass::kForward;
}

int between(Random& random, int low, int high) {
  return low + static_cast<int>(random.below(static_cast<std::uint64_t>(high - low + 1)));
}

PassDurations random_durations(Random& random) {
  PassDurations d{.forward = Duration(between(random, 10, 30)),
                  .backward_input = Duration(between(random, 10, 30)),
                  .backward_weight = Duration(between(random, 5, 25))};
  // Splitting may cost something; overlapping may gain something.
  d.backward = d.backward_input + d.backward_weight - Duration(between(random, 0, 4));
  d.overlapped = d.forward + d.backward - Duration(between(random, 0, 9));
  return d;
}

/// Costs of `stages` stages: all equal, per stage, or per stage and micro-batch.
ScheduleCosts random_costs(Random& random, int stages, int microbatches) {
  ScheduleCosts out;
  const int sets = std::vector{1, stages, stages * microbatches}[random.below(3)];
  for (int i = 0; i < sets; ++i) out.passes.push_back(random_durations(random));
  if (random.below(2) == 0) out.transfer_latency = Duration(between(random, 1, 12));
  if (random.below(3) == 0) out.transfer_time = Duration(between(random, 1, 12));
  return out;
}

/// Instance i of the 200: any placement that `searched` has, limits from one chunk per lane to two
/// per stage.
PipelineShape random_shape(int i) {
  Random random(5, "searched instances", static_cast<std::uint64_t>(i));
  PipelineShape out;
  out.ranks = between(random, 2, 8);
  out.microbatches = between(random, 1, 24);
  out.virtual_stages = between(random, 1, 2);
  const int stages = out.ranks * out.virtual_stages;
  out.activation_limit = between(random, out.virtual_stages, 2 * stages);
  out.costs = random_costs(random, stages, out.microbatches);
  return out;
}

}  // namespace

TEST_CASE("the searched schedule loses to no kind of its placement within the limit",
          "[schedule][property]") {
  for (int i = 0; i < 200; ++i) {
    const PipelineShape shape = random_shape(i);
    CAPTURE(i, shape.ranks, shape.microbatches, shape.virtual_stages, shape.activation_limit);
    const Schedule searched = make(shape);
    REQUIRE(check_schedule(searched) == std::nullopt);
    REQUIRE(most_live(searched) <= shape.activation_limit);
    const Duration takes = makespan(searched, shape.costs);
    REQUIRE(takes >= makespan_bound(searched, shape.costs, shape.activation_limit));
    const auto& kinds = Registry<ScheduleKind>::instance();
    for (const std::string& name : kinds.names()) {
      if (name == "searched") continue;
      CAPTURE(name);
      std::optional<Schedule> other;
      try {
        other = kinds.find(name).make(shape);
      } catch (const ImpossiblePlan&) {
        continue;  // not of this shape
      }
      const bool comparable = other->stage_of == searched.stage_of &&
                              other->microbatches == searched.microbatches && trains(*other) &&
                              most_live(*other) <= shape.activation_limit;
      if (comparable) REQUIRE(takes <= makespan(*other, shape.costs));
    }
  }
}

TEST_CASE("no schedule is shorter than the bound of its placement", "[schedule][property]") {
  const auto& kinds = Registry<ScheduleKind>::instance();
  for (int i = 0; i < 100; ++i) {
    Random random(6, "bounded instances", static_cast<std::uint64_t>(i));
    const int ranks = between(random, 1, 8);
    const int microbatches = between(random, 1, 24);
    for (const std::string& name : kinds.names()) {
      if (name == "searched") continue;
      CAPTURE(i, name, ranks, microbatches);
      std::optional<Schedule> made;
      try {
        made = kinds.find(name).make({ranks, microbatches});
      } catch (const ImpossiblePlan&) {
        continue;  // not of this shape
      }
      const ScheduleCosts costs = random_costs(random, made->stages(), microbatches);
      const Duration takes = makespan(*made, costs);
      REQUIRE(takes >= makespan_bound(*made, costs, 0));
      REQUIRE(takes >= makespan_bound(*made, costs, most_live(*made)));
    }
  }
}

TEST_CASE("the bound is met where the optimum is known", "[schedule]") {
  const ScheduleCosts costs{.passes = {{.forward = Duration(10),
                                        .backward = Duration(30),
                                        .backward_input = Duration(18),
                                        .backward_weight = Duration(12)}},
                            .transfer_latency = Duration(7)};
  const auto& line = Registry<ScheduleKind>::instance().find("1f1b");
  SECTION("a single rank only works") {
    const Schedule schedule = line.make({1, 5});
    REQUIRE(makespan_bound(schedule, costs, 0) == Duration(5 * (10 + 30)));
  }
  SECTION("a single micro-batch passes every stage, and the first one's weights come last") {
    const Schedule schedule = line.make({4, 1});
    REQUIRE(makespan_bound(schedule, costs, 0) == Duration(4 * (10 + 18) + 12 + 2 * 3 * 7));
  }
  SECTION("with one live chunk, one micro-batch goes after the other") {
    const Schedule schedule = line.make({4, 6});
    const int round_trip = 4 * (10 + 18) + 2 * 3 * 7;
    REQUIRE(makespan_bound(schedule, costs, 1) == Duration(6 * round_trip + 12));
    REQUIRE(makespan(make({4, 6, 1, costs, 1}), costs) == Duration(6 * round_trip + 12));
  }
  SECTION("forwards alone") {
    Schedule schedule = line.make({3, 4});
    for (auto& steps : schedule.ranks) {
      steps.erase(std::remove_if(steps.begin(), steps.end(),
                                 [](const Step& s) { return s.first.pass != Pass::kForward; }),
                  steps.end());
    }
    REQUIRE(makespan_bound(schedule, costs, 0) == Duration((3 + 4 - 1) * 10 + 2 * 7));
  }
}

TEST_CASE("the searched schedule has no bubble where zb-h2 has none", "[schedule]") {
  // Equal F, Bi and W, 2p-1 live chunks: the last rank waits for p-1 forwards and then works.
  const int ranks = GENERATE(1, 2, 3, 4);
  const int microbatches = GENERATE(8, 12, 17);
  CAPTURE(ranks, microbatches);
  const PassDurations equal{.forward = Duration(10),
                            .backward = Duration(20),
                            .backward_input = Duration(10),
                            .backward_weight = Duration(10)};
  const ScheduleCosts costs{.passes = {equal}};
  const Schedule schedule = make({ranks, microbatches, 1, costs, 2 * ranks - 1});
  REQUIRE(most_live(schedule) <= 2 * ranks - 1);
  REQUIRE(makespan(schedule, costs) == Duration((ranks - 1) * 10 + microbatches * 30));
}

TEST_CASE("the same search twice gives the same schedule", "[schedule]") {
  for (int i = 0; i < 8; ++i) {
    const PipelineShape shape = random_shape(i);
    const Schedule one = make(shape);
    const Schedule two = make(shape);
    CAPTURE(i);
    REQUIRE(one.ranks == two.ranks);
  }
}

TEST_CASE("without costs and limit the search takes equal passes and 1f1b's memory", "[schedule]") {
  const int virtual_stages = GENERATE(1, 2);
  CAPTURE(virtual_stages);
  const ScheduleCosts equal{.passes = {{.forward = Duration(1),
                                        .backward = Duration(2),
                                        .backward_input = Duration(1),
                                        .backward_weight = Duration(1),
                                        .overlapped = Duration(3)}}};
  const Schedule schedule = make({4, 8, virtual_stages});
  REQUIRE(schedule.ranks == make({4, 8, virtual_stages, equal, 4 * virtual_stages}).ranks);
  REQUIRE(schedule.stage_of == (virtual_stages == 1 ? stages_in_line(4) : stages_in_v(4)));
}

TEST_CASE("searched says what it needs", "[schedule]") {
  REQUIRE_THROWS_AS(make({0, 4}), ImpossiblePlan);
  REQUIRE_THROWS_WITH(make({4, 0}),
                      "searched: 0 micro-batches on 4 ranks; it needs at least one of each");
  REQUIRE_THROWS_WITH(make({4, 8, 3}), "searched: 3 virtual stages; it places 1, or 2 in a V");
  REQUIRE_THROWS_WITH(make({4, 8, 2, {}, 1}),
                      "searched: at most 1 live chunks on a rank; 2 virtual stages need at least "
                      "2");
  REQUIRE_THROWS_WITH(make({4, 8, 1, {{PassDurations{}, PassDurations{}}}}),
                      "durations for 2 stages; expected one set, one for each of the 4 stages, or "
                      "one for each stage and each of 8 micro-batches");
}
