#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/simt/qualifiers.hpp"

namespace pipecast::kernels {

/// The bits of a float, and back. (std::bit_cast is C++20; nvcc compiles this as C++17.)
PIPECAST_HOST_DEVICE std::uint32_t bits_of(float value) {
  std::uint32_t bits = 0;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}
PIPECAST_HOST_DEVICE float float_of(std::uint32_t bits) {
  float value = 0;
  memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace pipecast::kernels
