#pragma once

/// simt.hpp under g++: every CUDA thread is a fibre, every block runs on one thread of the host.
///
/// A seed orders everything that a GPU leaves open: which warp runs next, in which direction its
/// lanes run, in which order blocks start, when a bulk copy lands. Seed 0 is the plain order, with
/// every asynchronous operation as late as the program allows.
///
/// Finds: deadlocks (divergent barriers, a missing or an extra arrival), results that depend on the
/// order of warps, reads of shared memory that nobody wrote (it starts as NaN), accumulators and
/// buffers used before their wait, operands of a wgmma that differ inside a warp.
/// Cannot see: missing memory or proxy fences, bank conflicts, registers, time; two lanes of a warp
/// between two collectives run one after the other, never interleaved.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <tuple>

#include "kernels/simt/device_error.hpp"
#include "kernels/simt/launch_shape.hpp"

// CUDA's words, as far as kernels here use them.
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)

struct dim3 {
  unsigned x = 1;
  unsigned y = 1;
  unsigned z = 1;
};
struct alignas(16) int4 {
  int x;
  int y;
  int z;
  int w;
};
struct alignas(16) uint4 {
  unsigned x;
  unsigned y;
  unsigned z;
  unsigned w;
};
struct alignas(8) uint2 {
  unsigned x;
  unsigned y;
};
struct alignas(8) float2 {
  float x;
  float y;
};
struct alignas(16) float4 {
  float x;
  float y;
  float z;
  float w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }

namespace pipecast::kernels {

namespace emulation {

/// What the running CUDA thread knows of itself. One per host thread: a fibre stays on its own.
struct ThreadPosition {
  dim3 thread;
  dim3 block;
  dim3 block_extent;
  dim3 grid_extent;
};
extern thread_local ThreadPosition position;

/// Orders of warps, lanes, blocks and copies; 0 is the plain one.
void set_seed(std::uint64_t seed);

/// Launches between construction and `run` are kept, and run together: all their blocks live at
/// once and may wait for each other, as ranks of a dispatch do.
class Together {
 public:
  Together();
  ~Together();
  Together(const Together&) = delete;
  Together& operator=(const Together&) = delete;
  void run();
};

/// Whether a Together keeps launches now.
bool collecting();

void run_grid(const LaunchShape& shape, std::function<void()> body);

/// The shape of this thread's last launch.
LaunchShape last_launch();

/// Blocks the calling fibre while (*word & mask) == value.
void wait_while(const volatile std::uint32_t* word, std::uint32_t mask, std::uint32_t value);

void block_barrier(int id, int threads, bool wait);
/// All lanes of `mask` arrive; returns the 32 values that they brought, by lane.
const std::uint64_t* warp_exchange(unsigned mask, std::uint64_t value);
unsigned char* dynamic_shared_memory();
std::size_t dynamic_shared_bytes();

[[noreturn]] void fail(const char* what);

template <class T>
T exchanged(unsigned mask, T value, int lane) {
  static_assert(sizeof(T) <= 8);
  std::uint64_t word = 0;
  std::memcpy(&word, &value, sizeof value);
  const std::uint64_t* words = warp_exchange(mask, word);
  if ((mask >> (lane & 31) & 1U) == 0) fail("shuffle from a lane outside the mask");
  T result;
  std::memcpy(&result, words + (lane & 31), sizeof result);
  return result;
}
inline int lane() { return static_cast<int>(position.thread.x & 31U); }

}  // namespace emulation

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), const LaunchShape& shape,
            const Arguments&... arguments) {
  emulation::run_grid(
      shape, [kernel, values = std::tuple<std::decay_t<Parameters>...>(
                          std::decay_t<Parameters>(arguments)...)] { std::apply(kernel, values); });
}

template <class... Parameters, class... Arguments>
void launch_together(void (*kernel)(Parameters...), const LaunchShape& shape,
                     const Arguments&... arguments) {
  if (emulation::collecting()) return launch(kernel, shape, arguments...);
  emulation::Together blocks;
  launch(kernel, shape, arguments...);
  blocks.run();
}

/// SMs that a persistent kernel may spread over; small, so that its blocks loop.
inline int device_sms() { return 4; }

template <class T>
T& shared_memory() {
  if (sizeof(T) > emulation::dynamic_shared_bytes()) {
    emulation::fail("the launch has less dynamic shared memory than the kernel uses");
  }
  return *reinterpret_cast<T*>(emulation::dynamic_shared_memory());
}

/// Offset in the block's shared window, which starts after 1 KiB, as on Hopper.
inline std::uint32_t shared_address(const void* pointer) {
  const auto* bytes = static_cast<const unsigned char*>(pointer);
  const std::ptrdiff_t offset = bytes - emulation::dynamic_shared_memory();
  if (offset < 0 || offset >= static_cast<std::ptrdiff_t>(emulation::dynamic_shared_bytes())) {
    emulation::fail("an address outside shared memory where a shared one is needed");
  }
  return static_cast<std::uint32_t>(offset) + 1024U;
}

inline void named_barrier_sync(int id, int threads) { emulation::block_barrier(id, threads, true); }
inline void named_barrier_arrive(int id, int threads) {
  emulation::block_barrier(id, threads, false);
}

inline int computed_here(int value) { return value; }

inline float exp2_fast(float value) {
  const float power = std::exp2(value);
  return power < std::numeric_limits<float>::min() ? 0.0F : power;
}

inline int4 load_streaming(const int4* pointer) { return *pointer; }

inline void store_release_system(std::uint32_t* flag, std::uint32_t value) {
  __atomic_store_n(flag, value, __ATOMIC_RELEASE);
}
inline std::uint32_t load_acquire_system(const std::uint32_t* flag) {
  return __atomic_load_n(flag, __ATOMIC_ACQUIRE);
}
inline std::uint32_t add_release_system(std::uint32_t* flag, std::uint32_t value) {
  return __atomic_fetch_add(flag, value, __ATOMIC_RELEASE);
}
inline void wait_until_system(const std::uint32_t* flag, std::uint32_t value) {
  for (std::uint32_t seen = load_acquire_system(flag); seen < value;
       seen = load_acquire_system(flag)) {
    emulation::wait_while(flag, ~0U, seen);
  }
}

}  // namespace pipecast::kernels

#define threadIdx ::pipecast::kernels::emulation::position.thread
#define blockIdx ::pipecast::kernels::emulation::position.block
#define blockDim ::pipecast::kernels::emulation::position.block_extent
#define gridDim ::pipecast::kernels::emulation::position.grid_extent

inline void __syncthreads() {
  pipecast::kernels::emulation::block_barrier(0, static_cast<int>(blockDim.x), true);
}
inline void __syncwarp(unsigned mask = 0xffffffffU) {
  pipecast::kernels::emulation::warp_exchange(mask, 0);
}
template <class T>
T __shfl_sync(unsigned mask, T value, int lane) {
  return pipecast::kernels::emulation::exchanged(mask, value, lane);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int distance) {
  return pipecast::kernels::emulation::exchanged(mask, value,
                                                 pipecast::kernels::emulation::lane() ^ distance);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, int distance) {
  const int lane = pipecast::kernels::emulation::lane();
  return pipecast::kernels::emulation::exchanged(mask, value,
                                                 lane + distance < 32 ? lane + distance : lane);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, int distance) {
  const int lane = pipecast::kernels::emulation::lane();
  return pipecast::kernels::emulation::exchanged(mask, value,
                                                 lane >= distance ? lane - distance : lane);
}
inline unsigned __ballot_sync(unsigned mask, bool predicate) {
  const std::uint64_t* words =
      pipecast::kernels::emulation::warp_exchange(mask, predicate ? 1U : 0U);
  unsigned ballot = 0;
  for (unsigned lane = 0; lane < 32; ++lane) {
    if ((mask >> lane & 1U) != 0 && words[lane] != 0) ballot |= 1U << lane;
  }
  return ballot;
}
inline int __any_sync(unsigned mask, bool predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, bool predicate) {
  return __ballot_sync(mask, predicate) == mask;
}
inline unsigned __reduce_max_sync(unsigned mask, unsigned value) {
  const std::uint64_t* words = pipecast::kernels::emulation::warp_exchange(mask, value);
  unsigned largest = 0;
  for (unsigned lane = 0; lane < 32; ++lane) {
    if ((mask >> lane & 1U) != 0 && words[lane] > largest) {
      largest = static_cast<unsigned>(words[lane]);
    }
  }
  return largest;
}
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __clz(int bits) { return bits == 0 ? 32 : __builtin_clz(static_cast<unsigned>(bits)); }

inline int atomicAdd(int* place, int value) {
  return __atomic_fetch_add(place, value, __ATOMIC_RELAXED);
}
inline unsigned atomicAdd(unsigned* place, unsigned value) {
  return __atomic_fetch_add(place, value, __ATOMIC_RELAXED);
}
inline int atomicMax(int* place, int value) {
  int seen = __atomic_load_n(place, __ATOMIC_RELAXED);
  while (seen < value && !__atomic_compare_exchange_n(place, &seen, value, false, __ATOMIC_RELAXED,
                                                      __ATOMIC_RELAXED)) {
  }
  return seen;
}
inline float atomicAdd(float* place, float value) {
  auto* word = reinterpret_cast<std::uint32_t*>(place);
  std::uint32_t seen = __atomic_load_n(word, __ATOMIC_RELAXED);
  for (;;) {
    float sum;
    std::memcpy(&sum, &seen, sizeof sum);
    const float before = sum;
    sum += value;
    std::uint32_t next;
    std::memcpy(&next, &sum, sizeof next);
    if (__atomic_compare_exchange_n(word, &seen, next, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
      return before;
    }
  }
}

template <class T>
T __ldg(const T* pointer) {
  return *pointer;
}
inline float rsqrtf(float value) { return 1.0F / std::sqrt(value); }
inline float __expf(float value) { return std::exp(value); }
inline float __logf(float value) { return std::log(value); }
inline float __fdividef(float a, float b) { return a / b; }
inline int __float_as_int(float value) {
  int bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}
inline float __int_as_float(int bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
inline unsigned __float_as_uint(float value) {
  return static_cast<unsigned>(__float_as_int(value));
}
inline float __uint_as_float(unsigned bits) { return __int_as_float(static_cast<int>(bits)); }
inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_system() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
