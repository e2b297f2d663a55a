#pragma once

#include <cstdint>

#include "kernels/numbers/fp8.hpp"

namespace pipecast::kernels {

/// Fraction bits that a Hopper tensor core keeps of FP8 products and their sum, relative to the
/// largest of them. Source: DeepSeek-V3 report (arXiv 2412.19437), section 3.5.2 ("14 bits" with
/// the leading one), and the trial of 2.0e-2 at K = 4,096 that this reproduces.
constexpr int kHopperFractionBits = 13;

/// Thirty-two FP8 operands of one tensor core instruction along K, unpacked.
struct Fp8Operands {
  static constexpr int kCount = 32;
  float value[kCount];
  std::int16_t exponent[kCount];  // of the leading digit; a subnormal's is that of the format
  bool finite;
};

Fp8Operands unpack(const E4m3* values, int stride = 1);
Fp8Operands unpack(const E5m2* values, int stride = 1);

/// One step along K of an FP8 matrix product on Hopper: the 32 products and the accumulator are
/// aligned to the largest exponent among them, each truncated towards zero to `fraction_bits`,
/// summed exactly, and the sum truncated to as many bits. Infinity and NaN come out as IEEE
/// arithmetic has them.
/// @param fraction_bits  1 to 23; 23 is the width of FP32
/// Not modelled: the order in which the hardware chains several instructions inside one of K = 32.
float accumulate(float accumulator, const Fp8Operands& a, const Fp8Operands& b, int fraction_bits);

}  // namespace pipecast::kernels
