#pragma once

#include "kernels/numbers/bf16.hpp"

namespace pipecast::kernels {

/// Input of the projection of a multi-token prediction module, per token
/// [RMSNorm(hidden); RMSNorm(embedding)], where RMSNorm(x) = weight * x / sqrt(mean(x^2) +
/// epsilon), computed in FP32. Source: DeepSeek-V3 report (arXiv 2412.19437), equation 21. columns
/// is a multiple of 8 and at most 8,192.
struct MtpConcatNorm {
  const Bf16* hidden;            // tokens x columns, of the depth before
  const Bf16* embedding;         // tokens x columns, of the token that comes next
  const Bf16* hidden_weight;     // columns
  const Bf16* embedding_weight;  // columns
  Bf16* output;                  // tokens x (2 columns)
  int tokens;
  int columns;
  float epsilon;
  int sms;  // how many SMs the kernel may use; 0 for all
};
/// @throws DeviceError on extents outside of those above, or a failed launch
void mtp_concat_norm(const MtpConcatNorm& problem);

/// Gradients of both inputs and both weights. With r = 1 / sqrt(mean(x^2) + epsilon) and g the
/// output's gradient, that of x is r (g weight - x r^2 mean(g weight x)), that of the weight the
/// sum over tokens of g x r. Without atomics: for a given number of SMs the same bits every time.
struct MtpConcatNormBackward {
  const Bf16* hidden;
  const Bf16* embedding;
  const Bf16* hidden_weight;
  const Bf16* embedding_weight;
  const Bf16* output_grad;       // tokens x (2 columns)
  Bf16* hidden_grad;             // tokens x columns
  Bf16* embedding_grad;          // tokens x columns
  float* hidden_weight_grad;     // columns; written, not added to
  float* embedding_weight_grad;  // columns
  float* partial_sums;           // mtp_partial_rows(sms) x columns, for the kernel's own use
  int tokens;
  int columns;
  float epsilon;
  int sms;
};
int mtp_partial_rows(int sms);
void mtp_concat_norm_bwd(const MtpConcatNormBackward& problem);

}  // namespace pipecast::kernels
