#include "kernels/numbers/small_float.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace pipecast::kernels {
namespace {

constexpr int kDoubleBias = 1023;
constexpr int kDoubleMantissa = 52;

int bias_of(const SmallFloat& format) { return (1 << (format.exponent_bits - 1)) - 1; }

double from_bits(std::uint64_t bits) {
  double value = 0;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

/// 2^exponent, exponent -1022 to 1023: formats of up to 8 exponent bits stay far inside.
double power_of_two(int exponent) {
  return from_bits(static_cast<std::uint64_t>(kDoubleBias + exponent) << kDoubleMantissa);
}

/// Of the leading digit; of a subnormal or zero one that is low enough.
int exponent_of(double value) {
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  return static_cast<int>(bits >> kDoubleMantissa & 0x7ffU) - kDoubleBias;
}

}  // namespace

double largest_value(const SmallFloat& format) {
  const int top = (1 << format.exponent_bits) - 1 - (format.infinity ? 1 : 0);
  const double last_place = power_of_two(-format.mantissa_bits);
  const double significand = 2 - (format.infinity ? 1 : 2) * last_place;
  return significand * power_of_two(top - bias_of(format));
}

double smallest_normal(const SmallFloat& format) { return power_of_two(1 - bias_of(format)); }

double smallest_subnormal(const SmallFloat& format) {
  return power_of_two(1 - bias_of(format) - format.mantissa_bits);
}

double rounded(double value, const SmallFloat& format) {
  if (std::isnan(value)) return value;
  const double largest = largest_value(format);
  const double magnitude = std::abs(value);
  if (magnitude >= largest) return std::copysign(largest, value);
  const int last_place = std::max(exponent_of(value), 1 - bias_of(format)) - format.mantissa_bits;
  // Beside 2^52 last places the FP64 adder has nothing below one of them, and rounds there.
  const double aligner = power_of_two(last_place + kDoubleMantissa);
  return std::copysign(std::min((magnitude + aligner) - aligner, largest), value);
}

}  // namespace pipecast::kernels
