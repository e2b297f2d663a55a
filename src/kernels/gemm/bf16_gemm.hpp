#pragma once

#include "kernels/numbers/bf16.hpp"

namespace pipecast::kernels {

/// D[m, n] = A[m, k] * B[n, k]^T in BF16 with FP32 sums, for what DeepSeek-V3 keeps out of FP8: the
/// gate, the embedding and the output head (arXiv 2412.19437, section 3.3). Either operand may lie
/// transposed, so that a backward product takes what the forward one had. All arrays are the
/// device's, row-major, their rows multiples of 16 bytes; any m and k that this allows, zero too. A
/// NaN or infinity in a row of A stays in that row of D, one of B in that column.
struct Bf16Gemm {
  const Bf16* a;      // m x k, or k x m
  const Bf16* b;      // n x k, or k x n
  bool a_transposed;  // only together with b_transposed
  bool b_transposed;
  Bf16* d;        // m x n; null where the result is FP32
  float* d_fp32;  // m x n; null where it is BF16
  bool add;       // to what d_fp32 holds, with one more rounding
  int m;
  int n;
  int k;
  int sms;      // how many SMs the kernel may use; 0 for all
  int block_n;  // columns of a tile, 128 or 256; 0: the kernel's choice
};

/// @throws DeviceError on extents outside of those above, or a failed launch
void gemm_bf16(const Bf16Gemm& problem);

/// D[m, n] += A[k, m]^T * B[k, n], k being tokens: the gradient of a weight from the gradient of
/// its output and its input, both as they lie.
struct Bf16WeightGradient {
  const Bf16* a;  // k x m
  const Bf16* b;  // k x n
  float* d;       // m x n
  int m;
  int n;
  int k;
  int sms;
};

void gemm_bf16_wgrad(const Bf16WeightGradient& problem);

/// The router's matrix of a layer: scores of every expert for every token, and both gradients.
struct GateGemm {
  int tokens;
  int experts;
  int hidden;
  int sms;
};

/// scores[tokens, experts] = x[tokens, hidden] * w[experts, hidden]^T.
void gate_gemm_fwd(const GateGemm& gate, const Bf16* x, const Bf16* w, float* scores);
/// dx[tokens, hidden] = dscores[tokens, experts] * w[experts, hidden].
void gate_gemm_dgrad(const GateGemm& gate, const Bf16* dscores, const Bf16* w, Bf16* dx);
/// dw[experts, hidden] += dscores[tokens, experts]^T * x[tokens, hidden].
void gate_gemm_wgrad(const GateGemm& gate, const Bf16* dscores, const Bf16* x, float* dw);

/// One product per expert, of rows sorted by expert: those of expert e are offsets[e] to
/// offsets[e + 1], each a multiple of 128 from 0 on (first_row of routing/permute.hpp). Rows past
/// the last expert's are not written. m is a multiple of 128; k is one of 64 where B lies
/// transposed.
struct ContiguousBf16Gemm {
  const Bf16* a;  // m x k
  const Bf16* b;  // experts x n x k, or experts x k x n
  bool b_transposed;
  const int* offsets;  // experts + 1
  Bf16* d;             // m x n
  int experts;
  int m;  // rows of all experts, or room for more
  int n;
  int k;
  int sms;
  int block_n;  // columns of a tile, 128 or 256; 0: the kernel's choice
};

void grouped_gemm_bf16(const ContiguousBf16Gemm& problem);

}  // namespace pipecast::kernels
