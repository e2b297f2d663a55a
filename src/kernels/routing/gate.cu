#include <cmath>

#include "kernels/routing/gate.hpp"
#include "kernels/routing/selection.hpp"
#include "kernels/simt/pieces.hpp"
#include "kernels/simt/simt.hpp"

namespace pipecast::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpSize;
constexpr int kBlocksPerSm = 8;
constexpr int kMostExperts = 1024;
// Keeps the quotient finite where all chosen scores are zero. Source: DeepSeek-V3's model code.
constexpr float kSmallestSum = 1e-20F;

__device__ __forceinline__ float sigmoid(float logit) { return 1.0F / (1.0F + expf(-logit)); }

__device__ __forceinline__ float as_float(float value) { return value; }
__device__ __forceinline__ float as_float(Bf16 value) { return to_float(value); }
template <class T>
__device__ __forceinline__ T rounded_to(float value);
template <>
__device__ __forceinline__ float rounded_to<float>(float value) {
  return value;
}
template <>
__device__ __forceinline__ Bf16 rounded_to<Bf16>(float value) {
  return to_bf16(value);
}

template <class T, int kPerLane>
__global__ void __launch_bounds__(kThreads)
    gate_topk_kernel(const T* __restrict__ logits, const float* __restrict__ bias,
                     int* __restrict__ chosen, float* __restrict__ weights, int tokens,
                     Selection selection, float scale) {
  constexpr int kExperts = kPerLane * kWarpSize;
  const int lane = lane_index();
  float biases[kPerLane];
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    biases[i] = bias == nullptr ? 0.0F : __ldg(bias + lane * kPerLane + i);
  }
  for (int token = block_index() * kWarps + warp_index(); token < tokens;
       token += grid_size() * kWarps) {
    const T* row = logits + static_cast<std::int64_t>(token) * kExperts;
    const auto own = reinterpret_cast<const Elements<T, kPerLane>*>(row)[lane];
    float scores[kPerLane];
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) scores[i] = sigmoid(as_float(own.values[i])) + biases[i];
    const int expert = select_best(scores, selection);
    // Without the bias: read again, from the L1.
    const float score = lane < selection.top_k ? sigmoid(as_float(row[expert])) : 0.0F;
    const float sum = warp_sum(score) + kSmallestSum;
    if (lane < selection.top_k) {
      const std::int64_t at = static_cast<std::int64_t>(token) * selection.top_k + lane;
      chosen[at] = expert;
      weights[at] = score / sum * scale;
    }
  }
}

template <class T, int kPerLane>
__global__ void __launch_bounds__(kThreads)
    gate_topk_bwd_kernel(const T* __restrict__ logits, const int* __restrict__ chosen,
                         const float* __restrict__ weights_grad, T* __restrict__ logits_grad,
                         int tokens, int top_k, float scale) {
  constexpr int kExperts = kPerLane * kWarpSize;
  const int lane = lane_index();
  for (int token = block_index() * kWarps + warp_index(); token < tokens;
       token += grid_size() * kWarps) {
    const std::int64_t row = static_cast<std::int64_t>(token) * kExperts;
    const std::int64_t at = static_cast<std::int64_t>(token) * top_k + lane;
    const int expert = lane < top_k ? chosen[at] : 0;
    const float gradient = lane < top_k ? weights_grad[at] : 0.0F;
    const float score = lane < top_k ? sigmoid(as_float(logits[row + expert])) : 0.0F;
    const float sum = warp_sum(score) + kSmallestSum;
    const float mean = warp_sum(gradient * score) / sum;
    const float result = scale / sum * (gradient - mean) * score * (1.0F - score);

    float all[kPerLane];
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) all[i] = 0.0F;
    for (int choice = 0; choice < top_k; ++choice) {
      const int place = __shfl_sync(kAllLanes, expert, choice) - lane * kPerLane;
      const float value = __shfl_sync(kAllLanes, result, choice);
#pragma unroll
      for (int i = 0; i < kPerLane; ++i) all[i] = place == i ? value : all[i];
    }
    Elements<T, kPerLane> own;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) own.values[i] = rounded_to<T>(all[i]);
    reinterpret_cast<Elements<T, kPerLane>*>(logits_grad + row)[lane] = own;
  }
}

struct CountShared {
  int counts[kMostExperts];
};

__global__ void __launch_bounds__(kThreads) clear_counts_kernel(int* counts, int experts) {
  for (int i = thread_index(); i < experts; i += kThreads) counts[i] = 0;
}

__global__ void __launch_bounds__(kThreads)
    expert_count_kernel(const int* __restrict__ chosen, int* counts, std::int64_t choices,
                        int experts) {
  auto& shared = shared_memory<CountShared>();
  for (int i = thread_index(); i < experts; i += kThreads) shared.counts[i] = 0;
  __syncthreads();
  const std::int64_t step = static_cast<std::int64_t>(grid_size()) * kThreads;
  for (std::int64_t i = static_cast<std::int64_t>(block_index()) * kThreads + thread_index();
       i < choices; i += step) {
    const int expert = __ldg(chosen + i);
    if (expert >= 0) atomicAdd(&shared.counts[expert], 1);
  }
  __syncthreads();
  for (int i = thread_index(); i < experts; i += kThreads) {
    if (shared.counts[i] != 0) atomicAdd(counts + i, shared.counts[i]);
  }
}

struct BiasShared {
  int partial[kWarps];
};

__global__ void __launch_bounds__(kThreads)
    gate_bias_update_kernel(const int* __restrict__ load, float* __restrict__ bias, int experts,
                            float speed) {
  auto& shared = shared_memory<BiasShared>();
  int own = 0;
  for (int i = thread_index(); i < experts; i += kThreads) own += load[i];
  own = warp_sum(own);
  if (lane_index() == 0) shared.partial[warp_index()] = own;
  __syncthreads();
  std::int64_t total = 0;
  for (int warp = 0; warp < kWarps; ++warp) total += shared.partial[warp];
  for (int i = thread_index(); i < experts; i += kThreads) {
    // Against the mean, in integers: load > total / experts.
    const std::int64_t scaled = static_cast<std::int64_t>(load[i]) * experts;
    if (scaled < total) bias[i] += speed;
    if (scaled > total) bias[i] -= speed;
  }
}

void check_gate(const char* what, const float* fp32, const Bf16* bf16, int experts, int top_k) {
  const bool known =
      experts == 32 || experts == 64 || experts == 128 || experts == 256 || experts == 512;
  if ((fp32 == nullptr) == (bf16 == nullptr) || !known || top_k < 1 || top_k > kWarpSize) {
    throw DeviceError(std::string(what) +
                      ": one format of logits, 32 to 512 experts (a power of two), top_k to 32");
  }
}

template <class T, int kPerLane>
void launch_gate(const GateTopk& p, const T* logits) {
  const int blocks = (p.tokens + kWarps - 1) / kWarps;
  launch(gate_topk_kernel<T, kPerLane>, {persistent_grid(blocks, p.sms, kBlocksPerSm), kThreads, 0},
         logits, p.bias, p.chosen, p.weights, p.tokens, Selection{p.groups, p.top_groups, p.top_k},
         p.scale);
}

template <class T, int kPerLane>
void launch_gate(const GateTopkBackward& p, const T* logits) {
  T* gradient = nullptr;
  if constexpr (sizeof(T) == sizeof(float)) {
    gradient = p.logits_grad_fp32;
  } else {
    gradient = p.logits_grad_bf16;
  }
  const int blocks = (p.tokens + kWarps - 1) / kWarps;
  launch(gate_topk_bwd_kernel<T, kPerLane>,
         {persistent_grid(blocks, p.sms, kBlocksPerSm), kThreads, 0}, logits, p.chosen,
         p.weights_grad, gradient, p.tokens, p.top_k, p.scale);
}

template <class T, class Problem>
void launch_for_experts(const Problem& p, const T* logits) {
  switch (p.experts) {
    case 32:
      return launch_gate<T, 1>(p, logits);
    case 64:
      return launch_gate<T, 2>(p, logits);
    case 128:
      return launch_gate<T, 4>(p, logits);
    case 256:
      return launch_gate<T, 8>(p, logits);
    default:
      return launch_gate<T, 16>(p, logits);
  }
}

}  // namespace

void gate_topk(const GateTopk& p) {
  check_gate("gate_topk", p.logits_fp32, p.logits_bf16, p.experts, p.top_k);
  if (p.groups < 1 || kWarpSize % p.groups != 0 || p.top_groups < 1 || p.top_groups > p.groups ||
      p.top_k > p.experts / p.groups * p.top_groups) {
    throw DeviceError("gate_topk: groups divide 32, and those kept hold top_k experts");
  }
  if (p.tokens == 0) return;
  if (p.logits_fp32 != nullptr) return launch_for_experts(p, p.logits_fp32);
  launch_for_experts(p, p.logits_bf16);
}

void gate_topk_bwd(const GateTopkBackward& p) {
  check_gate("gate_topk_bwd", p.logits_fp32, p.logits_bf16, p.experts, p.top_k);
  if (p.tokens == 0) return;
  if (p.logits_fp32 != nullptr) return launch_for_experts(p, p.logits_fp32);
  launch_for_experts(p, p.logits_bf16);
}

void expert_count(const ExpertCount& p) {
  if (p.experts < 1 || p.experts > kMostExperts) {
    throw DeviceError("expert_count: 1 to 1,024 experts");
  }
  launch(clear_counts_kernel, {1, kThreads, 0}, p.counts, p.experts);
  if (p.choices == 0) return;
  const std::int64_t blocks = (p.choices + kThreads - 1) / kThreads;
  launch(expert_count_kernel,
         {persistent_grid(blocks, p.sms, kBlocksPerSm), kThreads, sizeof(CountShared)}, p.chosen,
         p.counts, p.choices, p.experts);
}

void gate_bias_update(const GateBiasUpdate& p) {
  if (p.experts < 1 || p.experts > kMostExperts) {
    throw DeviceError("gate_bias_update: 1 to 1,024 experts");
  }
  launch(gate_bias_update_kernel, {1, kThreads, sizeof(BiasShared)}, p.load, p.bias, p.experts,
         p.speed);
}

}  // namespace pipecast::kernels
