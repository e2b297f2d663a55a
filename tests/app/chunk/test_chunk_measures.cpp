#include <algorithm>
#include <catch2/catch.hpp>
#include <vector>

#include "app/chunk/chunk_measures.hpp"
#include "base/random.hpp"
#include "launches.hpp"

using namespace pipecast;
using namespace pipecast::testing;

TEST_CASE("intervals cover each point once, in whatever order they come", "[chunk]") {
  REQUIRE(covered_us({}) == 0);
  REQUIRE(covered_us({{2, 5}}) == 3);
  REQUIRE(covered_us({{0, 1}, {2, 4}}) == 1 + 2);
  REQUIRE(covered_us({{0, 10}, {2, 3}, {4, 5}}) == 10);  // within another
  REQUIRE(covered_us({{3, 8}, {0, 5}}) == 8);            // overlapping
  REQUIRE(covered_us({{1, 2}, {0, 1}}) == 2);            // touching
  REQUIRE(covered_us({{1, 1}, {4, 4}}) == 0);            // no length
}

TEST_CASE("intervals cover what a naive raster counts", "[chunk][property]") {
  Random random(1, "intervals");
  constexpr std::size_t kEnd = 60;
  for (int round = 0; round < 200; ++round) {
    std::vector<BusyInterval> intervals;
    std::vector<bool> raster(kEnd, false);
    for (std::uint64_t i = random.below(12); i > 0; --i) {
      const std::size_t start = random.below(kEnd);
      const std::size_t end = start + random.below(kEnd - start + 1);
      intervals.push_back({static_cast<double>(start), static_cast<double>(end)});
      for (std::size_t t = start; t < end; ++t) raster[t] = true;
    }
    REQUIRE(covered_us(intervals) ==
            static_cast<double>(std::count(raster.begin(), raster.end(), true)));
  }
}

TEST_CASE("times of a phase are taken per layer, then summed", "[chunk]") {
  // Layer 0 from 0 to 10 with a pause of 4; layer 1 from 100 to 103.
  const ChunkMeasures m = measure_chunk({launch(0, "attn(F)", "compute", "rope", 0, 3),
                                         launch(0, "attn(F)", "compute", "topk", 7, 3),
                                         launch(1, "attn(F)", "compute", "rope", 100, 3)});
  const PhaseTimes& attention =
      m.phases[static_cast<std::size_t>(Phase::kAttentionForward)].value();
  REQUIRE(attention.time_us == 10 + 3);
  REQUIRE(attention.compute_us == 3 + 3 + 3);
  REQUIRE(attention.communication_us == 0);
  REQUIRE(attention.notify_us == 0);
  REQUIRE(m.time_us == 103);
  REQUIRE_FALSE(m.phases[static_cast<std::size_t>(Phase::kMlpForward)].has_value());
}

TEST_CASE("computation on two streams at a time counts once", "[chunk]") {
  const ChunkMeasures m =
      measure_chunk({launch(0, "mlp(W)", "compute", "gemm_fp8_wgrad", 0, 6),
                     launch(0, "mlp(W)", "wgrad_side", "gemm_fp8_wgrad", 2, 10)});
  REQUIRE(m.phases[static_cast<std::size_t>(Phase::kMlpWeight)]->compute_us == 12);
  REQUIRE(m.compute_busy_us == 12);
  REQUIRE(m.comm_busy_us == 0);
  REQUIRE(m.ops.at("gemm_fp8_wgrad").count == 2);
  REQUIRE(m.ops.at("gemm_fp8_wgrad").time_us == 6 + 10);
}

TEST_CASE("notify kernels are neither computation nor communication", "[chunk]") {
  const ChunkMeasures m = measure_chunk({launch(0, "combine(B)", "comm", "cast_fp8_1x128", 0, 2),
                                         launch(0, "combine(B)", "comm", "ep_cached_notify", 3, 5),
                                         launch(0, "combine(B)", "comm", "ep_dispatch", 8, 4)});
  const PhaseTimes& combine = m.phases[static_cast<std::size_t>(Phase::kCombineBackward)].value();
  REQUIRE(combine.time_us == 12);
  REQUIRE(combine.communication_us == 2 + 4);
  REQUIRE(combine.notify_us == 5);
  REQUIRE(combine.compute_us == 0);
  REQUIRE(m.comm_busy_us == 2 + 5 + 4);
}

TEST_CASE("an exchange on the compute stream is communication all the same", "[chunk]") {
  REQUIRE(role_of(launch(0, "dispatch(F)", "compute", "ep_dispatch", 0, 1)) ==
          LaunchRole::kCommunication);
  REQUIRE(role_of(launch(0, "dispatch(F)", "compute", "ep_notify", 0, 1)) == LaunchRole::kNotify);
  REQUIRE(role_of(launch(0, "combine(B)", "compute", "cast_fp8_1x128", 0, 1)) ==
          LaunchRole::kCompute);
}

TEST_CASE("communication is hidden while anything computes and exposed else", "[chunk]") {
  // Transfers 0..10 and 20..25; computation 4..8 and 24..30.
  const ChunkMeasures m = measure_chunk({launch(0, "dispatch(F)", "comm", "ep_dispatch", 0, 10),
                                         launch(0, "attn(F)", "compute", "rope", 4, 4),
                                         launch(0, "combine(F)", "comm", "ep_combine", 20, 5),
                                         launch(0, "attn(F)", "compute", "rope", 24, 6)});
  REQUIRE(m.hidden_communication_us == 4 + 1);
  REQUIRE(m.exposed_communication_us == 6 + 4);
  REQUIRE(m.computing_us == 4 + 6);
}
