/// Linears in FP8, of all tokens or of the experts' own: y = x w^T and both gradients.
#pragma once

#include <vector>

#include "kernels/layer/fp8_operands.hpp"
#include "kernels/memory/buffer.hpp"
#include "kernels/numbers/bf16.hpp"

namespace pipecast::kernels {

/// A stack of equal weight matrices, cast once per step by 128 x 128 and transposed for the input
/// gradient.
struct Fp8Weights {
  Buffer<E4m3> codes{};  // matrices x outputs x inputs
  Buffer<float> scales{};
  Buffer<E4m3> transposed{};  // matrices x inputs x outputs
  Buffer<float> transposed_scales{};
  int matrices{};
  int outputs{};
  int inputs{};
};

/// @param source  matrices x outputs x inputs; of several matrices, extents are multiples of 128
Fp8Weights cast_weights(const Buffer<Bf16>& source, int matrices, int outputs, int inputs, int sms);

Buffer<Bf16> linear_forward(const RowsFp8& input, const Fp8Weights& weights, int sms);
Buffer<Bf16> linear_input_gradient(const RowsFp8& output_gradient, const Fp8Weights& weights,
                                   int sms);
Buffer<float> linear_weight_gradient(const ColumnsFp8& output_gradient, const ColumnsFp8& input,
                                     int sms);

/// The same of rows sorted by expert: those of expert e are offsets[e] to offsets[e + 1], each a
/// multiple of 128, so that neither a tile of a product nor a scale of a column has two experts.
Buffer<Bf16> experts_forward(const RowsFp8& input, const Fp8Weights& weights,
                             const Buffer<int>& offsets, int sms);
Buffer<Bf16> experts_input_gradient(const RowsFp8& output_gradient, const Fp8Weights& weights,
                                    const Buffer<int>& offsets, int sms);

/// experts x outputs x inputs; zeros for experts without rows.
Buffer<float> experts_weight_gradient(const ColumnsFp8& output_gradient, const ColumnsFp8& input,
                                      const Buffer<int>& offsets, int sms);

}  // namespace pipecast::kernels
