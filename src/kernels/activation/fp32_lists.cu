#include "kernels/activation/fp32_lists.hpp"
#include "kernels/quantise/streaming.hpp"

namespace pipecast::kernels {
namespace {

constexpr int kBlocksPerSm = 4;

int blocks_for(std::int64_t work, int sms) {
  return persistent_grid((work + kStreamingThreads - 1) / kStreamingThreads, sms, kBlocksPerSm);
}

__global__ void __launch_bounds__(kStreamingThreads, kBlocksPerSm)
    round_bf16_kernel(const float* __restrict__ source, Bf16* __restrict__ result,
                      std::int64_t eights) {
  const std::int64_t step = static_cast<std::int64_t>(grid_size()) * kStreamingThreads;
  for (std::int64_t at =
           static_cast<std::int64_t>(block_index()) * kStreamingThreads + thread_index();
       at < eights; at += step) {
    EightFloats x;
    load_fp32(source + at * kEight, x.value);
    store_eight(result + at * kEight, pack(x));
  }
}

__global__ void __launch_bounds__(kStreamingThreads, kBlocksPerSm)
    gather_fp32_kernel(const float* __restrict__ source, const int* __restrict__ index,
                       float* __restrict__ result, std::int64_t elements) {
  const std::int64_t step = static_cast<std::int64_t>(grid_size()) * kStreamingThreads;
  for (std::int64_t at =
           static_cast<std::int64_t>(block_index()) * kStreamingThreads + thread_index();
       at < elements; at += step) {
    const int from = __ldg(index + at);
    result[at] = from < 0 ? 0.0F : __ldg(source + from);
  }
}

}  // namespace

void round_bf16(const RoundBf16& p) {
  if (p.elements < 0 || p.elements % kEight != 0) {
    throw DeviceError("round_bf16: a multiple of 8 elements");
  }
  const std::int64_t eights = p.elements / kEight;
  if (eights == 0) return;
  launch(round_bf16_kernel, {blocks_for(eights, p.sms), kStreamingThreads, 0}, p.source, p.result,
         eights);
}

void gather_fp32(const GatherFp32& p) {
  if (p.elements <= 0) return;
  launch(gather_fp32_kernel, {blocks_for(p.elements, p.sms), kStreamingThreads, 0}, p.source,
         p.index, p.result, p.elements);
}

}  // namespace pipecast::kernels
