#include "kernels/numerics/scaling.hpp"

#include <algorithm>
#include <cmath>

#include "base/error.hpp"

namespace pipecast::kernels {
namespace {

/// Where a tile lies in its matrix.
struct Region {
  int first_row{};
  int end_row{};
  int first_column{};
  int end_column{};
};

float largest_magnitude(const SampleMatrix& matrix, const Region& region) {
  float largest = 0;
  for (int row = region.first_row; row < region.end_row; ++row) {
    for (int column = region.first_column; column < region.end_column; ++column) {
      largest = std::max(largest, std::abs(matrix.at(row, column)));
    }
  }
  return largest;
}

float scale_of(float largest, const Quantisation& how) {
  if (how.scales == ScaleKind::kNone || largest == 0) return 1;
  const double scale = static_cast<double>(largest) / largest_value(how.format);
  if (how.scales == ScaleKind::kFp32) return static_cast<float>(scale);
  return static_cast<float>(std::exp2(std::ceil(std::log2(scale))));
}

/// As a kernel does it: one FP32 product with the scale's reciprocal, then the cast.
void quantise_region(const SampleMatrix& matrix, const Region& region, const SmallFloat& format,
                     float scale, SampleMatrix& codes) {
  const float inverse = 1 / scale;
  for (int row = region.first_row; row < region.end_row; ++row) {
    for (int column = region.first_column; column < region.end_column; ++column) {
      const float scaled = matrix.at(row, column) * inverse;
      codes.values[matrix.index(row, column)] =
          static_cast<float>(rounded(static_cast<double>(scaled), format));
    }
  }
}

}  // namespace

QuantisedMatrix quantised(const SampleMatrix& matrix, const Quantisation& how) {
  require(how.tile.rows >= 0 && how.tile.columns >= 0, "a tile of {}x{}: extents are positive",
          how.tile.rows, how.tile.columns);
  QuantisedMatrix out{.codes = matrix, .tile = how.tile, .tile_columns = 0, .scales = {}};
  if (out.tile.rows == 0) out.tile.rows = std::max(matrix.rows, 1);
  if (out.tile.columns == 0) out.tile.columns = std::max(matrix.columns, 1);
  out.tile_columns = (matrix.columns + out.tile.columns - 1) / out.tile.columns;
  for (int row = 0; row < matrix.rows; row += out.tile.rows) {
    for (int column = 0; column < matrix.columns; column += out.tile.columns) {
      const Region region{row, std::min(row + out.tile.rows, matrix.rows), column,
                          std::min(column + out.tile.columns, matrix.columns)};
      const float scale = scale_of(largest_magnitude(matrix, region), how);
      quantise_region(matrix, region, how.format, scale, out.codes);
      out.scales.push_back(scale);
    }
  }
  return out;
}

std::vector<double> dequantised(const QuantisedMatrix& matrix) {
  std::vector<double> out;
  out.reserve(matrix.codes.values.size());
  for (int row = 0; row < matrix.codes.rows; ++row) {
    for (int column = 0; column < matrix.codes.columns; ++column) {
      out.push_back(static_cast<double>(matrix.codes.at(row, column)) *
                    static_cast<double>(matrix.scale(row, column)));
    }
  }
  return out;
}

}  // namespace pipecast::kernels
