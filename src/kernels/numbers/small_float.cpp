#include "kernels/numbers/small_float.hpp"

#include <algorithm>
#include <cmath>

namespace pipecast::kernels {
namespace {

int bias_of(const SmallFloat& format) { return (1 << (format.exponent_bits - 1)) - 1; }

}  // namespace

double largest_value(const SmallFloat& format) {
  const int top = (1 << format.exponent_bits) - 1 - (format.infinity ? 1 : 0);
  const double last_place = std::ldexp(1.0, -format.mantissa_bits);
  const double significand = 2 - (format.infinity ? 1 : 2) * last_place;
  return std::ldexp(significand, top - bias_of(format));
}

double smallest_normal(const SmallFloat& format) { return std::ldexp(1.0, 1 - bias_of(format)); }

double smallest_subnormal(const SmallFloat& format) {
  return std::ldexp(smallest_normal(format), -format.mantissa_bits);
}

double rounded(double value, const SmallFloat& format) {
  if (std::isnan(value) || value == 0) return value;
  const double largest = largest_value(format);
  if (std::abs(value) >= largest) return std::copysign(largest, value);
  const int exponent = std::max(std::ilogb(value), 1 - bias_of(format));
  const int last_place = exponent - format.mantissa_bits;
  // In units of the last place, where rounding to an integer is rounding to the format.
  const double result = std::ldexp(std::nearbyint(std::ldexp(value, -last_place)), last_place);
  return std::copysign(std::min(std::abs(result), largest), value);
}

}  // namespace pipecast::kernels
