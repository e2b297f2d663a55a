#pragma once

#include <cstdint>
#include <vector>

#include "kernels/numbers/bf16.hpp"

namespace pipecast::kernels {

/// Rotary position embedding in place: of every head, elements 2 i and 2 i + 1 of the rotary part
/// are one pair, which turns by position * base^(-2 i / width) and stays where it is. Source: Su et
/// al. 2021, and the model code published with DeepSeek-V3 (inference/model.py). Serves queries (a
/// rotary part per head) and the key that all heads share (heads = 1). Pointers, strides and
/// `width` are multiples of 8 elements. A position outside of the table turns into NaN. All arrays
/// are the device's.
struct Rope {
  Bf16* data;            // the first rotary element of row 0, head 0
  const int* positions;  // rows
  const float* table;    // table_positions x width / 2 x (cosine, sine), aligned to 16 bytes
  int table_positions;
  int rows;
  int heads;
  int width;  // of the rotary part: 64 in DeepSeek-V3
  std::int64_t row_stride;
  std::int64_t head_stride;
  bool backward;  // turns back, as the gradient does
  int sms;        // how many SMs the kernel may use; 0 for all
};

/// @throws DeviceError on extents outside of those above, or a failed launch
void rope(const Rope& problem);

/// The table, computed in FP64: position by position, cosine and sine of every pair.
std::vector<float> rope_table(int positions, int width, double base);

}  // namespace pipecast::kernels
