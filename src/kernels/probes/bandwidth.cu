#include "kernels/probes/bandwidth.hpp"
#include "kernels/simt/simt.hpp"

namespace pipecast::kernels {
namespace {

// One block per SM: the GPU spreads the blocks of a small grid over its SMs, so that as many blocks
// as SMs are asked for occupy just those.
constexpr int kThreads = 1024;
constexpr int kAhead =
    4;  // words in flight per thread: 64 KB an SM, more than the HBM's latency takes
constexpr int kWord = 16;  // bytes

__global__ void nothing_kernel() {}

__global__ void __launch_bounds__(kThreads)
    copy_kernel(const int4* __restrict__ from, int4* __restrict__ to, std::int64_t words) {
  const std::int64_t stride = static_cast<std::int64_t>(grid_size()) * kThreads * kAhead;
  const std::int64_t first = static_cast<std::int64_t>(block_index()) * kThreads * kAhead;
  for (std::int64_t base = first; base < words; base += stride) {
    int4 held[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const std::int64_t at = base + i * kThreads + thread_index();
      if (at < words) held[i] = load_streaming(from + at);
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const std::int64_t at = base + i * kThreads + thread_index();
      if (at < words) to[at] = held[i];
    }
  }
}

__device__ __forceinline__ std::uint32_t folded(int4 word) {
  return static_cast<std::uint32_t>(word.x ^ word.y ^ word.z ^ word.w);
}

/// Past the L1, which would keep what a block reads again.
__global__ void __launch_bounds__(kThreads)
    read_kernel(const int4* __restrict__ data, std::int64_t words, int passes,
                std::uint32_t* __restrict__ sums) {
  std::uint32_t sum = 0;
  // Blocks begin apart, so that they do not all want the same slice of the L2 at once.
  const std::int64_t shift = words / grid_size() * block_index();
  for (int pass = 0; pass < passes; ++pass) {
    for (std::int64_t base = 0; base < words; base += kThreads * kAhead) {
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        const std::int64_t at = base + i * kThreads + thread_index();
        const std::int64_t turned = at + shift < words ? at + shift : at + shift - words;
        if (at < words) sum ^= folded(load_streaming(data + turned));
      }
    }
  }
  for (int distance = kWarpSize / 2; distance > 0; distance /= 2) {
    sum ^= __shfl_xor_sync(kAllLanes, sum, distance);
  }
  auto& parts = shared_memory<std::uint32_t[kThreads / kWarpSize]>();
  if (lane_index() == 0) parts[warp_index()] = sum;
  __syncthreads();
  if (thread_index() > 0) return;
  std::uint32_t total = 0;
  for (int warp = 0; warp < kThreads / kWarpSize; ++warp) total ^= parts[warp];
  sums[block_index()] = total;
}

int blocks_on(int sms) { return sms > 0 ? sms : device_sms(); }

}  // namespace

void launch_nothing() { launch(nothing_kernel, {1, kWarpSize, 0}); }

void copy_bytes(const void* from, void* to, std::int64_t bytes, int sms) {
  if (bytes < 0 || bytes % kWord != 0) throw DeviceError("copy_bytes: a multiple of 16 bytes");
  if (bytes == 0) return;
  launch(copy_kernel, {blocks_on(sms), kThreads, 0}, static_cast<const int4*>(from),
         static_cast<int4*>(to), bytes / kWord);
}

int read_blocks(int sms) { return blocks_on(sms); }

void read_repeatedly(const void* data, std::int64_t words, int passes, std::uint32_t* sums,
                     int sms) {
  if (words <= 0 || passes <= 0) throw DeviceError("read_repeatedly: nothing to read");
  launch(read_kernel, {blocks_on(sms), kThreads, kThreads / kWarpSize * sizeof(std::uint32_t)},
         static_cast<const int4*>(data), words, passes, sums);
}

}  // namespace pipecast::kernels
