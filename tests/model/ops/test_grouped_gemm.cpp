#include <array>
#include <catch2/catch.hpp>
#include <numeric>

#include "base/random.hpp"
#include "machines.hpp"
#include "model/operations/product_shapes.hpp"
#include "model/ops/grouped_gemm.hpp"

using namespace pipecast;
using namespace pipecast::testing;

namespace {

constexpr int kSms = 112;
constexpr std::int64_t kMostRows = 60'000;

using Loads = std::vector<std::int64_t>;

GpuSpec gpu() {
  GpuSpec out = round_gpu();
  out.sm_count = 132;
  out.l2_capacity = Bytes(20'000'000);
  return out;
}

CalibrationSpec calibration() {
  CalibrationSpec c = ideal_calibration();
  c.clock.loaded_ghz.value = 0.75;  // of 1 GHz
  c.clock.settling_us.value = 1'000;
  c.product.drain_cycles.value = 200;
  c.product.uneven_columns.value = 0.25;
  c.product.epilogue_cycles_fp8.value = 16;
  c.product.partial_row_cycles.value = 2;
  c.product.hbm.value = 0.9;
  c.product.launch_us.value = 3;
  return c;
}

GroupedGemm evaluator(std::int64_t n, std::int64_t k, std::int64_t groups) {
  return {{.n = n, .k = k, .groups = groups}, gpu(), calibration(), kSms, kMostRows};
}

Duration general(const Loads& rows, std::int64_t n, std::int64_t k) {
  return product_cost(contiguous_product(group_loads(rows), n, k), gpu(), calibration(), kSms).time;
}

std::int64_t sum(const Loads& rows) {
  return std::accumulate(rows.begin(), rows.end(), std::int64_t{0});
}

/// Loads from none to many times the mean.
Loads ragged(Random& random, std::size_t groups) {
  Loads rows(groups);
  for (std::int64_t& r : rows) {
    r = static_cast<std::int64_t>(random.below(1 + random.below(5'000)));
    if (random.below(4) == 0) r = 0;
  }
  return rows;
}

}  // namespace

TEST_CASE("loads are row blocks of 128 and bands of 16 blocks, group by group", "[grouped_gemm]") {
  const GroupLoads loads = group_loads(Loads{0, 1, 128, 129, 2'048, 2'049});
  REQUIRE(loads.groups == 6);
  REQUIRE(loads.with_rows == 5);
  REQUIRE(loads.rows == 1 + 128 + 129 + 2'048 + 2'049);
  REQUIRE(loads.blocks == 1 + 1 + 2 + 16 + 17);
  REQUIRE(loads.later_bands == 1);
}

TEST_CASE("balanced loads are those of a list as even as can be", "[grouped_gemm][property]") {
  const std::int64_t groups = GENERATE(1, 3, 8);
  const std::int64_t rows = GENERATE(0, 2, 8, 1'023, 1'024, 1'025, 40'000);
  Loads list(static_cast<std::size_t>(groups));
  for (std::int64_t i = 0; i < rows; ++i) list[static_cast<std::size_t>(i % groups)] += 1;
  const GroupLoads expected = group_loads(list);
  const GroupLoads balanced = balanced_loads(rows, groups);
  CAPTURE(groups, rows);
  REQUIRE(balanced.groups == expected.groups);
  REQUIRE(balanced.rows == expected.rows);
  REQUIRE(balanced.with_rows == expected.with_rows);
  REQUIRE(balanced.blocks == expected.blocks);
  REQUIRE(balanced.later_bands == expected.later_bands);
}

TEST_CASE("an evaluation equals the general model's time", "[grouped_gemm][property]") {
  // The second one's weights do not fit in L2 beside a band of rows.
  const auto [n, k] = GENERATE(table<std::int64_t, std::int64_t>({{4'096, 2'048}, {7'168, 4'000}}));
  const std::size_t groups = GENERATE(1u, 2u, 8u);
  const GroupedGemm gemm = evaluator(n, k, static_cast<std::int64_t>(groups));
  Random random(1, "test_grouped_gemm");
  for (int i = 0; i < 200; ++i) {
    const Loads rows = ragged(random, groups);
    if (sum(rows) == 0) continue;
    CAPTURE(n, k, rows);
    REQUIRE(gemm.time(rows) == general(rows, n, k));
  }
}

TEST_CASE("balanced loads take the time of the kernel", "[grouped_gemm][property]") {
  const std::int64_t groups = GENERATE(1, 4, 8);
  const std::int64_t rows = GENERATE(1, 128, 129, 4'096, 5'000);
  const GroupedGemm gemm = evaluator(4'096, 7'168, groups);
  CAPTURE(groups, rows);
  const Operation op = product_operation("grouped_gemm_fp8", groups * rows, 4'096, 7'168, groups);
  const Loads balanced(static_cast<std::size_t>(groups), rows);
  REQUIRE(gemm.time(balanced) == kernel_cost(op, gpu(), calibration(), kSms).time);
}

TEST_CASE("rows that do not divide are spread as evenly as they can", "[grouped_gemm]") {
  // 128 rows a group and three more: three groups need a second block. Six rows leave two groups
  // without any, whose weights nobody reads.
  const GroupedGemm gemm = evaluator(4'096, 7'168, 8);
  const auto kernel = [&](std::int64_t rows) {
    const Operation op = product_operation("grouped_gemm_fp8", rows, 4'096, 7'168, 8);
    return kernel_cost(op, gpu(), calibration(), kSms).time;
  };
  REQUIRE(gemm.time(Loads{129, 129, 129, 128, 128, 128, 128, 128}) == kernel(8 * 128 + 3));
  REQUIRE(gemm.time(Loads{1, 1, 1, 1, 1, 1, 0, 0}) == kernel(6));
}

TEST_CASE("options change an evaluation as they change the model", "[grouped_gemm]") {
  const ProductOptions options{.promotion = false};
  const GroupedGemm gemm({.n = 4'096, .k = 7'168, .groups = 4, .options = options}, gpu(),
                         calibration(), kSms, kMostRows);
  const Loads rows = {4'096, 100, 0, 9'000};
  Product product = contiguous_product(group_loads(rows), 4'096, 7'168);
  product.options = options;
  REQUIRE(gemm.time(rows) == product_cost(product, gpu(), calibration(), kSms).time);
  REQUIRE(gemm.time(rows) < evaluator(4'096, 7'168, 4).time(rows));
}

TEST_CASE("at a fixed tile, time never falls with a block of rows more",
          "[grouped_gemm][property]") {
  const ProductOptions fixed{.block_m = 128, .block_n = 128};
  const GroupedGemm gemm({.n = 7'168, .k = 4'000, .groups = 8, .options = fixed}, gpu(),
                         calibration(), kSms, kMostRows);
  Random random(2, "test_grouped_gemm");
  for (int i = 0; i < 300; ++i) {
    Loads rows = ragged(random, 8);
    const Duration before = gemm.time(rows);
    CAPTURE(rows);
    rows[random.below(8)] += kPaddedRows;
    REQUIRE(gemm.time(rows) + picoseconds(1) >= before);
  }
}

TEST_CASE("only blocks of rows and groups with rows count", "[grouped_gemm]") {
  const GroupedGemm gemm = evaluator(4'096, 7'168, 4);
  // Any order, and any number of rows in the last block.
  REQUIRE(gemm.time(Loads{300, 0, 128, 1}) == gemm.time(Loads{1, 384, 0, 100}));
  // As many blocks in fewer groups: the same tiles, fewer weights.
  REQUIRE(gemm.time(Loads{512, 0, 0, 0}) < gemm.time(Loads{128, 128, 128, 128}));
}

TEST_CASE("groups without a row take the launch alone", "[grouped_gemm]") {
  REQUIRE(evaluator(4'096, 7'168, 4).time(Loads{0, 0, 0, 0}) == microseconds(3));
  REQUIRE(evaluator(4'096, 7'168, 1).time(Loads{0}) == microseconds(3));
}

TEST_CASE("all padded rows up to the most can be asked for", "[grouped_gemm]") {
  const GroupedGemm gemm({.n = 512, .k = 512, .groups = 2}, gpu(), calibration(), kSms, 1'000);
  // 1,000 rows round up to eight blocks.
  REQUIRE(gemm.time(Loads{1'024, 0}) == general({1'024, 0}, 512, 512));
}

TEST_CASE("grouped products that cannot be are refused", "[grouped_gemm]") {
  const auto make = [](GroupedGemm::Shape shape, const GpuSpec& on) {
    return GroupedGemm(shape, on, calibration(), kSms, 1'000);
  };
  REQUIRE_THROWS_WITH(make({.n = 0, .k = 2, .groups = 3}, gpu()),
                      "grouped_gemm_fp8: extents must be positive: n=0 k=2 groups=3");
  GpuSpec a100 = gpu();
  a100.name = "a100";
  a100.fp8_flop_per_clock_per_sm = 0;
  REQUIRE_THROWS_WITH(make({.n = 1, .k = 2, .groups = 3}, a100),
                      "a100 has no fp8 tensor cores; set plan.precision.gemm to bf16");
}
