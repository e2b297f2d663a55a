#pragma once

#include "kernels/numbers/bf16.hpp"
#include "kernels/numbers/fp8.hpp"

namespace pipecast::kernels {

/// What the tensor cores make of one row of operands: D[64, n] = A[64, k] * B[k, n] by four wgmma
/// in one group, k of 128 bytes. On a GPU the result is compared with the emulation's bits.

/// k = 128. a: 64 x 128, b: n x 128 (K contiguous), d: 64 x n. n: 64, 128, 192 or 256.
void one_product_fp8(const E4m3* a, const E4m3* b, float* d, int n);

/// k = 64. `a_by_k`: a is 64 x 64 with K contiguous, else k x m. `b_by_k`: b is n x k, else k x n.
/// `a_in_registers`: the left operand as a fragment (then a_by_k). n: 64, 128, 192 or 256.
struct OneProductBf16 {
  const Bf16* a;
  const Bf16* b;
  float* d;
  int n;
  bool a_by_k;
  bool b_by_k;
  bool a_in_registers;
};
void one_product_bf16(const OneProductBf16& problem);

}  // namespace pipecast::kernels
