/// RMSNorm of a layer's tensors, forward and backward.
#pragma once

#include "kernels/memory/buffer.hpp"
#include "kernels/numbers/bf16.hpp"

namespace pipecast::kernels {

/// An RMSNorm of rows of so many columns.
struct NormPart {
  const Buffer<Bf16>& weight;
  int columns;
  float epsilon;
  int sms;
};

struct NormPartGradients {
  Buffer<Bf16> input{};
  Buffer<float> weight{};
};

Buffer<Bf16> norm_forward(const NormPart& norm, const Buffer<Bf16>& input, int rows);
NormPartGradients norm_backward(const NormPart& norm, const Buffer<Bf16>& input,
                                const Buffer<Bf16>& output_gradient, int rows);

/// a + b, rounded to BF16.
Buffer<Bf16> sum_of(const Buffer<Bf16>& a, const Buffer<Bf16>& b, int rows, int columns, int sms);

}  // namespace pipecast::kernels
