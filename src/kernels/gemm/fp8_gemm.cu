#include "kernels/gemm/fp8_gemm.hpp"
#include "kernels/simt/hopper.hpp"

namespace pipecast::kernels {
namespace {

constexpr int kTile = 128;  // rows, columns and depth of a tile
constexpr int kStages = 5;
constexpr int kDepth = 32;  // of one FP8 wgmma
constexpr int kConsumers = 2;
constexpr int kThreads = (kConsumers + 1) * kWarpgroupSize;
constexpr int kConsumerWarps = kConsumers * kWarpgroupSize / kWarpSize;

struct Shared {
  E4m3 a[kStages][kTile * kTile];
  E4m3 b[kStages][kTile * kTile];
  Mbarrier full[kStages];
  Mbarrier empty[kStages];
};

/// Position in the ring of stages.
struct Ring {
  int stage = 0;
  int parity = 0;
  __device__ __forceinline__ void step() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

struct Extents {
  int m;
  int n;
  int k;
};

__device__ __forceinline__ void produce(Shared& shared, const TensorMap& a, const TensorMap& b,
                                        const Extents& extents) {
  const int tiles_n = (extents.n + kTile - 1) / kTile;
  const int tiles = (extents.m + kTile - 1) / kTile * tiles_n;
  Ring ring;
  for (int tile = block_index(); tile < tiles; tile += grid_size()) {
    const int row = tile / tiles_n * kTile;
    const int column = tile % tiles_n * kTile;
    for (int k = 0; k < extents.k; k += kTile) {
      mbarrier_wait(&shared.empty[ring.stage], ring.parity ^ 1);
      mbarrier_expect(&shared.full[ring.stage], 2 * kTile * kTile);
      tma_load(shared.a[ring.stage], a, k, row, &shared.full[ring.stage]);
      tma_load(shared.b[ring.stage], b, k, column, &shared.full[ring.stage]);
      ring.step();
    }
  }
}

__device__ __forceinline__ void consume(Shared& shared, const float* a_scale, const float* b_scale,
                                        Bf16* d, const Extents& extents) {
  const int group = warpgroup_index();
  const int lane = lane_index();
  const int blocks_k = extents.k / kTile;
  const int tiles_n = (extents.n + kTile - 1) / kTile;
  const int tiles = (extents.m + kTile - 1) / kTile * tiles_n;
  Ring ring;
  for (int tile = block_index(); tile < tiles; tile += grid_size()) {
    const int tile_n = tile % tiles_n;
    // This thread's two rows of the tile: as hopper.hpp lays accumulators out.
    const int row = tile / tiles_n * kTile + group * 64 + warp_index() % 4 * 16 + lane / 4;
    float sum[kTile / 2];
    float part[kTile / 2];
    for (int i = 0; i < kTile / 2; ++i) sum[i] = 0.0F;
    for (int block = 0; block < blocks_k; ++block) {
      const float b = __ldg(b_scale + tile_n * blocks_k + block);
      const float* scales = a_scale + static_cast<std::int64_t>(block) * extents.m;
      const float upper = row < extents.m ? __ldg(scales + row) * b : 0.0F;
      const float lower = row + 8 < extents.m ? __ldg(scales + row + 8) * b : 0.0F;
      mbarrier_wait(&shared.full[ring.stage], ring.parity);
      wgmma_fence();
#pragma unroll
      for (int k = 0; k < kTile; k += kDepth) {
        wgmma_e4m3<kTile>(part, k_major(shared.a[ring.stage] + group * 64 * kTile + k),
                          k_major(shared.b[ring.stage] + k), k != 0);
      }
      wgmma_commit();
      wgmma_wait<0>();
      if (lane == 0) mbarrier_arrive(&shared.empty[ring.stage]);
      ring.step();
#pragma unroll
      for (int i = 0; i < kTile / 2; i += 4) {
        sum[i] = fmaf(part[i], upper, sum[i]);
        sum[i + 1] = fmaf(part[i + 1], upper, sum[i + 1]);
        sum[i + 2] = fmaf(part[i + 2], lower, sum[i + 2]);
        sum[i + 3] = fmaf(part[i + 3], lower, sum[i + 3]);
      }
    }
#pragma unroll
    for (int i = 0; i < kTile / 2; i += 4) {
      const int column = tile_n * kTile + i * 2 + lane % 4 * 2;
      if (column >= extents.n) continue;
      for (int half = 0; half < 2; ++half) {
        if (row + 8 * half >= extents.m) continue;
        const std::int64_t at = static_cast<std::int64_t>(row + 8 * half) * extents.n + column;
        *reinterpret_cast<std::uint32_t*>(d + at) =
            pack_bf16(sum[i + 2 * half], sum[i + 2 * half + 1]);
      }
    }
  }
}

__global__ void __launch_bounds__(kThreads, 1)
    fp8_gemm_kernel(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b,
                    const float* __restrict__ a_scale, const float* __restrict__ b_scale,
                    Bf16* __restrict__ d, Extents extents) {
  auto& shared = shared_memory<Shared>();
  if (thread_index() == 0) {
    for (int stage = 0; stage < kStages; ++stage) {
      mbarrier_init(&shared.full[stage], 1);
      mbarrier_init(&shared.empty[stage], kConsumerWarps);
    }
    mbarrier_init_fence();
  }
  __syncthreads();
  if (warpgroup_index() == kConsumers) {
    fewer_registers<40>();
    if (thread_index() % kWarpgroupSize == 0) produce(shared, a, b, extents);
  } else {
    more_registers<232>();
    consume(shared, a_scale, b_scale, d, extents);
  }
}

}  // namespace

void fp8_gemm(const Fp8Gemm& p) {
  if (p.m <= 0 || p.n <= 0 || p.k <= 0 || p.k % kTile != 0 || p.n % 8 != 0) {
    throw DeviceError("fp8_gemm: k is a multiple of 128 and n of 8");
  }
  const auto window = [&](const E4m3* base, int rows) {
    return make_tensor_map(
        {base, Element::kByte, rows, p.k, p.k, kTile, kTile, Swizzle::k128Bytes});
  };
  const int tiles = (p.m + kTile - 1) / kTile * ((p.n + kTile - 1) / kTile);
  const int sms = p.sms > 0 ? p.sms : device_sms();
  launch(fp8_gemm_kernel, {tiles < sms ? tiles : sms, kThreads, sizeof(Shared)}, window(p.a, p.m),
         window(p.b, p.n), p.a_scale, p.b_scale, p.d, Extents{p.m, p.n, p.k});
}

}  // namespace pipecast::kernels
