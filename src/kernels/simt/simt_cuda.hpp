#pragma once

/// simt.hpp on the device: CUDA's own words, and inline PTX for the rest.
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels/simt/device_error.hpp"
#include "kernels/simt/launch_shape.hpp"

namespace pipecast::kernels {

inline void check_cuda(cudaError_t status, const char* what) {
  if (status != cudaSuccess) {
    throw DeviceError(std::string(what) + ": " + cudaGetErrorString(status));
  }
}

/// Enqueues `kernel` on the current device's default stream.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), const LaunchShape& shape,
            const Arguments&... arguments) {
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  static_cast<int>(shape.shared_bytes)),
             "shared memory of a kernel");
  kernel<<<static_cast<unsigned>(shape.grid), static_cast<unsigned>(shape.block),
           shape.shared_bytes>>>(Parameters(arguments)...);
  check_cuda(cudaGetLastError(), "launch of a kernel");
}

/// The same, with all blocks on the SMs at once: they may wait for each other.
template <class... Parameters, class... Arguments>
void launch_together(void (*kernel)(Parameters...), const LaunchShape& shape,
                     const Arguments&... arguments) {
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  static_cast<int>(shape.shared_bytes)),
             "shared memory of a kernel");
  cudaLaunchAttribute cooperative{};
  cooperative.id = cudaLaunchAttributeCooperative;
  cooperative.val.cooperative = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(shape.grid));
  config.blockDim = dim3(static_cast<unsigned>(shape.block));
  config.dynamicSmemBytes = shape.shared_bytes;
  config.attrs = &cooperative;
  config.numAttrs = 1;
  check_cuda(cudaLaunchKernelEx(&config, kernel, Parameters(arguments)...), "launch of a kernel");
}

/// SMs of the current device.
inline int device_sms() {
  int device = 0;
  int sms = 0;
  check_cuda(cudaGetDevice(&device), "current device");
  check_cuda(cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, device), "number of SMs");
  return sms;
}

template <class T>
__device__ __forceinline__ T& shared_memory() {
  extern __shared__ __align__(1024) unsigned char pipecast_shared_memory[];
  return *reinterpret_cast<T*>(pipecast_shared_memory);
}

/// Address in the shared window, as PTX instructions take it.
__device__ __forceinline__ std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

__device__ __forceinline__ void named_barrier_sync(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
__device__ __forceinline__ void named_barrier_arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

__device__ __forceinline__ float exp2_fast(float value) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(value));
  return result;
}

/// The value, of which the compiler knows no more than its type: what follows from it is computed
/// where it stands, not once ahead of a loop that has no registers left to keep it.
__device__ __forceinline__ int computed_here(int value) {
  asm volatile("" : "+r"(value));
  return value;
}

/// Sixteen bytes read once: past the L1, with 256 bytes fetched into the L2.
__device__ __forceinline__ int4 load_streaming(const int4* pointer) {
  int4 value;
  asm volatile("ld.global.nc.L1::no_allocate.L2::256B.v4.s32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(pointer));
  return value;
}

__device__ __forceinline__ void store_release_system(std::uint32_t* flag, std::uint32_t value) {
  asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(flag), "r"(value) : "memory");
}
__device__ __forceinline__ std::uint32_t load_acquire_system(const std::uint32_t* flag) {
  std::uint32_t value;
  asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(value) : "l"(flag) : "memory");
  return value;
}
__device__ __forceinline__ std::uint32_t add_release_system(std::uint32_t* flag,
                                                            std::uint32_t value) {
  std::uint32_t before;
  asm volatile("atom.add.release.sys.global.u32 %0, [%1], %2;"
               : "=r"(before)
               : "l"(flag), "r"(value)
               : "memory");
  return before;
}
/// Spins until the flag is at least `value`.
__device__ __forceinline__ void wait_until_system(const std::uint32_t* flag, std::uint32_t value) {
  while (load_acquire_system(flag) < value) {
  }
}

}  // namespace pipecast::kernels
