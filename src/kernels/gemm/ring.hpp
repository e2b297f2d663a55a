#pragma once

/// A ring of stages in shared memory between one thread that starts bulk copies and the warps that
/// multiply: a stage is full when its bytes have landed, empty when every consumer warp has said
/// so. Source: the producer and consumer warpgroups of CUTLASS 3 and DeepGEMM on Hopper.
#include "kernels/simt/hopper.hpp"

namespace pipecast::kernels {

/// A block may use 227 KiB of shared memory (CUDA C++ Programming Guide, compute capability 9.0).
constexpr int kMostSharedBytes = 227 * 1024;
/// Left for mbarriers and for the alignment of what stands behind the stages.
constexpr int kRingReserve = 2048;

/// As many stages as fit beside `other_bytes`, at most eight: more would hide no more latency.
constexpr int stages_that_fit(int stage_bytes, int other_bytes) {
  const int stages = (kMostSharedBytes - kRingReserve - other_bytes) / stage_bytes;
  return stages < 8 ? stages : 8;
}

template <int kStages>
struct Ring {
  Mbarrier full[kStages];
  Mbarrier empty[kStages];

  /// By one thread, with a barrier of the block behind it.
  __device__ __forceinline__ void initialise(int consumer_warps) {
    for (int stage = 0; stage < kStages; ++stage) {
      mbarrier_init(&full[stage], 1);
      mbarrier_init(&empty[stage], consumer_warps);
    }
    mbarrier_init_fence();
  }
};

/// Where a producer or a consumer stands in a ring, and the parity of that pass over it.
template <int kStages>
struct RingPosition {
  int stage = 0;
  int parity = 0;

  __device__ __forceinline__ void step() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
  /// For the producer: until the stage is free; then it expects `bytes`.
  __device__ __forceinline__ Mbarrier* claim(Ring<kStages>& ring, int bytes) const {
    mbarrier_wait(&ring.empty[stage], parity ^ 1);
    mbarrier_expect(&ring.full[stage], bytes);
    return &ring.full[stage];
  }
  __device__ __forceinline__ void wait_full(Ring<kStages>& ring) const {
    mbarrier_wait(&ring.full[stage], parity);
  }
};

}  // namespace pipecast::kernels
