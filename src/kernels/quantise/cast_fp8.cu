#include "kernels/quantise/cast_fp8.hpp"
#include "kernels/quantise/quantised_tile.hpp"

namespace pipecast::kernels {
namespace {

constexpr int kBlocksPerSm = 4;

__global__ void __launch_bounds__(kStreamingThreads, kBlocksPerSm)
    cast_fp8_1x128_kernel(const Bf16* __restrict__ source, E4m3* __restrict__ codes,
                          float* __restrict__ scales, TiledMatrix matrix, ScaleOrder order,
                          bool power_of_two) {
  for (int first = block_index() * kTilesPerTurn; first < matrix.count;
       first += grid_size() * kTilesPerTurn) {
    TilePiece at[kTilesInFlight];
    int4 packed[kTilesInFlight];
#pragma unroll
    for (int i = 0; i < kTilesInFlight; ++i) {
      at[i] = matrix.piece(first, i);
      packed[i] = make_int4(0, 0, 0, 0);
      if (at[i].inside) {
        packed[i] = load_once(source + static_cast<std::int64_t>(at[i].row) * matrix.columns +
                              at[i].column);
      }
    }
#pragma unroll
    for (int i = 0; i < kTilesInFlight; ++i) {
      store_tile(matrix, at[i], unpack(packed[i]), codes, scales, order, power_of_two);
    }
  }
}

__global__ void __launch_bounds__(kStreamingThreads, kBlocksPerSm)
    uncast_fp8_kernel(const E4m3* __restrict__ codes, const float* __restrict__ scales,
                      Bf16* __restrict__ result, TiledMatrix matrix, ScaleOrder order) {
  for (int first = block_index() * kTilesPerTurn; first < matrix.count;
       first += grid_size() * kTilesPerTurn) {
    TilePiece at[kTilesInFlight];
    uint2 packed[kTilesInFlight];
    float scale[kTilesInFlight];
#pragma unroll
    for (int i = 0; i < kTilesInFlight; ++i) {
      at[i] = matrix.piece(first, i);
      if (!at[i].inside) continue;
      packed[i] =
          load_eight(codes + static_cast<std::int64_t>(at[i].row) * matrix.columns + at[i].column);
      scale[i] =
          __ldg(scales + scale_place(order, at[i].row, at[i].tile, matrix.rows, matrix.tiles));
    }
#pragma unroll
    for (int i = 0; i < kTilesInFlight; ++i) {
      if (!at[i].inside) continue;
      store_eight(result + static_cast<std::int64_t>(at[i].row) * matrix.columns + at[i].column,
                  pack(unpack(packed[i], scale[i])));
    }
  }
}

constexpr int kStreamingWarps = kStreamingThreads / kWarpSize;
constexpr int kPiecesPerBlock = kScaleTile * kTileLanes / kStreamingThreads;  // of a thread

struct BlockShared {
  float largest[kStreamingWarps];
};

/// One block of threads per 128 x 128 of the matrix, which waits in registers for its scale.
__global__ void __launch_bounds__(kStreamingThreads, kBlocksPerSm)
    cast_fp8_128x128_kernel(const Bf16* __restrict__ source, E4m3* __restrict__ codes,
                            float* __restrict__ scales, int rows, int columns) {
  auto& shared = shared_memory<BlockShared>();
  const int tiles_across = (columns + kScaleTile - 1) / kScaleTile;
  const int tiles = (rows + kScaleTile - 1) / kScaleTile * tiles_across;
  for (int tile = block_index(); tile < tiles; tile += grid_size()) {
    const int column = tile % tiles_across * kScaleTile + thread_index() % kTileLanes * kEight;
    const int row = tile / tiles_across * kScaleTile + thread_index() / kTileLanes;
    constexpr int kRowStep = kStreamingThreads / kTileLanes;
    int4 packed[kPiecesPerBlock];
#pragma unroll
    for (int i = 0; i < kPiecesPerBlock; ++i) {
      packed[i] = make_int4(0, 0, 0, 0);
      if (column < columns && row + i * kRowStep < rows) {
        packed[i] =
            load_once(source + static_cast<std::int64_t>(row + i * kRowStep) * columns + column);
      }
    }
    float largest = 0.0F;
#pragma unroll
    for (int i = 0; i < kPiecesPerBlock; ++i) {
      largest = fmaxf(largest, largest_of(unpack(packed[i])));
    }
    largest = warp_max(largest);
    if (lane_index() == 0) shared.largest[warp_index()] = largest;
    __syncthreads();
    for (int warp = 0; warp < kStreamingWarps; ++warp) {
      largest = fmaxf(largest, shared.largest[warp]);
    }
    __syncthreads();  // before the next tile's maxima
    const TileScale scale = tile_scale(largest, false);
    if (thread_index() == 0) scales[tile] = scale.scale;
#pragma unroll
    for (int i = 0; i < kPiecesPerBlock; ++i) {
      if (column < columns && row + i * kRowStep < rows) {
        store_eight(codes + static_cast<std::int64_t>(row + i * kRowStep) * columns + column,
                    quantised(unpack(packed[i]), scale.inverse));
      }
    }
  }
}

}  // namespace

void cast_fp8_1x128(const CastFp8& p) {
  const TiledMatrix matrix = tiled_matrix(p.rows, p.columns, "cast_fp8_1x128");
  if (matrix.count == 0) return;
  launch(cast_fp8_1x128_kernel,
         {persistent_grid(ceil_quotient(matrix.count, kTilesPerTurn), p.sms, kBlocksPerSm),
          kStreamingThreads, 0},
         p.source, p.codes, p.scales, matrix, p.order, p.power_of_two);
}

void uncast_fp8(const UncastFp8& p) {
  const TiledMatrix matrix = tiled_matrix(p.rows, p.columns, "uncast_fp8");
  if (matrix.count == 0) return;
  launch(uncast_fp8_kernel,
         {persistent_grid(ceil_quotient(matrix.count, kTilesPerTurn), p.sms, kBlocksPerSm),
          kStreamingThreads, 0},
         p.codes, p.scales, p.result, matrix, p.order);
}

void cast_fp8_128x128(const CastFp8Blocks& p) {
  require_eights(p.rows, p.columns, "cast_fp8_128x128");
  if (p.rows == 0) return;
  const int tiles = ceil_quotient(p.rows, kScaleTile) * ceil_quotient(p.columns, kScaleTile);
  launch(cast_fp8_128x128_kernel,
         {persistent_grid(tiles, p.sms, kBlocksPerSm), kStreamingThreads, sizeof(BlockShared)},
         p.source, p.codes, p.scales, p.rows, p.columns);
}

}  // namespace pipecast::kernels
