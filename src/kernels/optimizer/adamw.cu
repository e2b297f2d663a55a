#include <cmath>

#include "kernels/optimizer/adamw.hpp"
#include "kernels/simt/pieces.hpp"
#include "kernels/simt/simt.hpp"

namespace pipecast::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpSize;
constexpr int kPerThread = 8;  // elements: a 16-byte piece of BF16
constexpr int kAdamBlocksPerSm = 4;
constexpr int kNormBlocksPerSm = 4;
// As torch.nn.utils.clip_grad_norm_.
constexpr float kNormEpsilon = 1e-6F;

struct NormShared {
  double partial[kWarps];
};

/// Sum over the block, in warp 0's lane 0. The order of additions is fixed.
__device__ __forceinline__ double block_sum(NormShared& shared, double value) {
  value = warp_sum(value);
  if (lane_index() == 0) shared.partial[warp_index()] = value;
  __syncthreads();
  double sum = 0;
  if (thread_index() == 0) {
    for (int warp = 0; warp < kWarps; ++warp) sum += shared.partial[warp];
  }
  return sum;
}

__global__ void __launch_bounds__(kThreads)
    grad_norm_kernel(const float* __restrict__ gradients, double* __restrict__ partial_sums,
                     std::int64_t elements) {
  auto& shared = shared_memory<NormShared>();
  const std::int64_t pieces = elements / kPerThread;
  const std::int64_t step = static_cast<std::int64_t>(grid_size()) * kThreads;
  const std::int64_t own = static_cast<std::int64_t>(block_index()) * kThreads + thread_index();
  double sum = 0;
#pragma unroll 4
  for (std::int64_t piece = own; piece < pieces; piece += step) {
    float values[kPerThread];
    load_fp32(gradients + piece * kPerThread, values);
    // Squares of FP32 are exact in FP64; one conversion and one addition per element hide behind
    // the loads.
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      const auto value = static_cast<double>(values[i]);
      sum += value * value;
    }
  }
  const std::int64_t rest = pieces * kPerThread + own;
  if (rest < elements) {
    const auto value = static_cast<double>(gradients[rest]);
    sum += value * value;
  }
  sum = block_sum(shared, sum);
  if (thread_index() == 0) partial_sums[block_index()] = sum;
}

__global__ void __launch_bounds__(kThreads)
    grad_norm_finish_kernel(const double* __restrict__ partial_sums, double* sum_of_squares,
                            int partials) {
  auto& shared = shared_memory<NormShared>();
  double sum = 0;
  for (int i = thread_index(); i < partials; i += kThreads) sum += partial_sums[i];
  sum = block_sum(shared, sum);
  if (thread_index() == 0) *sum_of_squares = sum;
}

/// What all elements share in a step.
struct AdamConstants {
  float learning_rate;
  float beta1;
  float beta2;
  float epsilon;
  float weight_decay;
  float first_correction;   // 1 / (1 - beta1^step)
  float second_correction;  // 1 / (1 - beta2^step)
  float largest_norm;
};

struct AdamArrays {
  const float* gradients;
  const double* sum_of_squares;
  float* weights;
  Bf16* first_moment;
  Bf16* second_moment;
  Bf16* parameters;
};

__device__ __forceinline__ void adam_element(const AdamConstants& c, float gradient, float& weight,
                                             float& first, float& second) {
  first = fmaf(c.beta1, first, (1.0F - c.beta1) * gradient);
  second = fmaf(c.beta2, second, (1.0F - c.beta2) * gradient * gradient);
  const float direction =
      first * c.first_correction / (sqrtf(second * c.second_correction) + c.epsilon);
  weight -= c.learning_rate * fmaf(c.weight_decay, weight, direction);
}

/// Factor of the gradients, or a negative number where the step is left out.
__device__ __forceinline__ float clipping(const double* sum_of_squares, float largest_norm) {
  if (sum_of_squares == nullptr) return 1.0F;
  const auto norm = static_cast<float>(sqrt(*sum_of_squares));
  if (!(norm < INFINITY)) return -1.0F;
  return fminf(1.0F, largest_norm / (norm + kNormEpsilon));
}

__global__ void __launch_bounds__(kThreads)
    adamw_kernel(AdamArrays arrays, AdamConstants constants, std::int64_t elements) {
  const float factor = clipping(arrays.sum_of_squares, constants.largest_norm);
  const std::int64_t pieces = elements / kPerThread;
  const std::int64_t step = static_cast<std::int64_t>(grid_size()) * kThreads;
  const std::int64_t own = static_cast<std::int64_t>(block_index()) * kThreads + thread_index();
  for (std::int64_t piece = own; piece < pieces; piece += step) {
    const std::int64_t at = piece * kPerThread;
    auto* first_piece = reinterpret_cast<int4*>(arrays.first_moment + at);
    auto* second_piece = reinterpret_cast<int4*>(arrays.second_moment + at);
    float gradient[kPerThread];
    float weight[kPerThread];
    float first[kPerThread];
    float second[kPerThread];
    load_fp32(arrays.gradients + at, gradient);
    load_fp32(arrays.weights + at, weight);
    unpack_bf16(*first_piece, first);
    unpack_bf16(*second_piece, second);
    if (factor >= 0.0F) {
#pragma unroll
      for (int i = 0; i < kPerThread; ++i) {
        adam_element(constants, gradient[i] * factor, weight[i], first[i], second[i]);
      }
      store_fp32(arrays.weights + at, weight);
      *first_piece = pack_piece(first);
      *second_piece = pack_piece(second);
    }
    *reinterpret_cast<int4*>(arrays.parameters + at) = pack_piece(weight);
  }
  const std::int64_t rest = pieces * kPerThread + own;
  if (rest >= elements) return;
  float weight = arrays.weights[rest];
  float first = to_float(arrays.first_moment[rest]);
  float second = to_float(arrays.second_moment[rest]);
  if (factor >= 0.0F) {
    adam_element(constants, arrays.gradients[rest] * factor, weight, first, second);
    arrays.weights[rest] = weight;
    arrays.first_moment[rest] = to_bf16(first);
    arrays.second_moment[rest] = to_bf16(second);
  }
  arrays.parameters[rest] = to_bf16(weight);
}

/// Blocks over so many elements. Those of a tail shorter than a piece need one block as well.
int blocks_over(std::int64_t elements, int sms, int per_sm) {
  const std::int64_t pieces = (elements + kPerThread - 1) / kPerThread;
  return persistent_grid((pieces + kThreads - 1) / kThreads, sms, per_sm);
}

}  // namespace

int grad_norm_partials(int sms) { return (sms > 0 ? sms : device_sms()) * kNormBlocksPerSm; }

void grad_norm(const GradNorm& p) {
  if (p.elements < 0) throw DeviceError("grad_norm: a negative number of elements");
  const int blocks = blocks_over(p.elements, p.sms, kNormBlocksPerSm);
  if (blocks > 0) {
    launch(grad_norm_kernel, {blocks, kThreads, sizeof(NormShared)}, p.gradients, p.partial_sums,
           p.elements);
  }
  launch(grad_norm_finish_kernel, {1, kThreads, sizeof(NormShared)}, p.partial_sums,
         p.sum_of_squares, blocks);
}

void adamw(const AdamW& p) {
  if (p.elements < 0 || p.step < 1) throw DeviceError("adamw: steps are counted from 1");
  if (p.elements == 0) return;
  // 1 - beta^step loses digits in FP32 where beta is near 1.
  const auto correction = [&](float beta) {
    return static_cast<float>(1.0 / (1.0 - std::pow(static_cast<double>(beta), p.step)));
  };
  const AdamConstants constants{p.learning_rate,     p.beta1,        p.beta2,
                                p.epsilon,           p.weight_decay, correction(p.beta1),
                                correction(p.beta2), p.largest_norm};
  launch(adamw_kernel, {blocks_over(p.elements, p.sms, kAdamBlocksPerSm), kThreads, 0},
         AdamArrays{p.gradients, p.sum_of_squares, p.weights, p.first_moment, p.second_moment,
                    p.parameters},
         constants, p.elements);
}

}  // namespace pipecast::kernels
