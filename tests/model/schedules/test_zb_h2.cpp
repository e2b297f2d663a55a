#include <catch2/catch.hpp>

#include "kinds.hpp"
#include "model/schedules/checker.hpp"
#include "model/schedules/live_chunks.hpp"

using namespace pipecast;

TEST_CASE("zb-h2 keeps 2(p-r)-1 micro-batches and the operands of 2r weight gradients",
          "[schedule][property]") {
  const int ranks = GENERATE(1, 2, 3, 8, 17, 64);
  const int microbatches = GENERATE(1, 2, 7, 17, 64, 150);
  CAPTURE(ranks, microbatches);
  const Schedule schedule = kind("zb-h2").make({ranks, microbatches});
  REQUIRE(check_schedule(schedule) == std::nullopt);
  // Rank 0 cannot hand its 2p-th forward to a rank that waits to hand back its first gradient.
  REQUIRE(find_blocking_deadlock(schedule).has_value() == (ranks > 1 && microbatches >= 2 * ranks));
  const std::vector<int> chunks = peak_live_activations(schedule);
  // Table 2 of Qi et al.: (2(p-r)-1) M_B + 2r M_W on rank r.
  const StageBytes stage{.activations = Bytes(1'000), .weight_operands = Bytes(1)};
  const std::vector<Bytes> bytes = peak_live_bytes(schedule, {stage});
  for (int rank = 0; rank < ranks; ++rank) {
    const auto r = static_cast<std::size_t>(rank);
    REQUIRE(chunks[r] == std::min(2 * (ranks - rank) - 1, microbatches));
    if (microbatches >= 2 * ranks - 1) {
      REQUIRE(bytes[r] ==
              (2 * (ranks - rank) - 1) * stage.activations + 2 * rank * stage.weight_operands);
    }
  }
}

TEST_CASE("zb-h2 idles (p-1)(F+Bi-2W) on rank 0 between its first and its last step",
          "[schedule][property]") {
  const int ranks = GENERATE(1, 2, 3, 8, 17, 64);
  const int more = GENERATE(0, 1, 13, 40);
  CAPTURE(ranks, more);
  const PipelineShape shape{ranks, 2 * ranks - 1 + more};
  const Schedule schedule = kind("zb-h2").make(shape);
  RandomDurations random(1);
  for (int i = 0; i < 12; ++i) {
    const PassDurations d = random.next();
    const ScheduleTiming timing = time_schedule(schedule, {{d}});
    const Duration unit = d.forward + d.backward_input - d.backward_weight * 2;
    REQUIRE(published("zb-h2", shape, d) == unit * (ranks - 1));
    if (d.backward_weight <= d.forward && unit >= Duration{}) {
      REQUIRE(idle_within(timing, 0) == published("zb-h2", shape, d));
    }
    // In general: what rank 0 waits for its first Bi, if nothing else is longer.
    const Duration wait = d.backward_input - d.forward;
    for (int rank = 0; rank < ranks; ++rank) {
      REQUIRE(idle_within(timing, static_cast<std::size_t>(rank)) ==
              std::max({Duration{}, wait, unit}) * (ranks - 1 - rank));
    }
    // Ranks begin one F after each other, which makespan less busy time counts.
    for (const Duration idle : timing.bubble) {
      REQUIRE(idle == std::max({d.forward, wait, unit}) * (ranks - 1));
    }
  }
}

TEST_CASE("zb-h2 has no bubble where F, Bi and W are equal", "[schedule]") {
  const PassDurations equal{
      .forward = Duration(7), .backward_input = Duration(7), .backward_weight = Duration(7)};
  const ScheduleTiming timing = time_schedule(kind("zb-h2").make({8, 15}), {{equal}});
  for (std::size_t rank = 0; rank < 8; ++rank) {
    REQUIRE(idle_within(timing, rank) == Duration{});
    REQUIRE(timing.finish[rank] == Time{} + Duration(7) * static_cast<std::int64_t>(rank + 3 * 15));
  }
}

TEST_CASE("zb-h2 says what shape it needs", "[schedule]") {
  REQUIRE_THROWS_AS(kind("zb-h2").make({0, 4}), ImpossiblePlan);
  REQUIRE_THROWS_WITH(kind("zb-h2").make({4, 0}),
                      "zb-h2: 0 micro-batches on 4 ranks; it needs at least one of each");
}
