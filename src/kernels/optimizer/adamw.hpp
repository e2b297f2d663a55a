#pragma once

#include <cstdint>

#include "kernels/numbers/bf16.hpp"

namespace pipecast::kernels {

/// Sum of squares of FP32 gradients, in FP64, without atomics: for a given number of SMs the same
/// bits every time. Not finite where a gradient is not.
struct GradNorm {
  const float* gradients;
  double* sum_of_squares;  // one number; written, not added to
  double* partial_sums;    // grad_norm_partials() numbers for the kernel's own use
  std::int64_t elements;
  int sms;  // how many SMs the kernel may use; 0 for all
};

/// Partial sums that a GradNorm over so many SMs needs room for.
int grad_norm_partials(int sms);
void grad_norm(const GradNorm& problem);

/// One step of AdamW with BF16 moments and FP32 master weights (DeepSeek-V3 report, arXiv
/// 2412.19437, section 3.3.3): m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g^2,
/// w = w - rate (m / (1 - beta1^step) / (sqrt(v / (1 - beta2^step)) + epsilon) + decay w)
/// (Loshchilov and Hutter 2019). Computed in FP32; the weights take the moments before these are
/// rounded to BF16, to nearest even.
///
/// g is the gradient times min(1, largest_norm / (norm + 1e-6)), norm the root of
/// `sum_of_squares`, as PyTorch's clip_grad_norm_; null: the gradient as it is. Where that sum is
/// not finite the step is left out: nothing is written but `parameters`.
///
/// All arrays have `elements` elements and start at a multiple of 16 bytes.
struct AdamW {
  const float* gradients;
  const double* sum_of_squares;  // null: no clipping
  float* weights;                // master weights, in place
  Bf16* first_moment;            // in place
  Bf16* second_moment;           // in place
  Bf16* parameters;              // the new weights, rounded
  std::int64_t elements;
  int step;  // from 1
  float learning_rate;
  float beta1;
  float beta2;
  float epsilon;
  float weight_decay;
  float largest_norm;
  int sms;
};
void adamw(const AdamW& problem);

}  // namespace pipecast::kernels
