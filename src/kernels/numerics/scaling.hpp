/// Rounding of matrices to small formats with a scale per tile, as FP8 recipes do.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/numbers/small_float.hpp"
#include "kernels/numerics/samples.hpp"

namespace pipecast::kernels {

/// How many elements share a scale: DeepSeek-V3 has 1 x 128 for activations and 128 x 128 for
/// weights (arXiv 2412.19437, section 3.3.2).
struct ScaleTile {
  int rows = 0;     ///< 0: all
  int columns = 0;  ///< 0: all
};

enum class ScaleKind {
  kNone,        ///< the numbers as they are
  kFp32,        ///< the largest magnitude of a tile becomes the largest of the format
  kPowerOfTwo,  ///< the same, rounded up to a power of two
};

struct Quantisation {
  SmallFloat format{};
  ScaleTile tile{};
  ScaleKind scales{};
};

/// Codes times scales are the matrix, nearly.
struct QuantisedMatrix {
  SampleMatrix codes{};         ///< values of the format
  ScaleTile tile{};             ///< with the extents of the matrix in place of 0
  int tile_columns{};           ///< tiles beside each other
  std::vector<float> scales{};  ///< by tile, row-major

  [[nodiscard]] float scale(int row, int column) const {
    return scales[static_cast<std::size_t>(row / tile.rows) *
                      static_cast<std::size_t>(tile_columns) +
                  static_cast<std::size_t>(column / tile.columns)];
  }
};

/// A tile of zeros has scale 1. Edge tiles are smaller.
/// @throws Error if a tile's extent is negative
QuantisedMatrix quantised(const SampleMatrix& matrix, const Quantisation& how);

/// Codes times their scales, row-major: exact, since both have at most 24 bits.
std::vector<double> dequantised(const QuantisedMatrix& matrix);

}  // namespace pipecast::kernels
