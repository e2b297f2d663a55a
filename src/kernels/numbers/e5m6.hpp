#pragma once

#include <cstdint>

#include "kernels/numbers/bits.hpp"

namespace pipecast::kernels {

/// The 12-bit format in which DeepSeek-V3 keeps activations that go into the attention output's
/// linear layer: sign, 5 exponent and 6 mantissa bits (arXiv 2412.19437, section 3.3.3). The report
/// gives only the widths; bias 15 and IEEE infinity and NaN are ours, as in FP16.
struct E5m6 {
  std::uint16_t bits;  // the lower 12
};

constexpr float kLargestE5m6 = 65024.0F;  // (2 - 2^-6) * 2^15

/// Nearest, ties to even, saturating at the largest finite value; NaN becomes 0x7ff.
PIPECAST_HOST_DEVICE E5m6 to_e5m6(float value) {
  if (value != value) return E5m6{0x7ff};
  const std::uint32_t bits = bits_of(value);
  const std::uint32_t sign = bits >> 31 << 11;
  std::uint32_t magnitude = bits & 0x7fffffffU;
  if (magnitude > bits_of(kLargestE5m6)) magnitude = bits_of(kLargestE5m6);
  constexpr std::uint32_t kSmallestNormal = (127U - 14U) << 23;
  if (magnitude < kSmallestNormal) {
    constexpr std::uint32_t kAligner = (127U - 14U - 6U + 23U) << 23;
    const float aligned = float_of(magnitude) + float_of(kAligner);
    return E5m6{static_cast<std::uint16_t>(sign | (bits_of(aligned) - kAligner))};
  }
  magnitude += (1U << 16) - 1U + (magnitude >> 17 & 1U);
  return E5m6{static_cast<std::uint16_t>(sign | ((magnitude >> 17) - ((127U - 15U) << 6)))};
}

PIPECAST_HOST_DEVICE float to_float(E5m6 value) {
  const std::uint32_t sign = static_cast<std::uint32_t>(value.bits & 0x800U) << 20;
  const std::uint32_t fields = value.bits & 0x7ffU;
  if (fields > 0x7c0U) return float_of(0x7fc00000U);
  if (fields == 0x7c0U) return float_of(sign | 0x7f800000U);
  if (fields >> 6 == 0) {
    const float magnitude = static_cast<float>(fields) * float_of((127U - 14U - 6U) << 23);
    return float_of(bits_of(magnitude) | sign);
  }
  return float_of((sign | fields << 17) + ((127U - 15U) << 23));
}

}  // namespace pipecast::kernels
