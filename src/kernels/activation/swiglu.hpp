#pragma once

#include "kernels/numbers/bf16.hpp"
#include "kernels/numbers/fp8.hpp"
#include "kernels/quantise/tile_scale.hpp"

namespace pipecast::kernels {

/// The inputs of SwiGLU as they were kept: rows x 2 width, the gate's elements first. Either
/// `values` or `codes` is given.
struct GateAndUp {
  const Bf16* values;
  const E4m3* codes;    // with a scale per 1 x 128
  const float* scales;  // of rows x ceil(2 width / 128) tiles, in `order`
  ScaleOrder order;
};

/// silu(gate) * up, where silu(x) = x / (1 + exp(-x)). Source: Shazeer 2020, "GLU Variants Improve
/// Transformer". `width` is a multiple of 8. Computed in FP32 and rounded to BF16, before a cast
/// too, so that fused and separate kernels give the same bits. silu(-infinity) is 0, its limit. All
/// arrays are the device's, row-major.
struct Swiglu {
  const Bf16* gate_up;  // rows x 2 width
  Bf16* output;         // rows x width
  int rows;
  int width;
  int sms;  // how many SMs the kernel may use; 0 for all
};
void swiglu_fwd(const Swiglu& problem);

/// The same, cast as cast_fp8_1x128 does.
struct SwigluCast {
  const Bf16* gate_up;
  E4m3* codes;    // rows x width
  float* scales;  // of rows x ceil(width / 128) tiles, in `order`
  ScaleOrder order;
  int rows;
  int width;
  int sms;
};
void swiglu_fwd_and_cast_fp8(const SwigluCast& problem);

/// The output again from what was kept, cast and transposed as cast_transpose_fp8_128x1 does: an
/// operand of the down projection's weight gradient.
struct SwigluRecompute {
  GateAndUp gate_up;
  E4m3* transposed;   // width x padded_tokens(rows)
  float* new_scales;  // padded_tokens(rows) / 128 x width
  int rows;
  int width;
  int sms;
};
void swiglu_recompute_and_cast_transpose(const SwigluRecompute& problem);

/// d gate = dy up s (1 + gate (1 - s)), d up = dy silu(gate), with s = 1 / (1 + exp(-gate)).
struct SwigluBackward {
  GateAndUp gate_up;
  const Bf16* output_gradient;  // rows x width
  Bf16* gate_up_gradient;       // rows x 2 width
  int rows;
  int width;
  int sms;
};
void swiglu_bwd(const SwigluBackward& problem);         // of the routed experts
void swiglu_bwd_shared(const SwigluBackward& problem);  // of the shared expert or a dense layer

/// The output of the routed rows again, for the weight gradients, and the gradient, where a row's
/// output is multiplied by its routing weight after the down projection: `output_gradient` is then
/// without the weight and `gate_up_gradient` with it.
struct SwigluForwardBackward {
  const Bf16* gate_up;
  const Bf16* output_gradient;
  const float* row_weight;  // rows; null: 1
  Bf16* output;             // rows x width, without the weight
  Bf16* gate_up_gradient;
  int rows;
  int width;
  int sms;
};
void swiglu_fwd_bwd_routed(const SwigluForwardBackward& problem);

/// Gradient of the routing weights: of a choice the product of its row's output and that output's
/// gradient, both without the weight; FP32, in a fixed order. Choices without a row here keep what
/// they hold.
struct SwigluWeightBackward {
  const Bf16* output;           // rows x width
  const Bf16* output_gradient;  // rows x width
  const int* choice_of_row;     // rows; below 0: the row is padding
  float* weight_gradient;       // choices
  int rows;
  int width;
  int sms;
};
void swiglu_weight_bwd(const SwigluWeightBackward& problem);

// All throw DeviceError on a width that is no multiple of 8, without or with both of GateAndUp's
// sources, or on a failed launch.

}  // namespace pipecast::kernels
