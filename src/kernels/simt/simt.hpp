#pragma once

/// What a kernel is written against: CUDA's own words (threadIdx, __syncthreads, __shfl_xor_sync,
/// atomicAdd, ...) and the few functions below. Under nvcc they are the device's; under g++ they
/// are an emulation in which every CUDA thread is a fibre (simt/emulation.hpp says what it can and
/// cannot see). Code that includes this is C++17, as nvcc compiles it so.
///
///   thread_index(), lane_index(), warp_index(), warpgroup_index(), block_index(), grid_size()
///   shared_memory<T>()                   the block's dynamic shared memory, 1,024-byte aligned
///   named_barrier_sync(id, threads)      barriers 1 to 15 of a block
///   named_barrier_arrive(id, threads)
///   computed_here(i)                     i, and nothing that follows from it leaves the loop
///   exp2_fast(x)                         ex2.approx.ftz: 2 to the x, 0 below the smallest normal
///   load_streaming(p)                    ld.global.nc.L1::no_allocate.L2::256B of 16 bytes
///   store_release_system, load_acquire_system, wait_until_system    flags between GPUs
///   launch(kernel, {grid, block, shared_bytes}, arguments...)       from the host
///   launch_together(...)                 the same; all blocks live at once and may wait for each
///                                        other (a cooperative launch)
#include <cstddef>
#include <cstdint>

#include "kernels/simt/qualifiers.hpp"

#if defined(__CUDACC__)
#include "kernels/simt/simt_cuda.hpp"
#else
#include "kernels/simt/emulation/simt.hpp"
#endif

namespace pipecast::kernels {

constexpr int kWarpSize = 32;
constexpr int kWarpgroupSize = 128;
constexpr unsigned kAllLanes = 0xffffffffU;

/// Indices as signed integers: a kernel's arithmetic is signed, as everywhere in this project.
__device__ __forceinline__ int thread_index() { return static_cast<int>(threadIdx.x); }
__device__ __forceinline__ int lane_index() { return thread_index() % kWarpSize; }
__device__ __forceinline__ int warp_index() { return thread_index() / kWarpSize; }
__device__ __forceinline__ int warpgroup_index() { return thread_index() / kWarpgroupSize; }
__device__ __forceinline__ int block_index() { return static_cast<int>(blockIdx.x); }
__device__ __forceinline__ int block_size() { return static_cast<int>(blockDim.x); }
__device__ __forceinline__ int grid_size() { return static_cast<int>(gridDim.x); }

/// Sum and maximum over the warp, in every lane. All lanes must call.
template <class T>
__device__ __forceinline__ T warp_sum(T value) {
  for (int distance = kWarpSize / 2; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, distance);
  }
  return value;
}
__device__ __forceinline__ float warp_max(float value) {
  for (int distance = kWarpSize / 2; distance > 0; distance /= 2) {
    value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, distance));
  }
  return value;
}

}  // namespace pipecast::kernels
