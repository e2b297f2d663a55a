#pragma once

#include <cstdint>

#include "kernels/numbers/bits.hpp"

namespace pipecast::kernels {

/// FP8 with 4 exponent and 3 mantissa bits: bias 7, largest 448, no infinity, NaN is 0x7f and 0xff.
/// Source: Micikevicius et al. 2022, "FP8 Formats for Deep Learning", table 1.
struct E4m3 {
  std::uint8_t bits;
};
/// FP8 with 5 exponent and 2 mantissa bits: bias 15, largest 57,344, infinity and NaN as IEEE.
struct E5m2 {
  std::uint8_t bits;
};

constexpr float kLargestE4m3 = 448.0F;
constexpr float kLargestE5m2 = 57344.0F;

namespace detail {

/// `value` rounded to nearest, ties to even, as sign, exponent and mantissa fields of a format with
/// `kMantissa` bits and `kBias`; anything past `largest` becomes `largest` (satfinite). Not for
/// NaN.
template <int kMantissa, int kBias>
PIPECAST_HOST_DEVICE std::uint8_t to_fields(float value, float largest) {
  const std::uint32_t bits = bits_of(value);
  const std::uint32_t sign = bits >> 31 << 7;
  std::uint32_t magnitude = bits & 0x7fffffffU;
  if (magnitude > bits_of(largest)) magnitude = bits_of(largest);
  constexpr std::uint32_t kSmallestNormal = static_cast<std::uint32_t>(127 + 1 - kBias) << 23;
  if (magnitude < kSmallestNormal) {
    // Subnormal: adding 2^(1 - bias - mantissa + 23) makes the FP32 adder round at the last place.
    constexpr std::uint32_t kAligner = static_cast<std::uint32_t>(127 + 1 - kBias - kMantissa + 23)
                                       << 23;
    const float aligned = float_of(magnitude) + float_of(kAligner);
    return static_cast<std::uint8_t>(sign | (bits_of(aligned) - kAligner));
  }
  constexpr int kDropped = 23 - kMantissa;
  const std::uint32_t odd = magnitude >> kDropped & 1U;
  magnitude += (1U << (kDropped - 1)) - 1U + odd;
  return static_cast<std::uint8_t>(
      sign | ((magnitude >> kDropped) - (static_cast<std::uint32_t>(127 - kBias) << kMantissa)));
}

/// The value of the fields of a finite number.
template <int kMantissa, int kBias>
PIPECAST_HOST_DEVICE float from_fields(std::uint8_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x80U) << 24;
  const std::uint32_t fields = bits & 0x7fU;
  if (fields >> kMantissa == 0) {
    constexpr std::uint32_t kStep = static_cast<std::uint32_t>(127 + 1 - kBias - kMantissa) << 23;
    const float magnitude = static_cast<float>(fields) * float_of(kStep);
    return float_of(bits_of(magnitude) | sign);
  }
  constexpr std::uint32_t kRebias = static_cast<std::uint32_t>(127 - kBias) << 23;
  return float_of((sign | fields << (23 - kMantissa)) + kRebias);
}

}  // namespace detail

PIPECAST_HOST_DEVICE float to_float(E4m3 value) {
  if ((value.bits & 0x7fU) == 0x7fU) return float_of(0x7fc00000U);
  return detail::from_fields<3, 7>(value.bits);
}
PIPECAST_HOST_DEVICE float to_float(E5m2 value) {
  const std::uint32_t fields = value.bits & 0x7fU;
  if (fields > 0x7cU) return float_of(0x7fc00000U);
  if (fields == 0x7cU) return float_of((value.bits & 0x80U) << 24 | 0x7f800000U);
  return detail::from_fields<2, 15>(value.bits);
}

/// Nearest, ties to even, saturating at the largest finite value, as
/// cvt.rn.satfinite.e4m3x2.f32 does; NaN becomes 0x7f.
PIPECAST_HOST_DEVICE E4m3 to_e4m3(float value) {
#if defined(__CUDA_ARCH__)
  std::uint16_t pair;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(0.0F), "f"(value));
  return E4m3{static_cast<std::uint8_t>(pair)};
#else
  if (value != value) return E4m3{0x7f};
  return E4m3{detail::to_fields<3, 7>(value, kLargestE4m3)};
#endif
}
PIPECAST_HOST_DEVICE E5m2 to_e5m2(float value) {
#if defined(__CUDA_ARCH__)
  std::uint16_t pair;
  asm("cvt.rn.satfinite.e5m2x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(0.0F), "f"(value));
  return E5m2{static_cast<std::uint8_t>(pair)};
#else
  if (value != value) return E5m2{0x7f};
  return E5m2{detail::to_fields<2, 15>(value, kLargestE5m2)};
#endif
}

/// Four E4M3 values in a 32-bit word, the first in the lowest byte.
PIPECAST_HOST_DEVICE std::uint32_t pack_e4m3(float a, float b, float c, float d) {
#if defined(__CUDA_ARCH__)
  std::uint16_t low;
  std::uint16_t high;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(low) : "f"(b), "f"(a));
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(high) : "f"(d), "f"(c));
  return static_cast<std::uint32_t>(low) | static_cast<std::uint32_t>(high) << 16;
#else
  return static_cast<std::uint32_t>(to_e4m3(a).bits) |
         static_cast<std::uint32_t>(to_e4m3(b).bits) << 8 |
         static_cast<std::uint32_t>(to_e4m3(c).bits) << 16 |
         static_cast<std::uint32_t>(to_e4m3(d).bits) << 24;
#endif
}

}  // namespace pipecast::kernels
