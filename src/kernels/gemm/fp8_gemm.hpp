#pragma once

#include <cstdint>

#include "kernels/numbers/bf16.hpp"
#include "kernels/numbers/fp8.hpp"

namespace pipecast::kernels {

/// D[m, n] = A[m, k] * B[n, k]^T in FP8 with one scale per 1 x 128 of A and per 128 x 128 of B,
/// partial sums of 128 products promoted to FP32. Source: DeepSeek-V3 report (arXiv 2412.19437),
/// section 3.3. All arrays are the device's, row-major; k and n are multiples of 16, m is free
/// (zero too). A NaN in a row of A makes exactly that row of D NaN, one of B that column.
struct Fp8Gemm {
  const E4m3* a;         // m x k
  const E4m3* b;         // n x k
  const float* a_scale;  // ceil(k / 128) x m
  const float* b_scale;  // ceil(n / 128) x ceil(k / 128)
  Bf16* d;               // m x n
  int m;
  int n;
  int k;
  int sms;      // how many SMs the kernel may use; 0 for all
  int block_m;  // rows of a tile, 64 or 128; 0: the kernel's choice
};

/// @throws DeviceError on extents outside of those above, or a failed launch
void gemm_fp8(const Fp8Gemm& problem);

/// One such product per expert, of rows sorted by expert: those of expert e are offsets[e] to
/// offsets[e + 1], each a multiple of 128 from 0 on (first_row of routing/permute.hpp). Rows past
/// the last expert's are not written. m is a multiple of 128.
struct ContiguousFp8Gemm {
  const E4m3* a;         // m x k
  const E4m3* b;         // experts x n x k
  const float* a_scale;  // ceil(k / 128) x m
  const float* b_scale;  // experts x ceil(n / 128) x ceil(k / 128)
  const int* offsets;    // experts + 1
  Bf16* d;               // m x n
  int experts;
  int m;  // rows of all experts, or room for more
  int n;
  int k;
  int sms;
};

void grouped_gemm_fp8(const ContiguousFp8Gemm& problem);

/// One such product per expert, each with room for as many rows, of which the first counts[expert]
/// are real: a decoder's form, whose launch needs no count on the host. Of D, rows up to the next
/// multiple of 64 from the count are written, and those past the count mean nothing. The capacity
/// is a multiple of 128.
struct MaskedFp8Gemm {
  const E4m3* a;         // experts x capacity x k
  const E4m3* b;         // experts x n x k
  const float* a_scale;  // ceil(k / 128) x (experts capacity)
  const float* b_scale;  // experts x ceil(n / 128) x ceil(k / 128)
  const int* counts;     // experts
  Bf16* d;               // experts x capacity x n
  int experts;
  int capacity;
  int n;
  int k;
  int sms;
  int block_m;  // rows of a tile, 64 or 128; 0: 128
};

void grouped_gemm_fp8(const MaskedFp8Gemm& problem);

}  // namespace pipecast::kernels
