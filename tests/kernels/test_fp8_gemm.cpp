#include <catch2/catch.hpp>
#include <vector>

#include "fp8_products.hpp"
#include "kernels/gemm/fp8_gemm.hpp"
#include "kernels/simt/device_error.hpp"
#include "run.hpp"

namespace pipecast::kernels {
namespace {

using namespace testing;
using Catch::Matchers::Contains;

constexpr double kBf16Half = 0x1p-8;  // half of the last place, relative: 8 significant bits

// Vectors are compared inside of two parentheses, as a bool: Catch takes minutes to print long
// ones.

/// Operands of a product of `groups` right sides. Rows of A are sorted by group.
struct Operands {
  int m;
  int n;
  int k;
  int groups = 1;
  Buffer<E4m3> a = random_codes(area(m, k), 1);
  Buffer<E4m3> b = random_codes(area(groups * n, k), 2);
  Buffer<float> a_scale = random_scales(area(blocks(), m), 3);
  Buffer<float> b_scale = random_scales(area(groups * column_blocks(), blocks()), 4);

  int blocks() const { return ceil_div(k, kScaleDepth); }
  int column_blocks() const { return ceil_div(n, kScaleDepth); }
  float scale(int row, int group, int column, int block) const {
    const int b_row = group * column_blocks() + column / kScaleDepth;
    return a_scale[area(block, m) + static_cast<std::size_t>(row)] *
           b_scale[area(b_row, blocks()) + static_cast<std::size_t>(block)];
  }
};

/// Result in BF16 of every row of A with the right side of its group; where the group is negative,
/// the 0xffff that buffers start with.
std::vector<std::uint16_t> expected_bits(const Operands& p, const std::vector<int>& row_group) {
  const auto left = unpack_rows(p.a.data(), p.m, p.k);
  const auto right = unpack_rows(p.b.data(), p.groups * p.n, p.k);
  std::vector<std::uint16_t> bits(area(p.m, p.n), 0xffff);
  for (int row = 0; row < p.m; ++row) {
    const int group = row_group[static_cast<std::size_t>(row)];
    if (group < 0) continue;
    for (int column = 0; column < p.n; ++column) {
      const auto scale = [&](int block) { return p.scale(row, group, column, block); };
      const std::size_t b = static_cast<std::size_t>(group * p.n + column);
      bits[area(row, p.n) + static_cast<std::size_t>(column)] =
          to_bf16(promoted_sum(left[static_cast<std::size_t>(row)], right[b], scale)).bits;
    }
  }
  return bits;
}
std::vector<std::uint16_t> expected_bits(const Operands& p) {
  return expected_bits(p, std::vector<int>(static_cast<std::size_t>(p.m), 0));
}

std::vector<std::uint16_t> bits_of(const Buffer<Bf16>& values) {
  std::vector<std::uint16_t> bits;
  for (const Bf16 value : values) bits.push_back(value.bits);
  return bits;
}

Fp8Gemm problem(const Operands& p, Buffer<Bf16>& d) {
  return {p.a.data(), p.b.data(), p.a_scale.data(), p.b_scale.data(), d.data(), p.m, p.n, p.k,
          0,          0};
}

}  // namespace

TEST_CASE("an FP8 GEMM is bit for bit a loop over the tensor core's arithmetic, in any order",
          "[fp8_gemm]") {
  const auto [m, n, k] =
      GENERATE(std::tuple{128, 128, 512}, std::tuple{1, 16, 16}, std::tuple{200, 144, 272},
               // More steps along K than the ring has stages, and more rows than a band of tiles.
               std::tuple{65, 16, 1152}, std::tuple{129, 272, 128}, std::tuple{2177, 144, 16});
  const int block_m = GENERATE(0, 64, 128);
  if (m > 2000 && block_m == 64) return;  // nothing that the other heights leave out
  CAPTURE(m, n, k, block_m);
  const Operands operands{m, n, k};
  const auto expected = expected_bits(operands);
  in_every_order([&] {
    Buffer<Bf16> d(area(m, n));
    Fp8Gemm gemm = problem(operands, d);
    gemm.block_m = block_m;
    gemm_fp8(gemm);
    synchronise();
    REQUIRE((bits_of(d) == expected));
  });
}

TEST_CASE("an FP8 GEMM is near the FP64 product of its codes", "[fp8_gemm]") {
  const auto [m, n, k] = GENERATE(std::tuple{64, 48, 4096}, std::tuple{70, 144, 400});
  CAPTURE(m, n, k);
  const Operands operands{m, n, k};
  Buffer<Bf16> d(area(m, n));
  gemm_fp8(problem(operands, d));
  synchronise();
  const reference::Matrix expected = reference::scaled_product(
      codes_of(operands.a, m, k), scales_by_block(operands.a_scale, m, operands.blocks()),
      reference::kActivationBlock, codes_of(operands.b, n, k),
      matrix_of(
          operands.column_blocks(), operands.blocks(),
          [&](int row, int block) {
            return operands.b_scale[area(row, operands.blocks()) + static_cast<std::size_t>(block)];
          }),
      reference::kWeightBlock);
  const auto left = unpack_rows(operands.a.data(), m, k);
  const auto right = unpack_rows(operands.b.data(), n, k);
  for (int row = 0; row < m; ++row) {
    for (int column = 0; column < n; ++column) {
      const double bound =
          exact_sum(left[static_cast<std::size_t>(row)], right[static_cast<std::size_t>(column)],
                    [&](int block) { return operands.scale(row, 0, column, block); })
              .bound;
      const auto actual =
          static_cast<double>(to_float(d[area(row, n) + static_cast<std::size_t>(column)]));
      const double rounding = kBf16Half * (std::abs(expected(row, column)) + bound);
      REQUIRE(std::abs(actual - expected(row, column)) <= bound + rounding);
    }
  }
}

TEST_CASE("how many SMs compute an FP8 GEMM does not change a bit", "[fp8_gemm]") {
  const int sms = GENERATE(1, 3, 132);
  CAPTURE(sms);
  const Operands operands{300, 272, 256};
  Buffer<Bf16> d(area(operands.m, operands.n));
  Fp8Gemm gemm = problem(operands, d);
  gemm.sms = sms;
  gemm_fp8(gemm);
  synchronise();
  REQUIRE((bits_of(d) == expected_bits(operands)));
}

TEST_CASE("a NaN in an operand of an FP8 GEMM fills its row or column and nothing else",
          "[fp8_gemm]") {
  const int block_m = GENERATE(64, 128);
  const int nan_row = 77;
  const int nan_column = 130;
  Operands operands{130, 144, 256};
  operands.a[area(nan_row, operands.k) + 200] = E4m3{0x7f};
  operands.b[area(nan_column, operands.k) + 3] = E4m3{0xff};
  in_every_order([&] {
    Buffer<Bf16> d(area(operands.m, operands.n));
    Fp8Gemm gemm = problem(operands, d);
    gemm.block_m = block_m;
    gemm_fp8(gemm);
    synchronise();
    for (int row = 0; row < operands.m; ++row) {
      for (int column = 0; column < operands.n; ++column) {
        const float value = to_float(d[area(row, operands.n) + static_cast<std::size_t>(column)]);
        CAPTURE(row, column);
        REQUIRE(std::isnan(value) == (row == nan_row || column == nan_column));
      }
    }
  });
}

TEST_CASE("sums past the largest BF16 are infinite, and an infinite scale is not hidden",
          "[fp8_gemm]") {
  Operands operands{4, 16, 128};
  for (E4m3& code : operands.a) code = to_e4m3(kLargestE4m3);
  for (E4m3& code : operands.b) code = to_e4m3(kLargestE4m3);
  operands.a_scale[0] = 0x1p+110F;  // 448 * 448 * 128 * 2^110 > 2^128
  operands.a_scale[1] = -0x1p+110F;
  operands.a_scale[2] = INFINITY;
  operands.b_scale[0] = 1.0F;
  Buffer<Bf16> d(area(operands.m, operands.n));
  gemm_fp8(problem(operands, d));
  synchronise();
  for (std::size_t column = 0; column < 16; ++column) {
    REQUIRE(to_float(d[column]) == INFINITY);
    REQUIRE(to_float(d[16 + column]) == -INFINITY);
    REQUIRE(to_float(d[32 + column]) == INFINITY);
    REQUIRE(std::isfinite(to_float(d[48 + column])));
  }
}

TEST_CASE("an FP8 GEMM of no rows does nothing, and refuses extents it cannot compute",
          "[fp8_gemm]") {
  const Operands operands{16, 32, 128};
  Buffer<Bf16> d(area(16, 32));
  Fp8Gemm gemm = problem(operands, d);
  gemm.m = 0;
  REQUIRE_NOTHROW(gemm_fp8(gemm));
  REQUIRE(d[0].bits == 0xffff);
  gemm.n = 24;
  REQUIRE_THROWS_WITH(gemm_fp8(gemm), Contains("multiples of 16"));
  gemm = problem(operands, d);
  gemm.block_m = 96;
  REQUIRE_THROWS_WITH(gemm_fp8(gemm), Contains("64 or 128 rows"));
}

TEST_CASE("a grouped FP8 GEMM gives each row the product of its expert", "[fp8_gemm]") {
  // Experts of unequal loads and of no rows (first, last, several in turn), all rows with one, no
  // rows at all; room past the last; more blocks than a band of tiles has.
  const std::vector<int> offsets =
      GENERATE(std::vector<int>{0, 256, 256, 384, 384, 512}, std::vector<int>{0, 0, 0, 0, 384, 384},
               std::vector<int>{0, 0, 0, 0, 0, 0}, std::vector<int>{0, 0, 128, 2048, 2176, 2176});
  const int n = GENERATE(144, 16);
  const int m = offsets.back() + 128;
  if (m > 1000 && n > 16) return;
  CAPTURE(offsets, n);
  const Operands operands{m, n, m > 1000 ? 16 : 272, 5};
  std::vector<int> row_group(static_cast<std::size_t>(m), -1);
  for (int expert = 0; expert < 5; ++expert) {
    const auto e = static_cast<std::size_t>(expert);
    std::fill(row_group.begin() + offsets[e], row_group.begin() + offsets[e + 1], expert);
  }
  const auto expected = expected_bits(operands, row_group);
  const Buffer<int> starts(offsets);
  in_every_order([&] {
    Buffer<Bf16> d(area(m, n));
    grouped_gemm_fp8(ContiguousFp8Gemm{operands.a.data(), operands.b.data(),
                                       operands.a_scale.data(), operands.b_scale.data(),
                                       starts.data(), d.data(), 5, m, n, operands.k, 0});
    synchronise();
    REQUIRE((bits_of(d) == expected));
  });
}

TEST_CASE("a masked grouped FP8 GEMM computes the rows that each expert holds", "[fp8_gemm]") {
  const std::vector<int> counts =
      GENERATE(std::vector<int>{1, 0, 129, 64}, std::vector<int>{0, 0, 0, 0},
               std::vector<int>{0, 0, 256, 0}, std::vector<int>{65, 256, 128, 0});
  const int block_m = GENERATE(0, 64);
  const int capacity = 256;
  const int n = 144;
  CAPTURE(counts, block_m);
  const Operands operands{4 * capacity, n, 144, 4};
  std::vector<int> row_group;
  for (int row = 0; row < operands.m; ++row) {
    const int expert = row / capacity;
    const bool held = row % capacity < counts[static_cast<std::size_t>(expert)];
    row_group.push_back(held ? expert : -1);
  }
  const auto expected = expected_bits(operands, row_group);
  const Buffer<int> held(counts);
  in_every_order([&] {
    Buffer<Bf16> d(area(operands.m, n));
    grouped_gemm_fp8(MaskedFp8Gemm{operands.a.data(), operands.b.data(), operands.a_scale.data(),
                                   operands.b_scale.data(), held.data(), d.data(), 4, capacity, n,
                                   operands.k, 0, block_m});
    synchronise();
    auto actual = bits_of(d);
    for (int row = 0; row < operands.m; ++row) {
      const int count = counts[static_cast<std::size_t>(row / capacity)];
      // Between the count and the next multiple of 64, rows mean nothing.
      if (row % capacity < count || row % capacity >= ceil_div(count, 64) * 64) continue;
      std::fill_n(actual.begin() + static_cast<std::ptrdiff_t>(area(row, n)), n,
                  std::uint16_t{0xffff});
    }
    REQUIRE((actual == expected));
  });
}

TEST_CASE("grouped FP8 GEMMs of no rows do nothing, and refuse unpadded experts", "[fp8_gemm]") {
  const Operands operands{128, 32, 128};
  const Buffer<int> experts(std::vector<int>{0, 0});
  Buffer<Bf16> d(area(128, 32));
  ContiguousFp8Gemm contiguous{operands.a.data(),
                               operands.b.data(),
                               operands.a_scale.data(),
                               operands.b_scale.data(),
                               experts.data(),
                               d.data(),
                               1,
                               0,
                               32,
                               128,
                               0};
  REQUIRE_NOTHROW(grouped_gemm_fp8(contiguous));
  contiguous.m = 100;
  REQUIRE_THROWS_WITH(grouped_gemm_fp8(contiguous), Contains("padded to 128"));
  MaskedFp8Gemm masked{operands.a.data(),
                       operands.b.data(),
                       operands.a_scale.data(),
                       operands.b_scale.data(),
                       experts.data(),
                       d.data(),
                       1,
                       0,
                       32,
                       128,
                       0,
                       0};
  REQUIRE_NOTHROW(grouped_gemm_fp8(masked));
  REQUIRE(d[0].bits == 0xffff);
  masked.capacity = 100;
  REQUIRE_THROWS_WITH(grouped_gemm_fp8(masked), Contains("multiple of 128"));
}

}  // namespace pipecast::kernels
