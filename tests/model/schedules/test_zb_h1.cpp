#include <catch2/catch.hpp>

#include "kinds.hpp"
#include "model/schedules/checker.hpp"
#include "model/schedules/live_chunks.hpp"

using namespace pipecast;

TEST_CASE("zb-h1 keeps the memory of 1f1b, weight gradients' operands included",
          "[schedule][property]") {
  const int ranks = GENERATE(1, 2, 3, 8, 17, 64);
  const int microbatches = GENERATE(1, 2, 7, 17, 64, 100);
  CAPTURE(ranks, microbatches);
  const Schedule schedule = kind("zb-h1").make({ranks, microbatches});
  REQUIRE(check_schedule(schedule) == std::nullopt);
  REQUIRE(find_blocking_deadlock(schedule) == std::nullopt);
  const std::vector<int> chunks = peak_live_activations(schedule);
  // Table 2 of Qi et al.: (p-r) M_B + r M_W on rank r.
  const StageBytes stage{.activations = Bytes(1'000), .weight_operands = Bytes(1)};
  const std::vector<Bytes> bytes = peak_live_bytes(schedule, {stage});
  for (int rank = 0; rank < ranks; ++rank) {
    const auto r = static_cast<std::size_t>(rank);
    REQUIRE(chunks[r] == std::min(ranks - rank, microbatches));
    if (microbatches >= ranks) {
      REQUIRE(bytes[r] == (ranks - rank) * stage.activations + rank * stage.weight_operands);
    }
  }
}

TEST_CASE("zb-h1 idles (p-1)(F+Bi-W) where W is the shortest, in general (p-1)max(F, Bi, F+Bi-W)",
          "[schedule][property]") {
  const int ranks = GENERATE(1, 2, 3, 8, 17, 64);
  const int more = GENERATE(0, 1, 13, 40);  // the formula needs at least as many as ranks
  CAPTURE(ranks, more);
  const PipelineShape shape{ranks, ranks + more};
  const Schedule schedule = kind("zb-h1").make(shape);
  RandomDurations random(1);
  for (int i = 0; i < 12; ++i) {
    const PassDurations d = random.next();
    const ScheduleTiming timing = time_schedule(schedule, {{d}});
    const Duration formula = published("zb-h1", shape, d);
    REQUIRE(formula == (d.forward + d.backward_input - d.backward_weight) * (ranks - 1));
    // DeepSeek's notation: (PP-1)(F+B-2W).
    REQUIRE(formula == (d.forward + d.backward - d.backward_weight * 2) * (ranks - 1));
    const Duration longer = std::max(d.forward, d.backward_input) * (ranks - 1);
    for (const Duration idle : timing.bubble) REQUIRE(idle == std::max(formula, longer));
    const bool shortest = d.backward_weight <= std::min(d.forward, d.backward_input);
    if (shortest) REQUIRE(timing.bubble.front() == formula);
  }
}

TEST_CASE("zb-h1 idles a third of 1f1b where F, Bi and W are equal", "[schedule]") {
  const PassDurations equal{.forward = Duration(7),
                            .backward = Duration(14),
                            .backward_input = Duration(7),
                            .backward_weight = Duration(7)};
  const auto bubble = [&](const char* name) {
    return time_schedule(kind(name).make({8, 24}), {{equal}}).bubble;
  };
  for (std::size_t rank = 0; rank < 8; ++rank) {
    REQUIRE(bubble("1f1b")[rank] == bubble("zb-h1")[rank] * 3);
  }
}

TEST_CASE("zb-h1 says what shape it needs", "[schedule]") {
  REQUIRE_THROWS_AS(kind("zb-h1").make({0, 4}), ImpossiblePlan);
  REQUIRE_THROWS_WITH(kind("zb-h1").make({4, 0}),
                      "zb-h1: 0 micro-batches on 4 ranks; it needs at least one of each");
}
