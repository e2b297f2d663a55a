#pragma once

#include <cstdint>

#include "kernels/numbers/bf16.hpp"
#include "kernels/numbers/e5m6.hpp"

namespace pipecast::kernels {

/// The attention output to the 12-bit format in which it is kept for the backward pass, without
/// scales, and back. Source: DeepSeek-V3 report (arXiv 2412.19437), section 3.3.3. Two codes take
/// three bytes: the first has the lower 12 bits of the 24, the lowest byte first. `columns` is a
/// multiple of 8; rows follow one another without a gap. What is past the largest code saturates,
/// infinity too; NaN stays NaN.
struct CastE5m6 {
  const Bf16* source;    // rows x columns
  std::uint8_t* packed;  // rows x columns * 3 / 2 bytes, aligned to 16
  int rows;
  int columns;
  int sms;  // how many SMs the kernel may use; 0 for all
};
struct UncastE5m6 {
  const std::uint8_t* packed;
  Bf16* result;
  int rows;
  int columns;
  int sms;
};

/// @throws DeviceError on columns that are no multiple of 8, or a failed launch
void cast_e5m6(const CastE5m6& problem);
void uncast_e5m6(const UncastE5m6& problem);

}  // namespace pipecast::kernels
