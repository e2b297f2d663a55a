#include <catch2/catch.hpp>
#include <vector>

#include "fp8_products.hpp"
#include "kernels/gemm/fp8_wgrad_gemm.hpp"
#include "kernels/simt/device_error.hpp"
#include "run.hpp"

namespace pipecast::kernels {
namespace {

using namespace testing;
using Catch::Matchers::Contains;

/// Operands with the tokens of all experts along K, and what the gradient holds before.
struct Operands {
  int m;
  int n;
  int k;
  int experts = 1;
  Buffer<E4m3> a = random_codes(area(m, k), 1);
  Buffer<E4m3> b = random_codes(area(n, k), 2);
  Buffer<float> a_scale = random_scales(area(ceil_div(k, kScaleDepth), m), 3);
  Buffer<float> b_scale = random_scales(area(ceil_div(k, kScaleDepth), n), 4);
  std::vector<float> before = normal_values(area(experts * m, n), 5);

  float scale(int row, int column, int block) const {
    return a_scale[area(block, m) + static_cast<std::size_t>(row)] *
           b_scale[area(block, n) + static_cast<std::size_t>(column)];
  }
};

/// Calls `use(index in D, sum)` for every element of expert `expert`, whose tokens are those from
/// `begin` to `end`; `sum` is what `sum_of(a row, b row, scale)` makes of it.
template <class SumOf, class Use>
void for_each_sum(const Operands& p, int expert, int begin, int end, const SumOf& sum_of,
                  const Use& use) {
  const auto left = unpack_rows(p.a.data() + begin, p.m, end - begin, p.k);
  const auto right = unpack_rows(p.b.data() + begin, p.n, end - begin, p.k);
  for (int row = 0; row < p.m; ++row) {
    for (int column = 0; column < p.n; ++column) {
      const auto scale = [&](int block) {
        return p.scale(row, column, begin / kScaleDepth + block);
      };
      use(area(expert * p.m + row, p.n) + static_cast<std::size_t>(column),
          sum_of(left[static_cast<std::size_t>(row)], right[static_cast<std::size_t>(column)],
                 scale));
    }
  }
}

const auto kPromoted = [](const UnpackedRow& a, const UnpackedRow& b, const auto& scale) {
  return promoted_sum(a, b, scale);
};
const auto kExact = [](const UnpackedRow& a, const UnpackedRow& b, const auto& scale) {
  return exact_sum(a, b, scale);
};

std::vector<float> as_vector(const Buffer<float>& values) {
  return std::vector<float>(values.begin(), values.end());
}

}  // namespace

TEST_CASE("an FP8 weight gradient adds, bit for bit, a loop over the tensor core's arithmetic",
          "[fp8_wgrad_gemm]") {
  const auto [m, n, k] =
      GENERATE(std::tuple{128, 128, 256}, std::tuple{4, 4, 16}, std::tuple{132, 260, 144},
               std::tuple{64, 36, 1040}, std::tuple{36, 132, 128});
  CAPTURE(m, n, k);
  const Operands operands{m, n, k};
  std::vector<float> expected = operands.before;
  for_each_sum(operands, 0, 0, k, kPromoted, [&](std::size_t i, float sum) { expected[i] += sum; });
  in_every_order([&] {
    Buffer<float> d(operands.before);
    gemm_fp8_wgrad({operands.a.data(), operands.b.data(), operands.a_scale.data(),
                    operands.b_scale.data(), d.data(), m, n, k, 0});
    synchronise();
    REQUIRE((as_vector(d) == expected));
  });
}

TEST_CASE("an FP8 weight gradient is near the FP64 product of its codes", "[fp8_wgrad_gemm]") {
  const Operands operands{68, 36, 2064};
  Buffer<float> d(operands.before);
  gemm_fp8_wgrad({operands.a.data(), operands.b.data(), operands.a_scale.data(),
                  operands.b_scale.data(), d.data(), operands.m, operands.n, operands.k, 1});
  synchronise();
  const int blocks = ceil_div(operands.k, kScaleDepth);
  const reference::Matrix product = reference::scaled_product(
      codes_of(operands.a, operands.m, operands.k),
      scales_by_block(operands.a_scale, operands.m, blocks), reference::kActivationBlock,
      codes_of(operands.b, operands.n, operands.k),
      scales_by_block(operands.b_scale, operands.n, blocks), reference::kActivationBlock);
  for_each_sum(operands, 0, 0, operands.k, kExact, [&](std::size_t i, const Bounded& sum) {
    const double expected = static_cast<double>(operands.before[i]) + product.data()[i];
    const double rounding = 0x1p-24 * (std::abs(expected) + sum.bound);  // of the last addition
    REQUIRE(std::abs(static_cast<double>(d[i]) - expected) <= sum.bound + rounding);
  });
}

TEST_CASE("a grouped FP8 weight gradient takes every expert's own tokens", "[fp8_wgrad_gemm]") {
  // Unequal loads with none among them, all tokens with one expert, none at all.
  const std::vector<int> offsets =
      GENERATE(std::vector<int>{0, 128, 128, 512, 640}, std::vector<int>{0, 0, 640, 640, 640},
               std::vector<int>{0, 0, 0, 0, 0}, std::vector<int>{128, 128, 256, 384, 384});
  const int m = GENERATE(64, 192);
  CAPTURE(offsets, m);
  const Operands operands{m, 132, 640, 4};
  std::vector<float> expected = operands.before;
  for (int expert = 0; expert < 4; ++expert) {
    const int begin = offsets[static_cast<std::size_t>(expert)];
    const int end = offsets[static_cast<std::size_t>(expert) + 1];
    if (begin == end) continue;
    for_each_sum(operands, expert, begin, end, kPromoted,
                 [&](std::size_t i, float sum) { expected[i] += sum; });
  }
  const Buffer<int> starts(offsets);
  in_every_order([&] {
    Buffer<float> d(operands.before);
    grouped_gemm_fp8_wgrad({operands.a.data(), operands.b.data(), operands.a_scale.data(),
                            operands.b_scale.data(), starts.data(), d.data(), 4, m, operands.n,
                            operands.k, 0});
    synchronise();
    REQUIRE((as_vector(d) == expected));
  });
}

TEST_CASE("a NaN in a token's gradient or input reaches the rows or columns that it has",
          "[fp8_wgrad_gemm]") {
  const int nan_row = 70;
  const int nan_column = 129;
  Operands operands{132, 132, 256};
  operands.a[area(nan_row, operands.k) + 130] = E4m3{0x7f};
  operands.b[area(nan_column, operands.k)] = E4m3{0x7f};
  Buffer<float> d(operands.before);
  gemm_fp8_wgrad({operands.a.data(), operands.b.data(), operands.a_scale.data(),
                  operands.b_scale.data(), d.data(), operands.m, operands.n, operands.k, 0});
  synchronise();
  for (int row = 0; row < operands.m; ++row) {
    for (int column = 0; column < operands.n; ++column) {
      CAPTURE(row, column);
      REQUIRE(std::isnan(d[area(row, operands.n) + static_cast<std::size_t>(column)]) ==
              (row == nan_row || column == nan_column));
    }
  }
}

TEST_CASE("FP8 weight gradients of no tokens add nothing, and refuse extents they cannot compute",
          "[fp8_wgrad_gemm]") {
  Buffer<float> d(std::vector<float>(16, 1.0F));
  REQUIRE_NOTHROW(gemm_fp8_wgrad({nullptr, nullptr, nullptr, nullptr, d.data(), 4, 4, 0, 0}));
  REQUIRE(as_vector(d) == std::vector<float>(16, 1.0F));
  REQUIRE_THROWS_WITH(gemm_fp8_wgrad({nullptr, nullptr, nullptr, nullptr, d.data(), 4, 4, 8, 0}),
                      Contains("k of 16"));
  REQUIRE_THROWS_WITH(grouped_gemm_fp8_wgrad({nullptr, nullptr, nullptr, nullptr, nullptr, d.data(),
                                              2, 96, 4, 128, 0}),
                      Contains("m in multiples of 64"));
}

}  // namespace pipecast::kernels
