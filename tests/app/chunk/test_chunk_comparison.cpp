#include <algorithm>
#include <catch2/catch.hpp>

#include "app/chunk/chunk_comparison.hpp"
#include "launches.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

const std::vector<TraceRow> kRows = {launch(0, "attn(F)", "compute", "rope", 0, 2),
                                     launch(0, "attn(F)", "compute", "rope", 3, 4),
                                     launch(0, "attn(F)", "compute", "gemm_fp8", 8, 10),
                                     launch(1, "attn(F)", "compute", "rope", 20, 6),
                                     launch(0, "dispatch(F)", "comm", "ep_dispatch", 18, 20)};

const KernelGroup& of(const ChunkComparison& comparison, LaunchFamily family) {
  return comparison.families[static_cast<std::size_t>(family)];
}

}  // namespace

TEST_CASE("a chunk compared with itself has no error, whatever the order of rows", "[chunk]") {
  std::vector<TraceRow> other = kRows;
  std::reverse(other.begin(), other.end());
  const ChunkComparison comparison = compare_chunk(kRows, other);
  REQUIRE(comparison.predicted.time_us == comparison.measured.time_us);
  for (const auto& [op, group] : comparison.ops) {
    CAPTURE(op);
    REQUIRE(group.errors->worst == 0);
    REQUIRE(group.unmatched == 0);
  }
  REQUIRE(of(comparison, LaunchFamily::kAll).errors->rows == kRows.size());
}

TEST_CASE("kernels match by layer, phase, op and occurrence", "[chunk]") {
  std::vector<TraceRow> predicted = kRows;
  for (TraceRow& row : predicted) {
    if (row.op == "rope" && row.layer == 0 && row.start_us == 3) row.duration_us *= 1.5;
    if (row.op == "rope" && row.layer == 1) row.duration_us *= 0.75;
  }
  const ChunkComparison comparison = compare_chunk(predicted, kRows);
  // Errors of the three: 0, +50 %, -25 %.
  const ErrorSummary& rope = comparison.ops.at("rope").errors.value();
  REQUIRE(rope.rows == 3);
  REQUIRE(rope.median == Approx(0.25));
  REQUIRE(rope.worst == Approx(0.5));
  REQUIRE(rope.bias == Approx((0.5 - 0.25) / 3));
  REQUIRE(comparison.ops.at("gemm_fp8").errors->worst == 0);
}

TEST_CASE("a kernel that only one of two records has is off by 100 %", "[chunk]") {
  std::vector<TraceRow> fewer = kRows;
  fewer.erase(fewer.begin() + 1);
  // The second of layer 0 is missing: the first one matches, the other counts.
  for (const bool missing_in_prediction : {true, false}) {
    CAPTURE(missing_in_prediction);
    const ChunkComparison comparison =
        missing_in_prediction ? compare_chunk(fewer, kRows) : compare_chunk(kRows, fewer);
    const KernelGroup& rope = comparison.ops.at("rope");
    REQUIRE(rope.unmatched == 1);
    REQUIRE(rope.errors->rows == 3);
    REQUIRE(rope.errors->worst == 1);
    REQUIRE(rope.errors->median == 0);
    REQUIRE(of(comparison, LaunchFamily::kAll).unmatched == 1);
  }
}

TEST_CASE("what was measured as no time has no ratio and is counted apart", "[chunk]") {
  std::vector<TraceRow> measured = kRows;
  measured[0].duration_us = 0;
  const KernelGroup rope = compare_chunk(kRows, measured).ops.at("rope");
  REQUIRE(rope.unresolved == 1);
  REQUIRE(rope.unmatched == 0);
  REQUIRE(rope.errors->rows == 2);
}

TEST_CASE("a relative error is a ratio less 1", "[chunk]") {
  REQUIRE(relative_error(3, 2) == Approx(0.5));
  REQUIRE(relative_error(0, 2) == -1.0);
  REQUIRE(relative_error(0, 0) == 0.0);
  REQUIRE_FALSE(relative_error(1, 0).has_value());
}

TEST_CASE("every kernel belongs to one family", "[chunk]") {
  const auto family = [](const char* stream, const char* op) {
    return family_of(launch(0, "mlp(F)", stream, op, 0, 1));
  };
  REQUIRE(family("compute", "grouped_gemm_fp8") == LaunchFamily::kProductsAndAttention);
  REQUIRE(family("wgrad_side", "gemm_fp8_wgrad") == LaunchFamily::kProductsAndAttention);
  REQUIRE(family("compute", "gate_gemm_fwd") == LaunchFamily::kProductsAndAttention);
  REQUIRE(family("compute", "attention_bwd") == LaunchFamily::kProductsAndAttention);
  REQUIRE(family("compute", "attention_bwd_preprocess") == LaunchFamily::kMemoryBound);
  REQUIRE(family("compute", "cast_fp8_1x128") == LaunchFamily::kMemoryBound);
  REQUIRE(family("comm", "cast_fp8_1x128") == LaunchFamily::kExchange);
  REQUIRE(family("compute", "elementwise") == LaunchFamily::kElementwise);
  REQUIRE(family("comm", "ep_combine") == LaunchFamily::kExchange);
}
