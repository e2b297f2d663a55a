/// Matrix products from their extents: what each kind reads, writes and computes. The one place for
/// layers' launch lists and for shapes that a user names.
#pragma once

#include <cstdint>
#include <string_view>

#include "model/operations/operation.hpp"

namespace pipecast {

/// The launch of C[m,n] = A[m,k] * B[k,n], without label and stream.
///
/// FP8 activations (rows of A; both operands of a weight gradient) carry one FP32 scale per 128 of
/// their depth, FP8 weights one per 128 x 128 block. Results are BF16; a weight gradient is added
/// to an accumulator, which is read and written.
/// @param op      gemm_{fp8,bf16}, grouped_gemm_{fp8,bf16}, gemm_{fp8,bf16}_wgrad or
///                gate_gemm_{fwd,dgrad,wgrad}
/// @param m       rows of all groups together
/// @param groups  each with a B of its own
/// @param accumulator  format of a weight gradient; others ignore it
/// @throws Error for another kind, naming it, or extents below 0, or groups below 1
Operation product_operation(std::string_view op, std::int64_t m, std::int64_t n, std::int64_t k,
                            std::int64_t groups, Precision accumulator = Precision::kFp32);

}  // namespace pipecast
