#include <cmath>

#include "kernels/head/cross_entropy.hpp"
#include "kernels/simt/pieces.hpp"
#include "kernels/simt/simt.hpp"

namespace pipecast::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpSize;
constexpr int kInFlight = 4;  // 16-byte pieces of a thread at a time
constexpr int kBlocksPerSm = 4;

/// Sum of exponentials, relative to the largest.
struct Exponentials {
  float largest = -INFINITY;
  float sum = 0.0F;
};

/// What exponents are taken relative to: a number even where there is none yet.
__device__ __forceinline__ float origin(float largest) {
  return largest == -INFINITY ? 0.0F : largest;
}

__device__ __forceinline__ void add(Exponentials& all, const float (&values)[kBf16PerPiece]) {
  float largest = all.largest;
#pragma unroll
  for (int i = 0; i < kBf16PerPiece; ++i) largest = fmaxf(largest, values[i]);
  const float shift = origin(largest);
  all.sum *= __expf(all.largest - shift);
#pragma unroll
  for (int i = 0; i < kBf16PerPiece; ++i) all.sum += __expf(values[i] - shift);
  all.largest = largest;
}

__device__ __forceinline__ Exponentials merged(const Exponentials& a, const Exponentials& b) {
  const float largest = fmaxf(a.largest, b.largest);
  const float shift = origin(largest);
  return {largest, a.sum * __expf(a.largest - shift) + b.sum * __expf(b.largest - shift)};
}

struct RowShared {
  Exponentials partial[kWarps];
};

__global__ void __launch_bounds__(kThreads)
    cross_entropy_fwd_kernel(const Bf16* __restrict__ logits, const int* __restrict__ targets,
                             float* __restrict__ log_sum_exp, float* __restrict__ loss, int rows,
                             int pieces) {
  auto& shared = shared_memory<RowShared>();
  for (int row = block_index(); row < rows; row += grid_size()) {
    const Bf16* own = logits + static_cast<std::int64_t>(row) * pieces * kBf16PerPiece;
    const auto* from = reinterpret_cast<const int4*>(own);
    Exponentials all;
    for (int base = 0; base < pieces; base += kInFlight * kThreads) {
      int4 values[kInFlight];
#pragma unroll
      for (int i = 0; i < kInFlight; ++i) {
        const int at = base + i * kThreads + thread_index();
        if (at < pieces) values[i] = load_streaming(from + at);
      }
#pragma unroll
      for (int i = 0; i < kInFlight; ++i) {
        if (base + i * kThreads + thread_index() >= pieces) continue;
        float terms[kBf16PerPiece];
        unpack_bf16(values[i], terms);
        add(all, terms);
      }
    }
    for (int distance = kWarpSize / 2; distance > 0; distance /= 2) {
      all = merged(all, {__shfl_xor_sync(kAllLanes, all.largest, distance),
                         __shfl_xor_sync(kAllLanes, all.sum, distance)});
    }
    if (lane_index() == 0) shared.partial[warp_index()] = all;
    __syncthreads();
    if (thread_index() == 0) {
      for (int warp = 1; warp < kWarps; ++warp) all = merged(all, shared.partial[warp]);
      const float log_sum = origin(all.largest) + logf(all.sum);
      const int target = targets[row];
      log_sum_exp[row] = log_sum;
      loss[row] = target < 0 ? 0.0F : log_sum - to_float(own[target]);
    }
    __syncthreads();
  }
}

// Not __restrict__: the gradient may take the place of the logits.
__global__ void __launch_bounds__(kThreads)
    cross_entropy_bwd_kernel(const Bf16* logits, const int* __restrict__ targets,
                             const float* __restrict__ log_sum_exp, Bf16* logits_grad, float weight,
                             int rows, int pieces) {
  for (int row = block_index(); row < rows; row += grid_size()) {
    const auto* from =
        reinterpret_cast<const int4*>(logits) + static_cast<std::int64_t>(row) * pieces;
    auto* to = reinterpret_cast<int4*>(logits_grad) + static_cast<std::int64_t>(row) * pieces;
    const int target = __ldg(targets + row);
    const float log_sum = __ldg(log_sum_exp + row);
    for (int base = 0; base < pieces; base += kInFlight * kThreads) {
      int4 values[kInFlight];
#pragma unroll
      for (int i = 0; i < kInFlight; ++i) {
        const int at = base + i * kThreads + thread_index();
        if (at < pieces) values[i] = from[at];
      }
#pragma unroll
      for (int i = 0; i < kInFlight; ++i) {
        const int at = base + i * kThreads + thread_index();
        if (at >= pieces) continue;
        float terms[kBf16PerPiece];
        unpack_bf16(values[i], terms);
#pragma unroll
        for (int j = 0; j < kBf16PerPiece; ++j) {
          const float hit = at * kBf16PerPiece + j == target ? 1.0F : 0.0F;
          terms[j] = target < 0 ? 0.0F : weight * (__expf(terms[j] - log_sum) - hit);
        }
        to[at] = pack_piece(terms);
      }
    }
  }
}

void check_extents(const char* what, int rows, int vocabulary) {
  if (rows < 0 || vocabulary < 1 || vocabulary % kBf16PerPiece != 0) {
    throw DeviceError(std::string(what) + ": vocabulary is a multiple of 8");
  }
}

}  // namespace

void cross_entropy_fwd(const CrossEntropyForward& p) {
  check_extents("cross_entropy_fwd", p.rows, p.vocabulary);
  if (p.rows == 0) return;
  launch(cross_entropy_fwd_kernel,
         {persistent_grid(p.rows, p.sms, kBlocksPerSm), kThreads, sizeof(RowShared)}, p.logits,
         p.targets, p.log_sum_exp, p.loss, p.rows, p.vocabulary / kBf16PerPiece);
}

void cross_entropy_bwd(const CrossEntropyBackward& p) {
  check_extents("cross_entropy_bwd", p.rows, p.vocabulary);
  if (p.rows == 0) return;
  launch(cross_entropy_bwd_kernel, {persistent_grid(p.rows, p.sms, kBlocksPerSm), kThreads, 0},
         p.logits, p.targets, p.log_sum_exp, p.logits_grad, p.weight, p.rows,
         p.vocabulary / kBf16PerPiece);
}

}  // namespace pipecast::kernels
