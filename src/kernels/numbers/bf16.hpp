#pragma once

#include <cstdint>

#include "kernels/numbers/bits.hpp"

namespace pipecast::kernels {

/// BF16: the upper half of an FP32.
struct Bf16 {
  std::uint16_t bits;
};

PIPECAST_HOST_DEVICE float to_float(Bf16 value) {
  return float_of(static_cast<std::uint32_t>(value.bits) << 16);
}

/// Nearest, ties to even; infinity past the largest; NaN stays a quiet NaN.
PIPECAST_HOST_DEVICE Bf16 to_bf16(float value) {
#if defined(__CUDA_ARCH__)
  std::uint16_t bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return Bf16{bits};
#else
  const std::uint32_t bits = bits_of(value);
  if ((bits & 0x7fffffffU) > 0x7f800000U) return Bf16{0x7fff};
  return Bf16{static_cast<std::uint16_t>((bits + 0x7fffU + (bits >> 16 & 1U)) >> 16)};
#endif
}

/// Two values packed as a wgmma fragment and a 32-bit store want them: `low` in the lower half.
PIPECAST_HOST_DEVICE std::uint32_t pack_bf16(float low, float high) {
#if defined(__CUDA_ARCH__)
  std::uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
#else
  return static_cast<std::uint32_t>(to_bf16(low).bits) |
         static_cast<std::uint32_t>(to_bf16(high).bits) << 16;
#endif
}

}  // namespace pipecast::kernels
