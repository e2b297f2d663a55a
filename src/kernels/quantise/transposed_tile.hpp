#pragma once

/// Tiles of 128 x 128 numbers to transposed E4M3 with a scale per column, from any source of rows.
#include "kernels/quantise/quantised_tile.hpp"

namespace pipecast::kernels {

constexpr int kTransposeBlocksPerSm = 2;
constexpr int kTransposeWarps = kStreamingThreads / kWarpSize;

/// Codes of a transposed tile: 16 pieces of 8 bytes a row. Piece p of row r lies at p ^ (r / 8), so
/// that the lanes of half a warp meet no bank twice when they write eight bytes, and those of a
/// quarter none when they read sixteen.
struct TransposeShared {
  uint2 codes[kScaleTile * kTileLanes];
  float largest[kTransposeWarps][kScaleTile];
  float inverse[kScaleTile];
};

/// Where a cast with transposition writes.
struct TransposedCodes {
  E4m3* codes;    // columns x padded rows
  float* scales;  // padded rows / 128 x columns
  int rows;
  int columns;
};

/// Eight rows of eight columns, BF16: what a thread holds of a tile.
struct EightRows {
  int4 row[kEight];
};

__device__ __forceinline__ float column_of(const int4& row, int column) {
  const int words[4] = {row.x, row.y, row.z, row.w};
  const auto word = static_cast<unsigned>(words[column / 2]);
  return float_of(column % 2 == 0 ? word << 16 : word & 0xffff0000U);
}

/// The tile's largest magnitude of every column, then its scales. All threads call.
__device__ __forceinline__ void scale_columns(TransposeShared& shared, const EightRows& x,
                                              float* scales, int columns) {
#pragma unroll
  for (int j = 0; j < kEight; ++j) {
    float largest = 0.0F;
#pragma unroll
    for (int i = 0; i < kEight; ++i) largest = fmaxf(largest, fabsf(column_of(x.row[i], j)));
    largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, kTileLanes));
    if (lane_index() < kTileLanes) {
      shared.largest[warp_index()][lane_index() * kEight + j] = largest;
    }
  }
  __syncthreads();
  const int column = thread_index();
  if (column < kScaleTile) {
    float largest = 0.0F;
#pragma unroll
    for (int warp = 0; warp < kTransposeWarps; ++warp) {
      largest = fmaxf(largest, shared.largest[warp][column]);
    }
    const TileScale scale = tile_scale(largest, false);
    shared.inverse[column] = scale.inverse;
    if (column < columns) scales[column] = scale.scale;
  }
  __syncthreads();
}

/// Codes of this thread's eight by eight numbers, transposed into shared memory.
__device__ __forceinline__ void transpose_codes(TransposeShared& shared, const EightRows& x) {
  const int piece = thread_index() % kTileLanes;
  const int group = thread_index() / kTileLanes;
#pragma unroll
  for (int j = 0; j < kEight; ++j) {
    EightFloats along;
#pragma unroll
    for (int i = 0; i < kEight; ++i) along.value[i] = column_of(x.row[i], j);
    const int column = piece * kEight + j;
    shared.codes[column * kTileLanes + (group ^ piece)] = quantised(along, shared.inverse[column]);
  }
}

/// The block's part of a cast with transposition, from a source of rows as row_sources.hpp has
/// them.
template <class Source>
__device__ __forceinline__ void cast_transpose(const Source& source, const TransposedCodes& out) {
  // Rows whose loads are under way at once: what the registers hold.
  constexpr int kAtOnce = sizeof(typename Source::Piece) > 24 ? kEight / 2 : kEight;
  auto& shared = shared_memory<TransposeShared>();
  const int across = (out.columns + kScaleTile - 1) / kScaleTile;
  const int down = (out.rows + kScaleTile - 1) / kScaleTile;
  const std::int64_t stride = static_cast<std::int64_t>(down) * kScaleTile;
  for (int tile = block_index(); tile < across * down; tile += grid_size()) {
    const int top = tile / across * kScaleTile;
    const int left = tile % across * kScaleTile;
    const int column = left + thread_index() % kTileLanes * kEight;
    const int row = top + thread_index() / kTileLanes * kEight;
    EightRows x;
#pragma unroll
    for (int batch = 0; batch < kEight; batch += kAtOnce) {
      typename Source::Piece pieces[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        if (row + batch + i < out.rows && column < out.columns) {
          pieces[i] = source.load(row + batch + i, column);
        }
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const bool inside = row + batch + i < out.rows && column < out.columns;
        x.row[batch + i] = inside ? source.numbers(pieces[i]) : make_int4(0, 0, 0, 0);
      }
    }
    scale_columns(shared, x,
                  out.scales + static_cast<std::int64_t>(tile / across) * out.columns + left,
                  out.columns - left);
    transpose_codes(shared, x);
    __syncthreads();
    constexpr int kSixteens = kTileLanes / 2;  // of a transposed row
    constexpr int kRowsAtOnce = kStreamingThreads / kSixteens;
#pragma unroll
    for (int i = 0; i < kScaleTile / kRowsAtOnce; ++i) {
      const int turned = i * kRowsAtOnce + thread_index() / kSixteens;
      const int sixteen = thread_index() % kSixteens;
      if (left + turned >= out.columns) continue;
      const int swizzle = turned / kEight;
      const int4 both = *reinterpret_cast<const int4*>(
          &shared.codes[turned * kTileLanes + 2 * (sixteen ^ swizzle / 2)]);
      *reinterpret_cast<int4*>(out.codes + (left + turned) * stride + top + 2 * kEight * sixteen) =
          swizzle % 2 == 0 ? both : make_int4(both.z, both.w, both.x, both.y);
    }
    // The next tile's two barriers come before it writes codes over these.
  }
}

inline int transpose_blocks(int rows, int columns, int sms, const char* kernel) {
  const std::int64_t tiles = static_cast<std::int64_t>(ceil_quotient(rows, kScaleTile)) *
                             ceil_quotient(columns, kScaleTile);
  return persistent_grid(checked_work(tiles, kernel), sms, kTransposeBlocksPerSm);
}

}  // namespace pipecast::kernels
