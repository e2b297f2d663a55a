#include <catch2/catch.hpp>

#include "model/schedules/live_chunks.hpp"
#include "model/schedules/text.hpp"
#include "model/schedules/timing.hpp"

using namespace pipecast;

namespace {

constexpr PassDurations kDurations{.forward = Duration(10),
                                   .backward = Duration(30),
                                   .backward_input = Duration(18),
                                   .backward_weight = Duration(12),
                                   .overlapped = Duration(34)};

ScheduleTiming time_text(const char* text, Duration latency = {}) {
  return time_schedule(parse_schedule(text, "test"), {{kDurations}, latency});
}

}  // namespace

TEST_CASE("a transfer is paid between ranks, there and back", "[schedule]") {
  const Duration latency(GENERATE(0, 1, 7));
  const auto timing = time_text("rank 0: F0.0 B0.0\nrank 1: F0.0 B0.0\n", latency);
  REQUIRE(timing.steps[1][0].start == Time(10) + latency);
  REQUIRE(timing.steps[0][1].start == Time(10 + 10 + 30) + latency * 2);
  REQUIRE(timing.makespan == Time(10 + 10 + 30 + 30) + latency * 2);
  REQUIRE(timing.bubble == std::vector<Duration>(2, timing.makespan - Time(10 + 30)));
}

TEST_CASE("the input gradient leaves before the weight gradient is made", "[schedule]") {
  const auto timing = time_text("rank 0: F0.0 Bi0.0 W0.0\nrank 1: F0.0 Bi0.0 W0.0\n");
  REQUIRE(timing.steps[0][1].start == timing.steps[1][1].end);
  REQUIRE(timing.makespan == Time(10 + 10 + 18 + 18 + 12));
}

TEST_CASE("a pair starts when both inputs are there and counts as two live chunks", "[schedule]") {
  const auto timing = time_text("rank 0: F0.0 F0.1&B0.0 B0.1\n");
  REQUIRE(timing.steps[0][1].start == Time(10));
  REQUIRE(timing.steps[0][1].end == Time(10 + 34));
  REQUIRE(timing.peak_live_activations == std::vector<int>{2});
}

TEST_CASE("a chunk lives until its Bi, not its W", "[schedule]") {
  const auto timing = time_text("rank 0: F0.0 Bi0.0 F0.1 Bi0.1 W0.0 W0.1\n");
  REQUIRE(timing.peak_live_activations == std::vector<int>{1});
}

TEST_CASE("stages may differ; a pair of two stages takes the mean, rounded up", "[schedule]") {
  PassDurations slow = kDurations;
  slow.forward = Duration(100);
  slow.overlapped = Duration(41);
  const ScheduleCosts costs{{kDurations, slow}, Duration{}};
  const auto plain = parse_schedule("rank 0: F0.0 B0.0\nrank 1: F0.0 B0.0\n", "test");
  REQUIRE(time_schedule(plain, costs).makespan == Time(10 + 100 + 30 + 30));
  const auto pair = parse_schedule(
      "rank 0: F0.0 F1.0 B1.0 F0.1&B0.0 B0.1\nrank 1: F1.0 F0.0 B0.0 F0.1 B1.0 B0.1\n", "test");
  const auto steps = time_schedule(pair, costs).steps;
  REQUIRE(steps[0][3].end - steps[0][3].start == Duration(34));  // both halves are of stage 0
  const auto mixed = parse_schedule(
      "rank 0: F0.0 F1.0 F0.1&B1.0 B0.0 B0.1\nrank 1: F1.0 F0.0 B0.0 F0.1 B1.0 B0.1\n", "test");
  const auto mixed_steps = time_schedule(mixed, costs).steps;
  REQUIRE(mixed_steps[0][2].end - mixed_steps[0][2].start == Duration((34 + 41 + 1) / 2));
  REQUIRE_THROWS_WITH(
      time_schedule(plain, {{kDurations, kDurations, kDurations}, Duration{}}),
      "durations for 3 stages; expected one set, one for each of the 2 stages, or one "
      "for each stage and each of 1 micro-batches");
}

TEST_CASE("micro-batches may differ too", "[schedule]") {
  const auto plain =
      parse_schedule("rank 0: F0.0 F0.1 B0.0 B0.1\nrank 1: F0.0 B0.0 F0.1 B0.1\n", "test");
  std::vector<PassDurations> passes(4, kDurations);
  passes[1].forward = Duration(100);   // stage 0, micro-batch 1
  passes[2].backward = Duration(200);  // stage 1, micro-batch 0
  const auto steps = time_schedule(plain, {passes}).steps;
  const auto length = [&](std::size_t rank, std::size_t i) {
    return steps[rank][i].end - steps[rank][i].start;
  };
  REQUIRE(length(0, 1) == Duration(100));
  REQUIRE(length(1, 1) == Duration(200));
  REQUIRE(length(0, 0) == Duration(10));
  REQUIRE(length(1, 3) == Duration(30));
}

TEST_CASE("results share the link between two ranks one after the other", "[schedule]") {
  const auto timing =
      time_schedule(parse_schedule("rank 0: F0.0 F0.1 F0.2\nrank 1: F0.0 F0.1 F0.2\n", "test"),
                    {{kDurations}, Duration(5), Duration(25)});
  // A forward takes 10, its result 25 on the link and 5 until it can be used.
  REQUIRE(timing.steps[1][0].start == Time(10 + 25 + 5));
  REQUIRE(timing.steps[1][1].start == Time(10 + 2 * 25 + 5));
  REQUIRE(timing.steps[1][2].start == Time(10 + 3 * 25 + 5));
}

TEST_CASE("a chunk on the same rank needs no transfer", "[schedule]") {
  const auto v =
      parse_schedule("rank 0: F0.0 F1.0 B1.0 B0.0\nrank 1: F0.0 F1.0 B1.0 B0.0\n", "test");
  const Duration latency(7);
  const auto timing = time_schedule(v, {{kDurations}, latency});
  REQUIRE(timing.steps[1][1].start == timing.steps[1][0].end);
  REQUIRE(timing.makespan == Time(4 * 10 + 4 * 30) + latency * 4);
}

TEST_CASE("kept bytes follow the chunks", "[schedule]") {
  const auto one = parse_schedule("rank 0: F0.0 Bi0.0 F0.1 Bi0.1 W0.0 W0.1\n", "test");
  REQUIRE(peak_live_bytes(one, {{Bytes(100), Bytes(7)}}) == std::vector<Bytes>{Bytes(107)});
  REQUIRE(peak_live_bytes(one, {{Bytes(5), Bytes(7)}}) == std::vector<Bytes>{Bytes(14)});
  const auto both =
      parse_schedule("rank 0: F0.0 F1.0 B1.0 B0.0\nrank 1: F1.0 F0.0 B0.0 B1.0\n", "test");
  REQUIRE(peak_live_bytes(both, {{Bytes(1), {}}, {Bytes(10), {}}}) ==
          std::vector<Bytes>(2, Bytes(11)));
}

TEST_CASE("a locked schedule names the first rank and step that wait forever", "[schedule]") {
  const auto locked =
      parse_schedule("rank 0: F0.0 B0.0 F0.1 B0.1\nrank 1: F0.0 F0.1 B0.0 B0.1\n", "test");
  const std::string expected = "the schedule cannot run: rank 0 waits forever to start B0.0";
  REQUIRE(find_deadlock(locked) == expected);
  REQUIRE_THROWS_AS(time_schedule(locked, {{kDurations}, Duration{}}), ImpossiblePlan);
  REQUIRE_THROWS_WITH(time_schedule(locked, {{kDurations}, Duration{}}), expected);
}
