#pragma once

/// Rows that a kernel reads as BF16, whether they were kept as BF16 or as E4M3 with scales.
#include "kernels/quantise/streaming.hpp"
#include "kernels/quantise/tile_scale.hpp"

namespace pipecast::kernels {

struct Bf16Rows {
  const Bf16* values;  // rows x columns
  int columns;

  __device__ __forceinline__ uint4 eight(int row, int column) const {
    return load_once(values + static_cast<std::int64_t>(row) * columns + column);
  }
};

/// Rounded to BF16, as uncast_fp8 does.
struct ScaledRows {
  const E4m3* codes;    // rows x columns
  const float* scales;  // of rows x ceil(columns / 128) tiles
  ScaleOrder order;
  int rows;
  int columns;

  __device__ __forceinline__ uint4 eight(int row, int column) const {
    const int tiles = (columns + kScaleTile - 1) / kScaleTile;
    const uint2 packed = load_eight(codes + static_cast<std::int64_t>(row) * columns + column);
    return pack(
        unpack(packed, __ldg(scales + scale_place(order, row, column / kScaleTile, rows, tiles))));
  }
};

}  // namespace pipecast::kernels
