#pragma once

/// What tests of kernels over rows of BF16 share: the same numbers in FP64, and how far a result
/// may be from them.
#include <algorithm>
#include <cmath>

#include "kernels/reference/matrix.hpp"
#include "run.hpp"

namespace pipecast::kernels::testing {

inline std::size_t extent(int rows, int columns) {
  return static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns);
}

inline reference::Matrix as_matrix(const Buffer<Bf16>& values, int rows, int columns) {
  reference::Matrix matrix(rows, columns);
  for (std::size_t i = 0; i < values.size(); ++i) {
    matrix.data()[i] = static_cast<double>(to_float(values[i]));
  }
  return matrix;
}

/// The worst distance of a BF16 result from an exact one, in units of what may be expected: half of
/// the format's step, which is at most 2^-8 of a number as 7 bits follow its leading one, and for
/// the roundings of FP32 sums, whose terms may cancel, 2^-16 of the row's largest number. Above 1
/// is wrong; a NaN or an infinity on one side alone is infinitely so.
inline double bf16_distance(const Buffer<Bf16>& actual, const reference::Matrix& exact) {
  double worst = 0;
  for (reference::Index row = 0; row < exact.rows(); ++row) {
    double largest = 0;
    for (reference::Index column = 0; column < exact.cols(); ++column) {
      if (std::isfinite(exact(row, column))) {
        largest = std::max(largest, std::abs(exact(row, column)));
      }
    }
    for (reference::Index column = 0; column < exact.cols(); ++column) {
      const auto got = static_cast<double>(
          to_float(actual[static_cast<std::size_t>(row * exact.cols() + column)]));
      const double want = exact(row, column);
      if (std::isnan(want) && std::isnan(got)) continue;
      if (std::isinf(want) && got == want) continue;
      if (!std::isfinite(want) || !std::isfinite(got)) return INFINITY;
      const double allowed = std::abs(want) * std::exp2(-8) + largest * std::exp2(-16);
      if (got != want) worst = std::max(worst, std::abs(got - want) / allowed);
    }
  }
  return worst;
}

}  // namespace pipecast::kernels::testing
