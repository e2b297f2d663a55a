/// The error of rounding a tensor to a small format with a scale per tile.
#pragma once

#include <cstdint>

#include "kernels/numerics/errors.hpp"
#include "kernels/numerics/scaling.hpp"

namespace pipecast::kernels {

struct QuantiseErrorCase {
  int rows{};
  int columns{};
  Quantisation how{};
  SampleKind samples{};
  std::uint64_t seed{};
};

struct QuantiseErrors {
  ErrorMeasures all{};
  ErrorMeasures bulk{};     ///< of the elements that are no outliers
  double lost_to_zero = 0;  ///< share of elements that became zero and were not
  double below_normal = 0;  ///< share of elements in the format's subnormal range, with fewer bits
};

/// @throws Error on extents that are not positive
QuantiseErrors quantise_errors(const QuantiseErrorCase& the_case);

}  // namespace pipecast::kernels
