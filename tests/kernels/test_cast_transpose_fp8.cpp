#include <catch2/catch.hpp>
#include <vector>

#include "kernels/quantise/cast_fp8.hpp"
#include "kernels/quantise/cast_transpose_fp8.hpp"
#include "kernels/simt/device_error.hpp"
#include "quantised.hpp"

namespace pipecast::kernels {
namespace {

using namespace testing;

struct Transposed {
  Buffer<E4m3> codes;
  Buffer<float> scales;
};

/// Runs the kernel into new memory of the right extents.
Transposed transposed(CastTransposeFp8 problem) {
  const int padded = padded_tokens(problem.rows);
  Transposed result{Buffer<E4m3>(extent(problem.columns, padded)),
                    Buffer<float>(extent(padded / kScaleTile, problem.columns))};
  problem.transposed = result.codes.data();
  problem.new_scales = result.scales.data();
  cast_transpose_fp8_128x1(problem);
  synchronise();
  return result;
}

bool same_bits(const Transposed& a, const Transposed& b) {
  return std::equal(a.scales.begin(), a.scales.end(), b.scales.begin()) &&
         std::equal(a.codes.begin(), a.codes.end(), b.codes.begin(),
                    [](E4m3 x, E4m3 y) { return x.bits == y.bits; });
}

CastTransposeFp8 of_bf16(const Buffer<Bf16>& source, int rows, int columns) {
  return {source.data(), nullptr, nullptr, ScaleOrder::kByTile, nullptr, nullptr, nullptr,
          rows,          columns, 0};
}

/// What the operation is by definition: the matrix transposed with zeros behind its tokens, cast
/// by tiles of rows.
Transposed transposed_then_cast(const Buffer<Bf16>& source, int rows, int columns) {
  const int padded = padded_tokens(rows);
  std::vector<float> turned(extent(columns, padded), 0.0F);
  for (int row = 0; row < rows; ++row) {
    for (int column = 0; column < columns; ++column) {
      turned[extent(column, padded) + extent(1, row)] =
          to_float(source[extent(row, columns) + extent(1, column)]);
    }
  }
  const auto values = as_bf16(turned);
  Transposed result{Buffer<E4m3>(values.size()), Buffer<float>(values.size() / kScaleTile)};
  cast_fp8_1x128({values.data(), result.codes.data(), result.scales.data(), columns, padded,
                  ScaleOrder::kByTile, false, 0});
  synchronise();
  return result;
}

}  // namespace

TEST_CASE("a cast with transposition is the transposed matrix, cast", "[cast_transpose_fp8]") {
  const auto [rows, columns] =
      GENERATE(std::tuple{1, 8}, std::tuple{128, 128}, std::tuple{129, 136}, std::tuple{300, 264});
  CAPTURE(rows, columns);
  const auto source = as_bf16(uneven_values(rows, columns, 1));
  const Transposed expected = transposed_then_cast(source, rows, columns);
  in_every_order([&, rows = rows, columns = columns] {
    REQUIRE(same_bits(transposed(of_bf16(source, rows, columns)), expected));
  });
}

TEST_CASE("FP8 rows change the direction of their tiles as if they were BF16 in between",
          "[cast_transpose_fp8]") {
  const auto [rows, columns] = GENERATE(std::tuple{1, 8}, std::tuple{140, 264});
  const auto order = GENERATE(ScaleOrder::kByTile, ScaleOrder::kByRow);
  CAPTURE(rows, columns, order);
  const auto source = as_bf16(uneven_values(rows, columns, 2));
  Buffer<E4m3> codes(source.size());
  Buffer<float> scales(extent(rows, (columns + kScaleTile - 1) / kScaleTile));
  cast_fp8_1x128({source.data(), codes.data(), scales.data(), rows, columns, order, false, 0});
  Buffer<Bf16> back(source.size());
  uncast_fp8({codes.data(), scales.data(), back.data(), rows, columns, order, 0});
  synchronise();
  const Transposed expected = transposed_then_cast(back, rows, columns);
  in_every_order([&, rows = rows, columns = columns] {
    REQUIRE(same_bits(transposed({nullptr, codes.data(), scales.data(), order, nullptr, nullptr,
                                  nullptr, rows, columns, 0}),
                      expected));
  });
}

TEST_CASE("weights of rows multiply them before a cast with transposition",
          "[cast_transpose_fp8]") {
  constexpr int kRows = 130;
  constexpr int kColumns = 24;
  const auto source = as_bf16(uneven_values(kRows, kColumns, 3));
  const Buffer<float> weight(normal_values(kRows, 4));
  std::vector<float> products(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    products[i] = to_float(source[i]) * weight[i / kColumns];
  }
  const Transposed expected = transposed_then_cast(as_bf16(products), kRows, kColumns);
  CastTransposeFp8 problem = of_bf16(source, kRows, kColumns);
  problem.row_weight = weight.data();
  in_every_order([&] { REQUIRE(same_bits(transposed(problem), expected)); });
}

TEST_CASE("a NaN of a token stays in its column, an infinity spoils its tile",
          "[cast_transpose_fp8]") {
  constexpr int kRows = 200;
  constexpr int kColumns = 16;
  std::vector<float> values = normal_values(extent(kRows, kColumns), 5);
  values[3 * kColumns + 2] = std::numeric_limits<float>::quiet_NaN();
  values[150 * kColumns + 7] = std::numeric_limits<float>::infinity();
  const auto source = as_bf16(values);
  in_every_order([&] {
    const Transposed made = transposed(of_bf16(source, kRows, kColumns));
    const ScaledMatrix result{made.codes, made.scales, kColumns, padded_tokens(kRows)};
    for (int column = 0; column < kColumns; ++column) {
      for (int row = 0; row < kRows; ++row) {
        const bool spoilt = (column == 2 && row == 3) || (column == 7 && row >= 128);
        REQUIRE(std::isnan(result.value(column, row)) == spoilt);
      }
    }
  });
}

TEST_CASE("a cast with transposition takes no rows and refuses what it cannot read",
          "[cast_transpose_fp8]") {
  Buffer<Bf16> values(16);
  cast_transpose_fp8_128x1(of_bf16(values, 0, 8));
  synchronise();
  REQUIRE_THROWS_WITH(cast_transpose_fp8_128x1(of_bf16(values, 1, 12)),
                      Catch::Contains("multiple of 8"));
  CastTransposeFp8 neither = of_bf16(values, 1, 8);
  neither.source = nullptr;
  REQUIRE_THROWS_WITH(cast_transpose_fp8_128x1(neither), Catch::Contains("either BF16 rows"));
}

}  // namespace pipecast::kernels
