#include "kernels/numbers/tensor_core.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace pipecast::kernels {
namespace {

struct Decoded {
  float value;
  std::int16_t exponent;
};

/// Every code of a format with the mantissa bits and bias.
template <class Format>
std::array<Decoded, 256> decode_all(int mantissa_bits, int bias) {
  std::array<Decoded, 256> all{};
  for (int code = 0; code < 256; ++code) {
    const int field = (code & 0x7f) >> mantissa_bits;
    all[static_cast<std::size_t>(code)] = {to_float(Format{static_cast<std::uint8_t>(code)}),
                                           static_cast<std::int16_t>(std::max(field, 1) - bias)};
  }
  return all;
}

template <class Format>
Fp8Operands unpack_by(const std::array<Decoded, 256>& decoded, const Format* values, int stride) {
  Fp8Operands operands{};
  operands.finite = true;
  for (int i = 0; i < Fp8Operands::kCount; ++i) {
    const Decoded& one = decoded[values[i * stride].bits];
    operands.value[i] = one.value;
    operands.exponent[i] = one.exponent;
    operands.finite = operands.finite && std::isfinite(one.value);
  }
  return operands;
}

/// Infinity and NaN as they are in exact arithmetic; finite terms are beside them of no account.
float accumulate_special(float accumulator, const Fp8Operands& a, const Fp8Operands& b) {
  double sum = static_cast<double>(accumulator);
  for (int i = 0; i < Fp8Operands::kCount; ++i) {
    sum += static_cast<double>(a.value[i]) * static_cast<double>(b.value[i]);
  }
  return static_cast<float>(sum);
}

/// 2^exponent, exponent -126 to 127.
float power_of_two(int exponent) {
  return float_of(static_cast<std::uint32_t>(127 + exponent) << 23);
}

}  // namespace

Fp8Operands unpack(const E4m3* values, int stride) {
  static const std::array<Decoded, 256> kDecoded = decode_all<E4m3>(3, 7);
  return unpack_by(kDecoded, values, stride);
}

Fp8Operands unpack(const E5m2* values, int stride) {
  static const std::array<Decoded, 256> kDecoded = decode_all<E5m2>(2, 15);
  return unpack_by(kDecoded, values, stride);
}

// The hot loop of the emulation. Both loops over the operands have a constant count and plain
// arithmetic, so that g++ -O2 makes vectors of them; 16-bit maxima and FP32 to 32-bit conversions
// are in every x86-64.
float accumulate(float accumulator, const Fp8Operands& a, const Fp8Operands& b, int fraction_bits) {
  const std::uint32_t bits = bits_of(accumulator);
  const auto field = static_cast<std::int32_t>(bits >> 23 & 255U);
  if (!a.finite || !b.finite || field == 255) return accumulate_special(accumulator, a, b);
  std::int16_t largest_product = INT16_MIN;
  for (int i = 0; i < Fp8Operands::kCount; ++i) {
    const auto exponent = static_cast<std::int16_t>(a.exponent[i] + b.exponent[i]);
    largest_product = std::max(largest_product, exponent);
  }
  std::int32_t largest = largest_product;
  if (accumulator != 0.0F) largest = std::max(largest, std::max(field, 1) - 127);
  // In units of the last fraction bit kept. Products of two 4-bit significands and their scaling by
  // a power of two are exact in FP32, and so is the truncation that the conversion does.
  const float scale = power_of_two(fraction_bits - largest);
  std::int32_t products = 0;  // below 32 * 4 * 2^23
  for (int i = 0; i < Fp8Operands::kCount; ++i) {
    products += static_cast<std::int32_t>(a.value[i] * b.value[i] * scale);
  }
  // The accumulator is below 2 * 2^fraction_bits units, and scaled without rounding.
  const std::int64_t sum =
      static_cast<std::int64_t>(products) +
      static_cast<std::int64_t>(static_cast<double>(accumulator) * static_cast<double>(scale));
  auto magnitude = static_cast<std::uint64_t>(sum < 0 ? -sum : sum);
  const int top = 63 - __builtin_clzll(magnitude | 1U);
  if (top > fraction_bits) magnitude &= ~std::uint64_t{0} << (top - fraction_bits);
  const double value = static_cast<double>(static_cast<std::int64_t>(magnitude)) *
                       static_cast<double>(power_of_two(largest - fraction_bits));
  return static_cast<float>(sum < 0 ? -value : value);
}

}  // namespace pipecast::kernels
