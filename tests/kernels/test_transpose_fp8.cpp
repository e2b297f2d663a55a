#include <catch2/catch.hpp>
#include <vector>

#include "kernels/quantise/transpose_fp8.hpp"
#include "kernels/simt/device_error.hpp"
#include "quantised.hpp"

namespace pipecast::kernels {
namespace {

using namespace testing;

}  // namespace

TEST_CASE("transposed FP8 weights have every code and scale at the other place",
          "[transpose_fp8]") {
  const auto [rows, columns] = GENERATE(std::tuple{16, 16}, std::tuple{128, 128},
                                        std::tuple{144, 400}, std::tuple{272, 128});
  CAPTURE(rows, columns);
  const int down = (rows + kScaleTile - 1) / kScaleTile;
  const int across = (columns + kScaleTile - 1) / kScaleTile;
  Buffer<E4m3> codes(extent(rows, columns));
  // No two bytes of a row or of a column of a tile are alike, NaN codes included.
  for (int row = 0; row < rows; ++row) {
    for (int column = 0; column < columns; ++column) {
      codes[extent(row, columns) + extent(1, column)] =
          E4m3{static_cast<std::uint8_t>(row * 3 + column * 5)};
    }
  }
  const Buffer<float> scales(normal_values(extent(down, across), 1));
  in_every_order([&, rows = rows, columns = columns] {
    Buffer<E4m3> transposed(codes.size());
    Buffer<float> transposed_scales(scales.size());
    transpose_fp8({codes.data(), scales.data(), transposed.data(), transposed_scales.data(), rows,
                   columns, 0});
    synchronise();
    int wrong = 0;
    for (int row = 0; row < rows; ++row) {
      for (int column = 0; column < columns; ++column) {
        wrong += transposed[extent(column, rows) + extent(1, row)].bits ==
                         codes[extent(row, columns) + extent(1, column)].bits
                     ? 0
                     : 1;
      }
    }
    REQUIRE(wrong == 0);
    for (int row = 0; row < down; ++row) {
      for (int column = 0; column < across; ++column) {
        REQUIRE(transposed_scales[extent(column, down) + extent(1, row)] ==
                scales[extent(row, across) + extent(1, column)]);
      }
    }
  });
}

TEST_CASE("transposed scales of activations lie by tile", "[transpose_fp8]") {
  const auto [rows, tiles] =
      GENERATE(std::tuple{1, 1}, std::tuple{33, 5}, std::tuple{70, 56}, std::tuple{4, 33});
  CAPTURE(rows, tiles);
  const Buffer<float> scales(normal_values(extent(rows, tiles), 1));
  in_every_order([&, rows = rows, tiles = tiles] {
    Buffer<float> transposed(scales.size());
    transpose_scales({scales.data(), transposed.data(), rows, tiles, 1});
    synchronise();
    for (int row = 0; row < rows; ++row) {
      for (int tile = 0; tile < tiles; ++tile) {
        REQUIRE(transposed[extent(tile, rows) + extent(1, row)] ==
                scales[extent(row, tiles) + extent(1, tile)]);
      }
    }
  });
}

TEST_CASE("transpositions take nothing and refuse what is no multiple of 16", "[transpose_fp8]") {
  Buffer<E4m3> codes(16);
  Buffer<float> scales(1);
  transpose_fp8({codes.data(), scales.data(), codes.data(), scales.data(), 0, 16, 0});
  transpose_scales({scales.data(), scales.data(), 0, 1, 0});
  synchronise();
  REQUIRE(std::isnan(scales[0]));
  REQUIRE_THROWS_WITH(
      transpose_fp8({codes.data(), scales.data(), codes.data(), scales.data(), 8, 16, 0}),
      Catch::Contains("multiples of 16"));
  REQUIRE_THROWS_WITH(transpose_scales({scales.data(), scales.data(), -1, 1, 0}),
                      Catch::Contains("below zero"));
}

}  // namespace pipecast::kernels
