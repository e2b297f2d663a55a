#include "kernels/gemm/fp8_step.hpp"
#include "kernels/gemm/fp8_wgrad_gemm.hpp"
#include "kernels/gemm/result_boxes.hpp"
#include "kernels/gemm/ring.hpp"
#include "kernels/gemm/tiles.hpp"
#include "kernels/simt/hopper.hpp"

namespace pipecast::kernels {
namespace {

constexpr int kConsumers = 2;
constexpr int kRows = kConsumers * kWarpgroupRows;
constexpr int kThreads = (kConsumers + 1) * kWarpgroupSize;
constexpr int kStageBytes = (kRows + kFp8Columns) * (kFp8Depth + static_cast<int>(sizeof(float)));
constexpr int kStages =
    stages_that_fit(kStageBytes, kConsumers* static_cast<int>(sizeof(ResultBoxes)));

/// Every column has a scale of its own at each step, so scales come through the ring as well.
struct Shared {
  E4m3 a[kStages][kRows * kFp8Depth];
  E4m3 b[kStages][kFp8Columns * kFp8Depth];
  float a_scale[kStages][kRows];
  float b_scale[kStages][kFp8Columns];
  ResultBoxes results[kConsumers];
  Ring<kStages> ring;
};

/// Operands as bulk copies see them.
struct Maps {
  TensorMap a;
  TensorMap b;
  TensorMap a_scale;
  TensorMap b_scale;
  TensorMap d;
};

/// Tokens of a group: all, or what its offsets say.
struct Depth {
  int k;
  const int* offsets;  // null for one group

  __device__ __forceinline__ int begin(int group) const {
    return offsets == nullptr ? 0 : __ldg(offsets + group);
  }
  __device__ __forceinline__ int end(int group) const {
    return offsets == nullptr ? k : __ldg(offsets + group + 1);
  }
};

__device__ __forceinline__ void produce(Shared& shared, const Maps& maps, const Depth& depth,
                                        StackedTiles tiles) {
  RingPosition<kStages> position;
  Tile tile;
  for (int index = block_index(); tiles.find(index, &tile); index += grid_size()) {
    const int row = tile.row - tile.group * tiles.each.m;
    const int end = depth.end(tile.group);
    for (int k = depth.begin(tile.group); k < end; k += kFp8Depth) {
      Mbarrier* full = position.claim(shared.ring, kStageBytes);
      tma_load(shared.a_scale[position.stage], maps.a_scale, row, k / kFp8Depth, full);
      tma_load(shared.b_scale[position.stage], maps.b_scale, tile.column, k / kFp8Depth, full);
      tma_load(shared.a[position.stage], maps.a, k, row, full);
      tma_load(shared.b[position.stage], maps.b, k, tile.column, full);
      position.step();
    }
  }
}

/// Adds the products of one step to the sums, each times the scales of its row and its column.
__device__ __forceinline__ void promote(float (&sums)[kFp8Columns / 2],
                                        const float (&parts)[kFp8Columns / 2], const float* a_scale,
                                        const float* b_scale) {
  const float upper = a_scale[own_row()];
  const float lower = a_scale[own_row() + 8];
#pragma unroll
  for (int i = 0; i < kFp8Columns / 2; i += 4) {
    const float2 pair = *reinterpret_cast<const float2*>(b_scale + 2 * i + lane_index() % 4 * 2);
    sums[i] = fmaf(parts[i], upper * pair.x, sums[i]);
    sums[i + 1] = fmaf(parts[i + 1], upper * pair.y, sums[i + 1]);
    sums[i + 2] = fmaf(parts[i + 2], lower * pair.x, sums[i + 2]);
    sums[i + 3] = fmaf(parts[i + 3], lower * pair.y, sums[i + 3]);
  }
}

__device__ __forceinline__ void consume(Shared& shared, const Maps& maps, const Depth& depth,
                                        StackedTiles tiles) {
  const int group = warpgroup_index();
  RingPosition<kStages> position;
  Tile tile;
  for (int index = block_index(); tiles.find(index, &tile); index += grid_size()) {
    const int end = depth.end(tile.group);
    int k = depth.begin(tile.group);
    if (k >= end) continue;
    float sums[kFp8Columns / 2];
    float parts[kFp8Columns / 2];
#pragma unroll
    for (int i = 0; i < kFp8Columns / 2; ++i) sums[i] = 0.0F;
    for (; k < end; k += kFp8Depth) {
      position.wait_full(shared.ring);
      multiply_step(parts, shared.a[position.stage], shared.b[position.stage]);
      promote(sums, parts, shared.a_scale[position.stage], shared.b_scale[position.stage]);
      __syncwarp();  // every lane has read its scales
      if (lane_index() == 0) mbarrier_arrive(&shared.ring.empty[position.stage]);
      position.step();
    }
    if (group * kWarpgroupRows < tile.rows) {
      store_rows<float, kFp8Columns>(shared.results[group], maps.d, sums,
                                     tile.row + group * kWarpgroupRows, tile.column, true);
    }
  }
  finish_stores();
}

__global__ void __launch_bounds__(kThreads, 1)
    gemm_fp8_wgrad_kernel(const __grid_constant__ Maps maps, Depth depth, StackedTiles tiles) {
  auto& shared = shared_memory<Shared>();
  if (thread_index() == 0) shared.ring.initialise(kConsumers * kWarpgroupSize / kWarpSize);
  __syncthreads();
  if (warpgroup_index() == kConsumers) {
    fewer_registers<40>();
    if (thread_index() % kWarpgroupSize == 0) produce(shared, maps, depth, tiles);
  } else {
    more_registers<232>();
    consume(shared, maps, depth, tiles);
  }
}

TensorMap operand_map(const E4m3* base, int rows, int k) {
  return make_tensor_map(
      {base, Element::kByte, rows, k, k, kFp8Columns, kFp8Depth, Swizzle::k128Bytes});
}
TensorMap scale_map(const float* base, int rows, int k) {
  return make_tensor_map(
      {base, Element::kFp32, blocks_of(k, kFp8Depth), rows, rows, 1, kFp8Columns, Swizzle::kNone});
}
static_assert(kRows == kFp8Columns, "both operands come in boxes of one shape");

void launch_over(const GroupedFp8WeightGradient& p) {
  if (p.m <= 0 || p.n <= 0 || p.k < 0 || p.m % 4 != 0 || p.n % 4 != 0 || p.k % 16 != 0) {
    throw DeviceError("an FP8 weight gradient needs m and n in multiples of 4, k of 16");
  }
  if (p.k == 0) return;
  const StackedTiles tiles{{p.m, p.n, kRows, kFp8Columns}, p.experts};
  const Maps maps{
      operand_map(p.a, p.m, p.k), operand_map(p.b, p.n, p.k), scale_map(p.a_scale, p.m, p.k),
      scale_map(p.b_scale, p.n, p.k),
      make_tensor_map(result_window(p.d, static_cast<std::int64_t>(p.experts) * p.m, p.n))};
  launch(gemm_fp8_wgrad_kernel,
         {persistent_blocks(p.experts * tiles.each.count(), p.sms), kThreads, sizeof(Shared)}, maps,
         Depth{p.k, p.offsets}, tiles);
}

}  // namespace

void gemm_fp8_wgrad(const Fp8WeightGradient& p) {
  launch_over({p.a, p.b, p.a_scale, p.b_scale, nullptr, p.d, 1, p.m, p.n, p.k, p.sms});
}

void grouped_gemm_fp8_wgrad(const GroupedFp8WeightGradient& p) {
  if (p.experts <= 0 || p.m % kWarpgroupRows != 0 || p.k % kFp8Depth != 0) {
    throw DeviceError("a grouped FP8 weight gradient needs m in multiples of 64, k of 128");
  }
  launch_over(p);
}

}  // namespace pipecast::kernels
