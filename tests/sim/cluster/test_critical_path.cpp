#include <catch2/catch.hpp>

#include "playable_step.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

const VariationSpec kVariations[] = {
    {},                                                                // late arrivals
    {.speed_deviation = 0.03, .late_arrivals = 0},                     //
    {.jitter = 0.1, .late_arrivals = 0},                               //
    {.stragglers = 3, .straggler_slowness = 1.4, .late_arrivals = 0},  //
    {.speed_deviation = 0.02, .jitter = 0.05, .stragglers = 1, .straggler_slowness = 1.3},
};

Duration time_on(const StepTimes& times, int rank) {
  Duration out;
  for (const CriticalShare& share : times.critical_path) {
    if (share.pipeline_rank == rank) out += share.time;
  }
  return out;
}

Duration time_of(const StepTimes& times, const std::string& operation) {
  Duration out;
  for (const CriticalShare& share : times.critical_path) {
    if (share.operation == operation) out += share.time;
  }
  return out;
}

void require_sums_up(const StepTimes& times) {
  Duration all;
  for (std::size_t i = 0; i < times.critical_path.size(); ++i) {
    const CriticalShare& share = times.critical_path[i];
    REQUIRE(share.time > Duration());
    REQUIRE_FALSE(share.operation.empty());
    REQUIRE_FALSE(share.resource.empty());
    REQUIRE(
        (share.pipeline_rank >= 0 && share.pipeline_rank < static_cast<int>(times.ranks.size())));
    if (i > 0) REQUIRE(share.time <= times.critical_path[i - 1].time);
    all += share.time;
  }
  REQUIRE(all == times.time);
}

/// Pipeline rank of the only straggler.
int straggling_rank(const PlayableStep& step, const VariationSpec& variation, std::uint64_t seed) {
  Scenario s = step.scenario;
  s.variation = variation;
  for (int column = 0; column < s.data_parallel() / s.plan.ep; ++column) {
    const GpuConditions conditions(s, s.plan, step.plan, step.conditions(seed), column);
    for (int rank = 0; rank < step.plan.ranks(); ++rank) {
      for (int index = 0; index < conditions.group_size(); ++index) {
        if (conditions.chunk(rank, index, 0, nullptr).slowness > 1) return rank;
      }
    }
  }
  FAIL("no straggler");
  return 0;
}

}  // namespace

TEST_CASE("the critical path sums to the step's time, whatever makes GPUs differ",
          "[critical_path][property]") {
  const auto* const schedule = GENERATE("dualpipe", "1f1b");
  const auto* const ep = GENERATE("plan.ep=16", "plan.ep=4");
  std::vector<std::string> sets = dirichlet("5");
  sets.emplace_back(ep);
  const PlayableStep step(tiny(sets), schedule);
  for (const VariationSpec& variation : kVariations) {
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
      CAPTURE(schedule, ep, seed);
      require_sums_up(step.play_with(variation, seed));
    }
  }
}

TEST_CASE("the critical path blames the straggler's rank", "[critical_path][straggler]") {
  const auto* const schedule = GENERATE("dualpipe", "1f1b");
  const std::uint64_t seed = GENERATE(1U, 2U, 3U, 4U);
  const PlayableStep step(tiny(), schedule);
  const VariationSpec slow{.stragglers = 1, .straggler_slowness = 3, .late_arrivals = 0};
  const int rank = straggling_rank(step, slow, seed);
  const StepTimes alike = step.play_with(kAlike, seed);
  const StepTimes times = step.play_with(slow, seed);
  CAPTURE(schedule, seed, rank);
  require_sums_up(times);
  // What the step is longer by is spent there, and most of all of it.
  REQUIRE(time_on(times, rank) - time_on(alike, rank) >= times.time - alike.time);
  REQUIRE(2 * time_on(times, rank).count() > times.time.count());
}

TEST_CASE("late arrivals are on the critical path where GPUs are late, and only there",
          "[critical_path]") {
  const PlayableStep step(tiny());
  REQUIRE(time_of(step.play_with(kAlike), "late_arrival") == Duration());
  const Duration once = time_of(step.play_with({.late_arrivals = 1}), "late_arrival");
  REQUIRE(once > Duration());
  REQUIRE(time_of(step.play_with({.late_arrivals = 4}), "late_arrival") > once);
}

TEST_CASE("a step without need of an explanation is the same step", "[critical_path]") {
  const PlayableStep step(tiny(dirichlet("5")));
  StepConditions conditions = step.conditions();
  conditions.explain = false;
  const StepTimes times =
      simulate_step(step.scenario, step.scenario.plan, step.plan, step.schedule, conditions);
  REQUIRE(times.critical_path.empty());
  REQUIRE(times.time == step.play().time);
}
