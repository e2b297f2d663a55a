#pragma once

#include <cstdint>

#include "kernels/numbers/bf16.hpp"

namespace pipecast::kernels {

// The pointwise work of a layer, in BF16 where nothing else is said. Columns and strides are
// multiples of 8 elements, pointers of 16 bytes; other extents and failed launches throw
// DeviceError. All arrays are the device's.

/// Part of a tensor into or out of a wider one, as keys are put together from the up-projected part
/// and the rotary one. Source and destination do not overlap.
struct CopyStrided {
  const Bf16* source;
  Bf16* destination;
  std::int64_t source_stride;  // from row to row
  std::int64_t destination_stride;
  int rows;
  int columns;
  int sms;  // how many SMs the kernel may use; 0 for all
};
void copy_strided(const CopyStrided& problem);

/// sum = a + b, the residual; `sum` may be `a` or `b`.
struct ElementwiseAdd {
  const Bf16* a;  // rows x columns
  const Bf16* b;
  Bf16* sum;
  int rows;
  int columns;
  int sms;
};
void elementwise_add(const ElementwiseAdd& problem);

/// A row for all heads (the rotary key), or the sum over heads of what they have (its gradient, in
/// FP32 in the order of the heads).
struct ElementwiseHeads {
  const Bf16* source;
  Bf16* result;
  std::int64_t shared_stride;  // from row to row of the tensor that has one part for all heads
  std::int64_t row_stride;     // of the tensor that has a part per head
  std::int64_t head_stride;
  int rows;
  int heads;
  int columns;
  int sms;
};
void elementwise_to_heads(const ElementwiseHeads& problem);
void elementwise_of_heads(const ElementwiseHeads& problem);

/// 1 / (1 + exp(-x)) in FP32, of the router's scores; `result` may be `source`.
struct ElementwiseSigmoid {
  const float* source;  // rows x columns
  float* result;
  int rows;
  int columns;
  int sms;
};
void elementwise_sigmoid(const ElementwiseSigmoid& problem);

}  // namespace pipecast::kernels
