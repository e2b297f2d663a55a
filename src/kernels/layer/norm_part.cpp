#include "kernels/layer/norm_part.hpp"

#include "kernels/activation/elementwise.hpp"
#include "kernels/layer/fp8_operands.hpp"
#include "kernels/norm/rms_norm.hpp"

namespace pipecast::kernels {

Buffer<Bf16> norm_forward(const NormPart& norm, const Buffer<Bf16>& input, int rows) {
  auto out = matrix_buffer<Bf16>(rows, norm.columns);
  rmsnorm_fwd(
      {input.data(), norm.weight.data(), out.data(), norm.epsilon, rows, norm.columns, norm.sms});
  return out;
}

NormPartGradients norm_backward(const NormPart& norm, const Buffer<Bf16>& input,
                                const Buffer<Bf16>& output_gradient, int rows) {
  const int partial_rows = rms_norm_partial_rows(rows, norm.columns, norm.sms);
  auto partial = matrix_buffer<float>(partial_rows, norm.columns);
  NormPartGradients out{matrix_buffer<Bf16>(rows, norm.columns),
                        matrix_buffer<float>(1, norm.columns)};
  rmsnorm_bwd({.input = input.data(),
               .weight = norm.weight.data(),
               .output_gradient = output_gradient.data(),
               .input_gradient = out.input.data(),
               .partial = partial.data(),
               .epsilon = norm.epsilon,
               .rows = rows,
               .columns = norm.columns,
               .sms = norm.sms});
  rmsnorm_bwd_finalize({partial.data(), out.weight.data(), partial_rows, norm.columns, norm.sms});
  return out;
}

Buffer<Bf16> sum_of(const Buffer<Bf16>& a, const Buffer<Bf16>& b, int rows, int columns, int sms) {
  auto out = matrix_buffer<Bf16>(rows, columns);
  elementwise_add({a.data(), b.data(), out.data(), rows, columns, sms});
  return out;
}

}  // namespace pipecast::kernels
