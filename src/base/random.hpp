/// Seeded random numbers: one generator per purpose, the same bits on every machine and thread.
#pragma once

#include <cstdint>
#include <string_view>

namespace pipecast {

/// xoshiro256** (Blackman and Vigna 2018), seeded through splitmix64 from (seed, purpose, index),
/// so that adding a generator for a new purpose changes no other one's numbers.
class Random {
 public:
  Random(std::uint64_t seed, std::string_view purpose, std::uint64_t index = 0);

  /// Uniform over all 64-bit values.
  std::uint64_t bits() {
    const std::uint64_t result = rotate(state_[1] * 5, 7) * 9;
    const std::uint64_t shifted = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= shifted;
    state_[3] = rotate(state_[3], 45);
    return result;
  }

  /// Uniform in [0, 1), 53 bits.
  double uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }

  /// Uniform in 0 .. bound-1 without bias (Lemire 2019); bound > 0.
  std::uint64_t below(std::uint64_t bound);

  /// Normal with mean 0 and variance 1 (Marsaglia's polar method).
  double normal();

 private:
  static constexpr std::uint64_t rotate(std::uint64_t x, int k) {
    return (x << k) | (x >> (64 - k));
  }
  std::uint64_t state_[4];
};

}  // namespace pipecast
