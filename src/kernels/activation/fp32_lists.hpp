#pragma once

#include <cstdint>

#include "kernels/numbers/bf16.hpp"

namespace pipecast::kernels {

/// FP32 to the nearest BF16. `elements` is a multiple of 8, zero too; both arrays are aligned to 16
/// bytes.
struct RoundBf16 {
  const float* source;
  Bf16* result;
  std::int64_t elements;
  int sms;  // how many SMs the kernel may use; 0 for all
};

/// result[i] = source[index[i]], zero where the index is negative: routing weights from the
/// order of choices to that of permuted rows.
struct GatherFp32 {
  const float* source;
  const int* index;  // elements
  float* result;     // elements
  std::int64_t elements;
  int sms;
};

/// @throws DeviceError on elements other than those above, or a failed launch
void round_bf16(const RoundBf16& problem);
void gather_fp32(const GatherFp32& problem);

}  // namespace pipecast::kernels
