#pragma once

#include "kernels/numbers/fp8.hpp"

namespace pipecast::kernels {

/// D[m, n] += A[m, k] * B[n, k]^T in FP8 with one scale per 1 x 128 of both, k being tokens: the
/// gradient of a weight from the transposed gradient of its output and its transposed input.
/// Partial sums of 128 products are promoted to FP32, and their sum is added to D with one more
/// rounding. Source: DeepSeek-V3 report (arXiv 2412.19437), section 3.3. All arrays are the
/// device's, row-major; k is a multiple of 16, m and n are of 4. No tokens add nothing.
struct Fp8WeightGradient {
  const E4m3* a;         // m x k
  const E4m3* b;         // n x k
  const float* a_scale;  // ceil(k / 128) x m
  const float* b_scale;  // ceil(k / 128) x n
  float* d;              // m x n
  int m;
  int n;
  int k;
  int sms;  // how many SMs the kernel may use; 0 for all
};

/// @throws DeviceError on extents outside of those above, or a failed launch
void gemm_fp8_wgrad(const Fp8WeightGradient& problem);

/// The same for every expert in one launch: expert e has the tokens offsets[e] to offsets[e + 1] of
/// both operands, in multiples of 128 and padded by zeros, or none. m is a multiple of 64.
struct GroupedFp8WeightGradient {
  const E4m3* a;         // m x k
  const E4m3* b;         // n x k
  const float* a_scale;  // k / 128 x m
  const float* b_scale;  // k / 128 x n
  const int* offsets;    // experts + 1
  float* d;              // experts x m x n
  int experts;
  int m;
  int n;
  int k;  // tokens of all experts, or room for more
  int sms;
};

void grouped_gemm_fp8_wgrad(const GroupedFp8WeightGradient& problem);

}  // namespace pipecast::kernels
