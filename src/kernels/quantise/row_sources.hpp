#pragma once

/// Rows that a kernel reads as BF16, whether they were kept as BF16 or as E4M3 with scales. A
/// source has a Piece, which is what a thread loads of eight columns, `load` and, for when all
/// loads are under way, `numbers`.
#include "kernels/quantise/streaming.hpp"
#include "kernels/quantise/tile_scale.hpp"

namespace pipecast::kernels {

struct Bf16Rows {
  const Bf16* values;  // rows x columns
  int columns;

  using Piece = int4;
  __device__ __forceinline__ Piece load(int row, int column) const {
    return load_once(values + static_cast<std::int64_t>(row) * columns + column);
  }
  __device__ __forceinline__ int4 numbers(const Piece& piece) const { return piece; }
};

/// Rounded to BF16, as uncast_fp8 does.
struct ScaledRows {
  const E4m3* codes;    // rows x columns
  const float* scales;  // of rows x ceil(columns / 128) tiles
  ScaleOrder order;
  int rows;
  int columns;

  struct Piece {
    uint2 codes;
    float scale;
  };
  __device__ __forceinline__ Piece load(int row, int column) const {
    const int tiles = (columns + kScaleTile - 1) / kScaleTile;
    return {load_eight(codes + static_cast<std::int64_t>(row) * columns + column),
            __ldg(scales + scale_place(order, row, column / kScaleTile, rows, tiles))};
  }
  __device__ __forceinline__ int4 numbers(const Piece& piece) const {
    return pack(unpack(piece.codes, piece.scale));
  }
};

}  // namespace pipecast::kernels
