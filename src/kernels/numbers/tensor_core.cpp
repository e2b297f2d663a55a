#include "kernels/numbers/tensor_core.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace pipecast::kernels {
namespace {

struct Decoded {
  float value;
  std::int32_t exponent;
};

std::array<Decoded, 256> decode_all() {
  std::array<Decoded, 256> all{};
  for (int code = 0; code < 256; ++code) {
    const int field = code >> 3 & 15;
    all[static_cast<std::size_t>(code)] = {.value = to_float(E4m3{static_cast<std::uint8_t>(code)}),
                                           .exponent = field == 0 ? -6 : field - 7};
  }
  return all;
}

constexpr std::int32_t kNoExponent = -127;

}  // namespace

Fp8Operands unpack(const E4m3* values, int stride) {
  static const std::array<Decoded, 256> kDecoded = decode_all();
  Fp8Operands operands{};
  operands.finite = true;
  for (int i = 0; i < Fp8Operands::kCount; ++i) {
    const std::uint8_t code = values[i * stride].bits;
    operands.value[i] = kDecoded[code].value;
    operands.exponent[i] = kDecoded[code].exponent;
    operands.finite = operands.finite && (code & 0x7f) != 0x7f;
  }
  return operands;
}

float accumulate(float accumulator, const Fp8Operands& a, const Fp8Operands& b, int fraction_bits) {
  if (!a.finite || !b.finite || !std::isfinite(accumulator)) {
    // Only the accumulator may be infinite: E4M3 has no infinity.
    return a.finite && b.finite && std::isinf(accumulator)
               ? accumulator
               : std::numeric_limits<float>::quiet_NaN();
  }
  std::int32_t largest = kNoExponent;
  for (int i = 0; i < Fp8Operands::kCount; ++i) {
    largest = std::max(largest, a.exponent[i] + b.exponent[i]);
  }
  if (accumulator != 0.0F) {
    const auto field = static_cast<std::int32_t>(bits_of(accumulator) >> 23 & 255U);
    largest = std::max(largest, std::max(field, 1) - 127);
  }
  // In units of the last fraction bit kept. Products of two 4-bit significands and their scaling by
  // a power of two are exact in FP32, and so is the truncation that the conversion does.
  const auto units = static_cast<std::uint32_t>(127 + fraction_bits - largest) << 23;
  const float scale = float_of(units);
  std::int32_t products = 0;
  for (int i = 0; i < Fp8Operands::kCount; ++i) {
    products += static_cast<std::int32_t>(a.value[i] * b.value[i] * scale);
  }
  const std::int64_t sum = static_cast<std::int64_t>(products) +
                           static_cast<std::int64_t>(static_cast<double>(accumulator) * scale);
  if (sum == 0) return 0.0F;
  std::uint64_t magnitude = static_cast<std::uint64_t>(sum < 0 ? -sum : sum);
  const int top = 63 - __builtin_clzll(magnitude);
  if (top > fraction_bits) magnitude &= ~std::uint64_t{0} << (top - fraction_bits);
  const double value = std::ldexp(static_cast<double>(magnitude), largest - fraction_bits);
  return static_cast<float>(sum < 0 ? -value : value);
}

}  // namespace pipecast::kernels
