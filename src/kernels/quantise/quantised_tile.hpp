#pragma once

/// The 1 x 128 tiles of a matrix, half a warp to each: a lane has eight elements of it.
#include "kernels/quantise/streaming.hpp"
#include "kernels/quantise/tile_scale.hpp"

namespace pipecast::kernels {

constexpr int kTileLanes = kScaleTile / kEight;
constexpr int kTilesInFlight = 4;  // of a half-warp: 64 bytes of BF16 per thread
constexpr int kTilesPerTurn = kStreamingThreads / kTileLanes * kTilesInFlight;

/// A lane's eight elements: which tile they are of, and whether the matrix has them.
struct TilePiece {
  int row;
  int tile;
  int column;
  bool inside;
};

/// A matrix cut into 1 x 128 tiles, numbered along the rows.
struct TiledMatrix {
  int rows;
  int columns;
  int tiles;  // of a row
  int count;  // of all rows

  /// The piece of this lane in the i-th tile of its half-warp, in a block's turn from tile `first`.
  /// Neighbouring half-warps have neighbouring tiles.
  __device__ __forceinline__ TilePiece piece(int first, int i) const {
    const int number = first + i * (kStreamingThreads / kTileLanes) + thread_index() / kTileLanes;
    const int row = number / tiles;
    const int tile = number % tiles;
    const int column = tile * kScaleTile + thread_index() % kTileLanes * kEight;
    return {row, tile, column, number < count && column < columns};
  }
};

/// @throws DeviceError if the matrix cannot be cut so
inline TiledMatrix tiled_matrix(int rows, int columns, const char* kernel) {
  require_eights(rows, columns, kernel);
  const int tiles = ceil_quotient(columns, kScaleTile);
  return {rows, columns, tiles, checked_work(static_cast<std::int64_t>(rows) * tiles, kernel)};
}

/// Largest magnitude of eight elements; NaN does not count.
__device__ __forceinline__ float largest_of(const EightFloats& x) {
  float largest = 0.0F;
#pragma unroll
  for (int i = 0; i < kEight; ++i) largest = fmaxf(largest, fabsf(x.value[i]));
  return largest;
}

__device__ __forceinline__ uint2 quantised(const EightFloats& x, float inverse) {
  const float* v = x.value;
  return make_uint2(pack_e4m3(v[0] * inverse, v[1] * inverse, v[2] * inverse, v[3] * inverse),
                    pack_e4m3(v[4] * inverse, v[5] * inverse, v[6] * inverse, v[7] * inverse));
}

/// Quantises the half-warp's tile and stores codes and scale. All lanes of the warp must call;
/// outside of the matrix they bring zeros.
__device__ __forceinline__ void store_tile(const TiledMatrix& matrix, const TilePiece& at,
                                           const EightFloats& x, E4m3* codes, float* scales,
                                           ScaleOrder order, bool power_of_two) {
  float largest = largest_of(x);
#pragma unroll
  for (int distance = kTileLanes / 2; distance > 0; distance /= 2) {
    largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, distance));
  }
  if (!at.inside) return;
  const TileScale scale = tile_scale(largest, power_of_two);
  store_eight(codes + static_cast<std::int64_t>(at.row) * matrix.columns + at.column,
              quantised(x, scale.inverse));
  if (thread_index() % kTileLanes == 0) {
    scales[scale_place(order, at.row, at.tile, matrix.rows, matrix.tiles)] = scale.scale;
  }
}

}  // namespace pipecast::kernels
