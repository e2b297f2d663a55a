#pragma once

/// What tests of quantisation share: inputs that reach every corner of a format, and an FP64
/// statement of what a scaled tile must hold.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/quantise/tile_scale.hpp"
#include "rows.hpp"

namespace pipecast::kernels::testing {

/// Numbers of very different size from row to row, zeros among them.
inline std::vector<float> uneven_values(int rows, int columns, std::uint64_t seed) {
  std::vector<float> values = normal_values(extent(rows, columns), seed);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto row = static_cast<int>(i / static_cast<std::size_t>(columns));
    values[i] = i % 37 == 0 ? 0.0F : std::ldexp(values[i], row % 41 - 20);
  }
  return values;
}

/// Which tile of 128 an element is in, and how to reach its scale.
struct ScaledMatrix {
  const Buffer<E4m3>& codes;
  const Buffer<float>& scales;
  int rows;
  int columns;
  ScaleOrder order = ScaleOrder::kByTile;

  double scale(int row, int column) const {
    const int tiles = (columns + kScaleTile - 1) / kScaleTile;
    const int tile = column / kScaleTile;
    const int at = order == ScaleOrder::kByTile ? tile * rows + row : row * tiles + tile;
    return static_cast<double>(scales[static_cast<std::size_t>(at)]);
  }
  double code(int row, int column) const {
    return static_cast<double>(to_float(codes[extent(row, columns) + extent(1, column)]));
  }
  double value(int row, int column) const { return code(row, column) * scale(row, column); }
};

/// The scale that a tile of this largest magnitude must have: one correctly rounded division.
inline double expected_scale(double largest, bool power_of_two) {
  const double floored = std::max(largest, static_cast<double>(kSmallestScaled));
  const auto scale = static_cast<double>(static_cast<float>(floored / 448.0));
  return power_of_two ? std::exp2(std::ceil(std::log2(scale))) : scale;
}

/// Half the distance between E4M3's neighbours at a magnitude: 3 bits after the leading one, and
/// 2^-9 below 2^-6; a reciprocal and a product in FP32 may move a tie by 2^-22.
inline double half_step(double magnitude) {
  const double exponent = magnitude < std::exp2(-6) ? -6 : std::floor(std::log2(magnitude));
  return std::exp2(exponent - 4) * (1 + std::exp2(-17));
}

}  // namespace pipecast::kernels::testing
