#pragma once

/// The step that FP8 products share: 128 of K in the tensor cores, whose accumulator keeps too few
/// bits for more; the caller adds the parts to FP32 sums.
#include "kernels/gemm/result_boxes.hpp"
#include "kernels/simt/hopper.hpp"

namespace pipecast::kernels {

constexpr int kFp8Depth = 128;    // of a step along K, and of what one scale covers
constexpr int kFp8Columns = 128;  // of a tile

/// parts = the warpgroup's 64 rows of `a` times the 128 rows of `b`, both [rows][128] in shared
/// memory. The operands are free again when it returns.
__device__ __forceinline__ void multiply_step(float (&parts)[kFp8Columns / 2], const E4m3* a,
                                              const E4m3* b) {
  constexpr int kInstructionDepth = 32;
  const E4m3* rows = a + warpgroup_index() * kWarpgroupRows * kFp8Depth;
  wgmma_fence();
#pragma unroll
  for (int k = 0; k < kFp8Depth; k += kInstructionDepth) {
    wgmma_e4m3<kFp8Columns>(parts, k_major(rows + k), k_major(b + k), k != 0);
  }
  wgmma_commit();
  wgmma_wait<0>();
}

/// The first of the two rows of a tile that this thread accumulates: see hopper.hpp.
__device__ __forceinline__ int own_row() {
  return warpgroup_index() * kWarpgroupRows + warp_index() % 4 * 16 + lane_index() / 4;
}

}  // namespace pipecast::kernels
