#include "kernels/gemm/fp8_gemm.hpp"
#include "kernels/gemm/fp8_step.hpp"
#include "kernels/gemm/result_boxes.hpp"
#include "kernels/gemm/ring.hpp"
#include "kernels/gemm/tiles.hpp"
#include "kernels/simt/hopper.hpp"

namespace pipecast::kernels {
namespace {

/// Shared memory of a block whose tiles have 64 rows for each consumer warpgroup.
template <int kConsumers>
struct Shared {
  static constexpr int kRows = kConsumers * kWarpgroupRows;
  static constexpr int kStageBytes = (kRows + kFp8Columns) * kFp8Depth;
  static constexpr int kStages =
      stages_that_fit(kStageBytes, kConsumers* static_cast<int>(sizeof(ResultBoxes)));
  E4m3 a[kStages][kRows * kFp8Depth];
  E4m3 b[kStages][kFp8Columns * kFp8Depth];
  ResultBoxes results[kConsumers];
  Ring<kStages> ring;
};

/// Extents of a product of any number of groups.
struct Extents {
  int m;  // rows of A and D, of all groups
  int n;  // of one group
  int k;
};

template <int kConsumers, class Tiles>
__device__ __forceinline__ void produce(Shared<kConsumers>& shared, const TensorMap& a,
                                        const TensorMap& b, const Extents& extents, Tiles tiles) {
  using Memory = Shared<kConsumers>;
  RingPosition<Memory::kStages> position;
  Tile tile;
  for (int index = block_index(); tiles.find(index, &tile); index += grid_size()) {
    const int b_row = tile.group * extents.n + tile.column;
    for (int k = 0; k < extents.k; k += kFp8Depth) {
      Mbarrier* full = position.claim(shared.ring, Memory::kStageBytes);
      tma_load(shared.a[position.stage], a, k, tile.row, full);
      tma_load(shared.b[position.stage], b, k, b_row, full);
      position.step();
    }
  }
}

/// Scales of one step along K: of a thread's two rows, and of the tile's columns.
struct Scales {
  float upper;
  float lower;
  float columns;
};

/// Reads the scales of a step ahead of it: nothing waits for them until the products are there.
class ScaleReader {
 public:
  __device__ __forceinline__ ScaleReader(const float* a_scale, const float* b_scale, int rows,
                                         int row)
      : a_(a_scale + row), b_(b_scale), rows_(rows), upper_(row < rows), lower_(row + 8 < rows) {}
  __device__ __forceinline__ Scales at(int block) const {
    const float* a = a_ + static_cast<std::int64_t>(block) * rows_;
    return {upper_ ? __ldg(a) : 0.0F, lower_ ? __ldg(a + 8) : 0.0F, __ldg(b_ + block)};
  }

 private:
  const float* a_;
  const float* b_;
  int rows_;
  bool upper_;
  bool lower_;
};

template <int kConsumers, class Tiles>
__device__ __forceinline__ void consume(Shared<kConsumers>& shared, const TensorMap& d,
                                        const float* a_scale, const float* b_scale,
                                        const Extents& extents, Tiles tiles) {
  const int group = warpgroup_index();
  const int blocks = blocks_of(extents.k, kFp8Depth);
  RingPosition<Shared<kConsumers>::kStages> position;
  Tile tile;
  for (int index = block_index(); tiles.find(index, &tile); index += grid_size()) {
    const int b_block = tile.group * blocks_of(extents.n, kFp8Columns) + tile.column / kFp8Columns;
    const ScaleReader scales(a_scale, b_scale + static_cast<std::int64_t>(b_block) * blocks,
                             extents.m, tile.row + own_row());
    float sums[kFp8Columns / 2];
    float parts[kFp8Columns / 2];
#pragma unroll
    for (int i = 0; i < kFp8Columns / 2; ++i) sums[i] = 0.0F;
    Scales next = scales.at(0);
    for (int block = 0; block < blocks; ++block) {
      const Scales now = next;
      if (block + 1 < blocks) next = scales.at(block + 1);
      position.wait_full(shared.ring);
      multiply_step(parts, shared.a[position.stage], shared.b[position.stage]);
      if (lane_index() == 0) mbarrier_arrive(&shared.ring.empty[position.stage]);
      position.step();
      const float upper = now.upper * now.columns;
      const float lower = now.lower * now.columns;
#pragma unroll
      for (int i = 0; i < kFp8Columns / 2; i += 4) {
        sums[i] = fmaf(parts[i], upper, sums[i]);
        sums[i + 1] = fmaf(parts[i + 1], upper, sums[i + 1]);
        sums[i + 2] = fmaf(parts[i + 2], lower, sums[i + 2]);
        sums[i + 3] = fmaf(parts[i + 3], lower, sums[i + 3]);
      }
    }
    if (group * kWarpgroupRows < tile.rows) {
      store_rows<Bf16, kFp8Columns>(shared.results[group], d, sums,
                                    tile.row + group * kWarpgroupRows, tile.column, false);
    }
  }
  finish_stores();
}

template <int kConsumers, class Tiles>
__global__ void __launch_bounds__((kConsumers + 1) * kWarpgroupSize, 1)
    gemm_fp8_kernel(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b,
                    const __grid_constant__ TensorMap d, const float* __restrict__ a_scale,
                    const float* __restrict__ b_scale, Extents extents, Tiles tiles) {
  auto& shared = shared_memory<Shared<kConsumers>>();
  if (thread_index() == 0) shared.ring.initialise(kConsumers * kWarpgroupSize / kWarpSize);
  __syncthreads();
  // One consumer has registers enough as it is.
  if (warpgroup_index() == kConsumers) {
    if constexpr (kConsumers == 2) fewer_registers<40>();
    if (thread_index() % kWarpgroupSize == 0) produce(shared, a, b, extents, tiles);
  } else {
    if constexpr (kConsumers == 2) more_registers<232>();
    consume(shared, d, a_scale, b_scale, extents, tiles);
  }
}

/// Operands and extents of every form.
struct Operands {
  const E4m3* a;
  const E4m3* b;
  const float* a_scale;
  const float* b_scale;
  Bf16* d;
  Extents extents;
  int groups;
  int sms;
};

template <int kConsumers, class Tiles>
void launch_over(const Operands& p, int tile_count, const Tiles& tiles) {
  using Memory = Shared<kConsumers>;
  const auto [m, n, k] = p.extents;
  const TensorMap a =
      make_tensor_map({p.a, Element::kByte, m, k, k, Memory::kRows, kFp8Depth, Swizzle::k128Bytes});
  const std::int64_t b_rows = static_cast<std::int64_t>(p.groups) * n;
  const TensorMap b = make_tensor_map(
      {p.b, Element::kByte, b_rows, k, k, kFp8Columns, kFp8Depth, Swizzle::k128Bytes});
  launch(gemm_fp8_kernel<kConsumers, Tiles>,
         {persistent_blocks(tile_count, p.sms), (kConsumers + 1) * kWarpgroupSize, sizeof(Memory)},
         a, b, make_tensor_map(result_window(p.d, m, n)), p.a_scale, p.b_scale, p.extents, tiles);
}

void check(const Extents& e, int groups, int block_m) {
  if (e.m < 0 || e.n <= 0 || e.k <= 0 || e.n % 16 != 0 || e.k % 16 != 0 || groups <= 0) {
    throw DeviceError("an FP8 product needs n and k in multiples of 16");
  }
  if (block_m != 0 && block_m != 64 && block_m != 128) {
    throw DeviceError("tiles of an FP8 product have 64 or 128 rows");
  }
}

constexpr int kTall = 2 * kWarpgroupRows;

/// Fewest rounds over the SMs, and of equals the larger tile: 64 rows take more than half the time
/// of 128, as one warpgroup has nobody to multiply while it promotes (docs/kernel-model.md).
int chosen_rows(const Fp8Gemm& p) {
  if (p.block_m != 0) return p.block_m;
  const int sms = p.sms > 0 ? p.sms : device_sms();
  const auto rounds = [&](int rows) {
    return blocks_of(DenseTiles{p.m, p.n, rows, kFp8Columns}.count(), sms);
  };
  return p.m <= kWarpgroupRows || rounds(kWarpgroupRows) < rounds(kTall) ? kWarpgroupRows : kTall;
}

}  // namespace

void gemm_fp8(const Fp8Gemm& p) {
  const Operands operands{p.a, p.b, p.a_scale, p.b_scale, p.d, {p.m, p.n, p.k}, 1, p.sms};
  check(operands.extents, operands.groups, p.block_m);
  if (p.m == 0) return;
  const DenseTiles tiles{p.m, p.n, chosen_rows(p), kFp8Columns};
  if (tiles.tile_rows == kTall) {
    launch_over<2>(operands, tiles.count(), tiles);
  } else {
    launch_over<1>(operands, tiles.count(), tiles);
  }
}

void grouped_gemm_fp8(const ContiguousFp8Gemm& p) {
  const Operands operands{p.a, p.b, p.a_scale, p.b_scale, p.d, {p.m, p.n, p.k}, p.experts, p.sms};
  check(operands.extents, operands.groups, 0);
  if (p.m % ContiguousTiles::kGroupRows != 0) {
    throw DeviceError("rows of a grouped product are padded to 128 per expert");
  }
  if (p.m == 0) return;
  const ContiguousTiles tiles{{p.m, p.n, kTall, kFp8Columns}, p.experts, p.offsets};
  launch_over<2>(operands, tiles.room.count(), tiles);
}

void grouped_gemm_fp8(const MaskedFp8Gemm& p) {
  const Extents extents{p.experts * p.capacity, p.n, p.k};
  const Operands operands{p.a, p.b, p.a_scale, p.b_scale, p.d, extents, p.experts, p.sms};
  check(extents, p.experts, p.block_m);
  if (p.capacity % kTall != 0) {
    throw DeviceError("the capacity of an expert is a multiple of 128 rows");
  }
  if (p.capacity == 0) return;
  const int rows = p.block_m != 0 ? p.block_m : kTall;
  const MaskedTiles tiles{{p.capacity, p.n, rows, kFp8Columns}, p.experts, p.counts};
  const int most = p.experts * tiles.room.count();
  if (rows == kTall) {
    launch_over<2>(operands, most, tiles);
  } else {
    launch_over<1>(operands, most, tiles);
  }
}

}  // namespace pipecast::kernels
