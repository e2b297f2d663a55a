#include "kernels/layer/fp8_linear.hpp"

#include "kernels/gemm/fp8_gemm.hpp"
#include "kernels/gemm/fp8_wgrad_gemm.hpp"
#include "kernels/quantise/cast_fp8.hpp"
#include "kernels/quantise/transpose_fp8.hpp"

namespace pipecast::kernels {
namespace {

int tiles_of(int extent) { return (extent + kScaleTile - 1) / kScaleTile; }

Buffer<Bf16> product(const RowsFp8& a, const E4m3* b, const float* b_scale, int n, int sms) {
  auto out = matrix_buffer<Bf16>(a.rows, n);
  gemm_fp8({.a = a.codes.data(),
            .b = b,
            .a_scale = a.scales.data(),
            .b_scale = b_scale,
            .d = out.data(),
            .m = a.rows,
            .n = n,
            .k = a.columns,
            .sms = sms,
            .block_m = 0});
  return out;
}

Buffer<Bf16> experts_product(const RowsFp8& a, const E4m3* b, const float* b_scale, int experts,
                             int n, const Buffer<int>& offsets, int sms) {
  auto out = matrix_buffer<Bf16>(a.rows, n);
  grouped_gemm_fp8(ContiguousFp8Gemm{.a = a.codes.data(),
                                     .b = b,
                                     .a_scale = a.scales.data(),
                                     .b_scale = b_scale,
                                     .offsets = offsets.data(),
                                     .d = out.data(),
                                     .experts = experts,
                                     .m = a.rows,
                                     .n = n,
                                     .k = a.columns,
                                     .sms = sms});
  return out;
}

}  // namespace

Fp8Weights cast_weights(const Buffer<Bf16>& source, int matrices, int outputs, int inputs,
                        int sms) {
  const int tiles = tiles_of(outputs) * tiles_of(inputs);
  Fp8Weights out{matrix_buffer<E4m3>(matrices * outputs, inputs),
                 matrix_buffer<float>(matrices, tiles),
                 matrix_buffer<E4m3>(matrices * inputs, outputs),
                 matrix_buffer<float>(matrices, tiles),
                 matrices,
                 outputs,
                 inputs};
  cast_fp8_128x128(
      {source.data(), out.codes.data(), out.scales.data(), matrices * outputs, inputs, sms});
  for (int matrix = 0; matrix < matrices; ++matrix) {
    const auto elements = static_cast<std::ptrdiff_t>(matrix) * outputs * inputs;
    const auto scales = static_cast<std::ptrdiff_t>(matrix) * tiles;
    transpose_fp8({out.codes.data() + elements, out.scales.data() + scales,
                   out.transposed.data() + elements, out.transposed_scales.data() + scales, outputs,
                   inputs, sms});
  }
  return out;
}

Buffer<Bf16> linear_forward(const RowsFp8& input, const Fp8Weights& weights, int sms) {
  return product(input, weights.codes.data(), weights.scales.data(), weights.outputs, sms);
}

Buffer<Bf16> linear_input_gradient(const RowsFp8& output_gradient, const Fp8Weights& weights,
                                   int sms) {
  return product(output_gradient, weights.transposed.data(), weights.transposed_scales.data(),
                 weights.inputs, sms);
}

Buffer<float> linear_weight_gradient(const ColumnsFp8& output_gradient, const ColumnsFp8& input,
                                     int sms) {
  Buffer<float> out = zeros(output_gradient.columns, input.columns);
  gemm_fp8_wgrad({.a = output_gradient.codes.data(),
                  .b = input.codes.data(),
                  .a_scale = output_gradient.scales.data(),
                  .b_scale = input.scales.data(),
                  .d = out.data(),
                  .m = output_gradient.columns,
                  .n = input.columns,
                  .k = input.padded_tokens,
                  .sms = sms});
  return out;
}

Buffer<Bf16> experts_forward(const RowsFp8& input, const Fp8Weights& weights,
                             const Buffer<int>& offsets, int sms) {
  return experts_product(input, weights.codes.data(), weights.scales.data(), weights.matrices,
                         weights.outputs, offsets, sms);
}

Buffer<Bf16> experts_input_gradient(const RowsFp8& output_gradient, const Fp8Weights& weights,
                                    const Buffer<int>& offsets, int sms) {
  return experts_product(output_gradient, weights.transposed.data(),
                         weights.transposed_scales.data(), weights.matrices, weights.inputs,
                         offsets, sms);
}

Buffer<float> experts_weight_gradient(const ColumnsFp8& output_gradient, const ColumnsFp8& input,
                                      const Buffer<int>& offsets, int sms) {
  const int experts = static_cast<int>(offsets.size()) - 1;
  Buffer<float> out =
      zeros(static_cast<std::int64_t>(experts) * output_gradient.columns, input.columns);
  grouped_gemm_fp8_wgrad({.a = output_gradient.codes.data(),
                          .b = input.codes.data(),
                          .a_scale = output_gradient.scales.data(),
                          .b_scale = input.scales.data(),
                          .offsets = offsets.data(),
                          .d = out.data(),
                          .experts = experts,
                          .m = output_gradient.columns,
                          .n = input.columns,
                          .k = input.padded_tokens,
                          .sms = sms});
  return out;
}

}  // namespace pipecast::kernels
