#pragma once

#include <cstdint>

#include "kernels/numbers/bf16.hpp"
#include "kernels/numbers/fp8.hpp"

namespace pipecast::kernels {

/// D[m, n] = A[m, k] * B[n, k]^T in FP8 with one scale per 1 x 128 of A and per 128 x 128 of B,
/// partial sums promoted to FP32 every 128 of K. Source: DeepSeek-V3 report (arXiv 2412.19437),
/// section 3.3. k is a multiple of 128, n of 8; m is free. All arrays are the device's, row-major.
struct Fp8Gemm {
  const E4m3* a;         // m x k
  const E4m3* b;         // n x k
  const float* a_scale;  // (k / 128) x m
  const float* b_scale;  // ceil(n / 128) x (k / 128)
  Bf16* d;               // m x n
  int m;
  int n;
  int k;
  int sms;  // how many SMs the kernel may use; 0 for all
};

/// @throws DeviceError on extents outside of those above, or a failed launch
void fp8_gemm(const Fp8Gemm& problem);

}  // namespace pipecast::kernels
