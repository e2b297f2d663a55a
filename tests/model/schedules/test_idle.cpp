#include <catch2/catch.hpp>
#include <random>

#include "model/schedules/idle.hpp"

using namespace pipecast;

namespace {

Schedule make(const char* kind, int ranks, int microbatches) {
  return Registry<ScheduleKind>::instance().find(kind).make({ranks, microbatches});
}

constexpr PassDurations kTicks{.forward = Duration(10),
                               .backward = Duration(30),
                               .backward_input = Duration(18),
                               .backward_weight = Duration(12),
                               .overlapped = Duration(34)};

std::vector<IdleTime> classified(const Schedule& schedule, const ScheduleCosts& costs) {
  return classify_idle(schedule, costs, time_schedule(schedule, costs));
}

}  // namespace

TEST_CASE("both divisions of idle time sum to the bubble", "[schedule][property]") {
  const char* const kind = GENERATE("1f1b", "dualpipe");
  const int ranks = GENERATE(2, 4, 8);
  std::mt19937 random(static_cast<unsigned>(ranks));
  ScheduleCosts costs{.transfer_latency = Duration(3), .transfer_time = Duration(2)};
  for (int stage = 0; stage < ranks; ++stage) {
    const auto ticks = [&] { return Duration(1 + static_cast<int>(random() % 50)); };
    costs.passes.push_back({ticks(), ticks(), ticks(), ticks(), ticks()});
  }
  const Schedule schedule = make(kind, ranks, 2 * ranks);
  const ScheduleTiming timing = time_schedule(schedule, costs);
  const std::vector<IdleTime> idle = classify_idle(schedule, costs, timing);
  for (std::size_t rank = 0; rank < idle.size(); ++rank) {
    const IdleTime& t = idle[rank];
    REQUIRE(t.warm_up + t.steady + t.drain == timing.bubble[rank]);
    REQUIRE(t.dependency + t.imbalance + t.transfer == timing.bubble[rank]);
    const std::vector<StepTime>& steps = timing.steps[rank];
    const Duration outside = (steps.front().start - Time{}) + (timing.makespan - steps.back().end);
    REQUIRE(t.inside == timing.bubble[rank] - outside);
    REQUIRE(std::min({t.warm_up, t.steady, t.drain}) >= Duration{});
  }
}

TEST_CASE("1f1b with equal stages and free transfers idles for dependencies alone", "[schedule]") {
  const int ranks = 4;
  const std::vector<IdleTime> idle = classified(make("1f1b", ranks, 8), {.passes = {kTicks}});
  for (int rank = 0; rank < ranks; ++rank) {
    const IdleTime& t = idle[static_cast<std::size_t>(rank)];
    // It waits for its first activation, and then for the backwards of later ranks.
    REQUIRE(t.warm_up == Duration(10 * rank + 30 * (ranks - 1 - rank)));
    REQUIRE(t.steady == Duration{});
    // Its last backwards come a forward's time apart, and then those of earlier ranks run.
    REQUIRE(t.drain == Duration(10 * (ranks - 1 - rank) + 30 * rank));
    REQUIRE(t.imbalance == Duration{});
    REQUIRE(t.transfer == Duration{});
  }
}

TEST_CASE("a slow stage makes the others idle for imbalance", "[schedule]") {
  ScheduleCosts costs{.passes = std::vector<PassDurations>(4, kTicks)};
  costs.passes[3].forward = costs.passes[3].forward * 2;
  costs.passes[3].backward = costs.passes[3].backward * 2;
  const int microbatches = 400;
  const std::vector<IdleTime> idle = classified(make("1f1b", 4, microbatches), costs);
  // The slow stage sets the pace; an equal pipeline would do with the mean.
  const std::int64_t pace = 2 * (10 + 30);
  const std::int64_t slack = (pace - (10 + 30)) * microbatches;
  for (std::size_t rank = 0; rank < 3; ++rank) {
    REQUIRE(static_cast<double>(idle[rank].imbalance.count()) ==
            Approx(static_cast<double>(slack)).epsilon(0.02));
  }
}

TEST_CASE("transfers are blamed for what they add", "[schedule]") {
  const Duration latency(7);
  const std::vector<IdleTime> idle =
      classified(make("1f1b", 4, 1), {.passes = {kTicks}, .transfer_latency = latency});
  for (const IdleTime& t : idle) {
    // One micro-batch: there and back over three hops.
    REQUIRE(t.transfer == latency * 6);
    REQUIRE(t.dependency == Duration(3 * (10 + 30)));
  }
}
