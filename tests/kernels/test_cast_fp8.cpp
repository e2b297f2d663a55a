#include <catch2/catch.hpp>
#include <vector>

#include "kernels/quantise/cast_fp8.hpp"
#include "kernels/simt/device_error.hpp"
#include "quantised.hpp"

namespace pipecast::kernels {
namespace {

using namespace testing;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

double number(const Buffer<Bf16>& values, int row, int column, int columns) {
  return static_cast<double>(to_float(values[extent(row, columns) + extent(1, column)]));
}

/// Largest magnitude of the columns [first, last) of rows [top, bottom).
double largest_magnitude(const Buffer<Bf16>& x, int columns, int top, int bottom, int first,
                         int last) {
  double largest = 0;
  for (int row = top; row < bottom; ++row) {
    for (int column = first; column < last; ++column) {
      largest = std::max(largest, std::abs(number(x, row, column, columns)));
    }
  }
  return largest;
}

struct Cast {
  Buffer<E4m3> codes;
  Buffer<float> scales;
};

Cast cast(const Buffer<Bf16>& source, int rows, int columns, bool power_of_two = false,
          ScaleOrder order = ScaleOrder::kByTile, int sms = 0) {
  const int tiles = (columns + kScaleTile - 1) / kScaleTile;
  Cast result{Buffer<E4m3>(extent(rows, columns)), Buffer<float>(extent(rows, tiles))};
  cast_fp8_1x128({source.data(), result.codes.data(), result.scales.data(), rows, columns, order,
                  power_of_two, sms});
  synchronise();
  return result;
}

}  // namespace

TEST_CASE("a cast to FP8 keeps every number to half a step of its tile's scale", "[cast_fp8]") {
  const auto [rows, columns] =
      GENERATE(std::tuple{1, 8}, std::tuple{1, 128}, std::tuple{3, 136}, std::tuple{70, 576});
  const bool power_of_two = GENERATE(false, true);
  const auto order = GENERATE(ScaleOrder::kByTile, ScaleOrder::kByRow);
  CAPTURE(rows, columns, power_of_two, order);
  const auto source = as_bf16(uneven_values(rows, columns, 1));
  in_every_order([&, rows = rows, columns = columns] {
    const Cast made = cast(source, rows, columns, power_of_two, order);
    const ScaledMatrix result{made.codes, made.scales, rows, columns, order};
    bool scales_right = true;
    double worst = 0;  // in half steps
    for (int row = 0; row < rows; ++row) {
      for (int first = 0; first < columns; first += kScaleTile) {
        const int last = std::min(columns, first + kScaleTile);
        const double scale = result.scale(row, first);
        scales_right =
            scales_right &&
            scale == expected_scale(largest_magnitude(source, columns, row, row + 1, first, last),
                                    power_of_two);
        for (int column = first; column < last; ++column) {
          const double exact = number(source, row, column, columns) / scale;
          const double off = std::abs(result.code(row, column) - exact);
          worst = std::max(worst, off / half_step(std::abs(exact)));
        }
      }
    }
    REQUIRE(scales_right);
    REQUIRE(worst <= 1);
  });
}

TEST_CASE("a cast of weights to FP8 has one scale per 128 x 128", "[cast_fp8]") {
  // The last has more tiles than one SM's blocks take at once.
  const auto [rows, columns] =
      GENERATE(std::tuple{1, 8}, std::tuple{128, 128}, std::tuple{129, 136}, std::tuple{300, 264});
  CAPTURE(rows, columns);
  const int across = (columns + kScaleTile - 1) / kScaleTile;
  const int down = (rows + kScaleTile - 1) / kScaleTile;
  const auto source = as_bf16(uneven_values(rows, columns, 2));
  in_every_order([&, rows = rows, columns = columns] {
    Buffer<E4m3> codes(extent(rows, columns));
    Buffer<float> scales(extent(down, across));
    cast_fp8_128x128({source.data(), codes.data(), scales.data(), rows, columns, 1});
    synchronise();
    for (int tile = 0; tile < down * across; ++tile) {
      const int top = tile / across * kScaleTile;
      const int first = tile % across * kScaleTile;
      const int bottom = std::min(rows, top + kScaleTile);
      const int last = std::min(columns, first + kScaleTile);
      const auto scale = static_cast<double>(scales[static_cast<std::size_t>(tile)]);
      REQUIRE(scale ==
              expected_scale(largest_magnitude(source, columns, top, bottom, first, last), false));
      double worst = 0;
      for (int row = top; row < bottom; ++row) {
        for (int column = first; column < last; ++column) {
          const double exact = number(source, row, column, columns) / scale;
          const auto code =
              static_cast<double>(to_float(codes[extent(row, columns) + extent(1, column)]));
          worst = std::max(worst, std::abs(code - exact) / half_step(std::abs(exact)));
        }
      }
      REQUIRE(worst <= 1);
    }
  });
}

TEST_CASE("FP8 back to BF16 is code times scale", "[cast_fp8]") {
  const auto [rows, columns] = GENERATE(std::tuple{1, 8}, std::tuple{65, 264});
  const auto order = GENERATE(ScaleOrder::kByTile, ScaleOrder::kByRow);
  CAPTURE(rows, columns, order);
  const auto source = as_bf16(uneven_values(rows, columns, 3));
  const Cast made = cast(source, rows, columns, false, order);
  const ScaledMatrix expected{made.codes, made.scales, rows, columns, order};
  in_every_order([&, rows = rows, columns = columns] {
    Buffer<Bf16> result(extent(rows, columns));
    uncast_fp8({made.codes.data(), made.scales.data(), result.data(), rows, columns, order, 0});
    synchronise();
    int wrong = 0;
    for (int row = 0; row < rows; ++row) {
      for (int column = 0; column < columns; ++column) {
        // The product is exact in FP64, and its rounding to FP32 comes first in the kernel.
        const auto product = static_cast<float>(expected.value(row, column));
        const Bf16 actual = result[extent(row, columns) + extent(1, column)];
        wrong += actual.bits != to_bf16(product).bits ? 1 : 0;
      }
    }
    REQUIRE(wrong == 0);
  });
}

TEST_CASE("casts of NaN, infinity and zeros to FP8 never make plausible numbers", "[cast_fp8]") {
  const bool power_of_two = GENERATE(false, true);
  constexpr int kRows = 4;
  constexpr int kColumns = 256;
  std::vector<float> values = normal_values(extent(kRows, kColumns), 4);
  values[5] = kNan;                   // row 0, tile 0
  values[kColumns + 9] = -kInfinity;  // row 1, tile 0
  std::fill_n(values.begin() + 2 * kColumns, 128, 0.0F);
  std::fill_n(values.begin() + 3 * kColumns, 128, 1e-39F);  // subnormal in BF16
  const auto source = as_bf16(values);
  in_every_order([&] {
    const Cast made = cast(source, kRows, kColumns, power_of_two);
    const ScaledMatrix result{made.codes, made.scales, kRows, kColumns};
    for (int column = 0; column < 128; ++column) {
      // The NaN alone is one; its neighbours keep their scale.
      REQUIRE(std::isnan(result.value(0, column)) == (column == 5));
      REQUIRE(std::isnan(result.value(1, column)));
      REQUIRE(result.code(2, column) == 0);
      REQUIRE(result.value(2, column) == 0);
      // Coarse, but no further off than half the smallest step.
      REQUIRE(std::abs(result.code(3, column)) <= 1);
    }
    REQUIRE(std::isinf(result.scale(1, 0)));
    REQUIRE(result.scale(2, 0) == expected_scale(0, power_of_two));
    for (int row = 0; row < kRows; ++row) REQUIRE(std::isfinite(result.value(row, 128)));
  });
}

TEST_CASE("a NaN or an infinity of a weight spoils no more than its own block", "[cast_fp8]") {
  constexpr int kRows = 128;
  constexpr int kColumns = 384;
  std::vector<float> values = normal_values(extent(kRows, kColumns), 5);
  values[3] = kNan;
  values[kColumns + 130] = kInfinity;
  const auto source = as_bf16(values);
  in_every_order([&] {
    Buffer<E4m3> codes(values.size());
    Buffer<float> scales(3);
    cast_fp8_128x128({source.data(), codes.data(), scales.data(), kRows, kColumns, 1});
    synchronise();
    REQUIRE(std::isnan(to_float(codes[3])));
    REQUIRE(std::isfinite(to_float(codes[4]) * scales[0]));
    REQUIRE(std::isnan(to_float(codes[128]) * scales[1]));  // 0 * infinity
    REQUIRE(std::isfinite(to_float(codes[256]) * scales[2]));
  });
}

TEST_CASE("a cast to FP8 on one SM is the same bit for bit", "[cast_fp8]") {
  constexpr int kRows = 600;  // more tiles than one SM's blocks take at once
  constexpr int kColumns = 128;
  const auto source = as_bf16(uneven_values(kRows, kColumns, 6));
  const Cast all = cast(source, kRows, kColumns);
  const Cast one = cast(source, kRows, kColumns, false, ScaleOrder::kByTile, 1);
  REQUIRE(std::equal(all.scales.begin(), all.scales.end(), one.scales.begin()));
  REQUIRE(std::equal(all.codes.begin(), all.codes.end(), one.codes.begin(),
                     [](E4m3 a, E4m3 b) { return a.bits == b.bits; }));
}

TEST_CASE("casts to FP8 take no rows and refuse rows that are no multiple of 8", "[cast_fp8]") {
  Buffer<Bf16> values(16);
  Buffer<E4m3> codes(16);
  Buffer<float> scales(1);
  const auto order = ScaleOrder::kByTile;
  cast_fp8_1x128({values.data(), codes.data(), scales.data(), 0, 8, order, false, 0});
  uncast_fp8({codes.data(), scales.data(), values.data(), 0, 8, order, 0});
  cast_fp8_128x128({values.data(), codes.data(), scales.data(), 0, 8, 0});
  synchronise();
  REQUIRE(std::isnan(scales[0]));
  const auto refusal = Catch::Contains("multiple of 8");
  REQUIRE_THROWS_WITH(
      cast_fp8_1x128({values.data(), codes.data(), scales.data(), 1, 12, order, false, 0}),
      refusal);
  REQUIRE_THROWS_WITH(uncast_fp8({codes.data(), scales.data(), values.data(), 1, 12, order, 0}),
                      refusal);
  REQUIRE_THROWS_WITH(cast_fp8_128x128({values.data(), codes.data(), scales.data(), 1, 12, 0}),
                      refusal);
}

}  // namespace pipecast::kernels
