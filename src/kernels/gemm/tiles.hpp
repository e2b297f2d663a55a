#pragma once

/// Which tiles of a product's result a block computes, and in which order. Blocks are persistent:
/// block b computes tiles b, b + grid, b + 2 grid, ...
#include "kernels/simt/simt.hpp"

namespace pipecast::kernels {

/// A tile of the result.
struct Tile {
  int row = 0;     // its first, over the rows of all groups
  int column = 0;  // its first
  int group = 0;   // whose right operand it takes
  int rows = 0;    // that hold something, from `row` on; may be more than the tile has
};

__host__ __device__ constexpr int blocks_of(int extent, int block) {
  return (extent + block - 1) / block;
}

/// Row blocks of a band: tiles that run at the same time share a band of A and few columns of B, so
/// that both stay in the L2.
constexpr int kBandRows = 16;

/// Tile `index` of rows x columns tiles: bands of 16 rows, column by column inside a band.
__device__ __forceinline__ void place_in_band(int index, int rows, int columns, int* row,
                                              int* column) {
  const int band = index / (kBandRows * columns);
  const int inside = index - band * kBandRows * columns;
  const int left = rows - band * kBandRows;
  const int height = left < kBandRows ? left : kBandRows;
  *row = band * kBandRows + inside % height;
  *column = inside / height;
}

/// One product.
struct DenseTiles {
  int m;
  int n;
  int tile_rows;
  int tile_columns;

  __host__ __device__ int count() const {
    return blocks_of(m, tile_rows) * blocks_of(n, tile_columns);
  }
  /// Tile `index`, which only grows from call to call. False if there is none any more.
  __device__ __forceinline__ bool find(int index, Tile* tile) {
    if (index >= count()) return false;
    int row = 0;
    int column = 0;
    place_in_band(index, blocks_of(m, tile_rows), blocks_of(n, tile_columns), &row, &column);
    *tile = Tile{row * tile_rows, column * tile_columns, 0, m - row * tile_rows};
    return true;
  }
};

/// Groups one after the other along the rows, each from a multiple of 128 on. What lies past the
/// last group is nobody's.
struct ContiguousTiles {
  static constexpr int kGroupRows = 128;
  DenseTiles room;
  int groups;
  const int* offsets;  // groups + 1

  __device__ __forceinline__ bool find(int index, Tile* tile) {
    DenseTiles held = room;
    const int end = __ldg(offsets + groups);
    if (end < held.m) held.m = end;
    if (!held.find(index, tile)) return false;
    // The last group that starts at the row or before: those of no rows start with the next.
    int first = 0;
    int last = groups - 1;
    while (first < last) {
      const int middle = (first + last + 1) / 2;
      if (__ldg(offsets + middle) <= tile->row) {
        first = middle;
      } else {
        last = middle - 1;
      }
    }
    tile->group = first;
    return true;
  }
};

/// Groups with room for as many rows each, of which a count says how many there are.
struct MaskedTiles {
  DenseTiles room;  // of one group; its rows are a multiple of the tile's
  int groups;
  const int* counts;
  int group = 0;   // that the last tile was in
  int before = 0;  // tiles of the groups before it

  __device__ __forceinline__ bool find(int index, Tile* tile) {
    const int columns = blocks_of(room.n, room.tile_columns);
    for (; group < groups; ++group) {
      const int held = __ldg(counts + group);
      const int rows = blocks_of(held, room.tile_rows);
      if (index - before < rows * columns) {
        int row = 0;
        int column = 0;
        place_in_band(index - before, rows, columns, &row, &column);
        *tile = Tile{group * room.m + row * room.tile_rows, column * room.tile_columns, group,
                     held - row * room.tile_rows};
        return true;
      }
      before += rows * columns;
    }
    return false;
  }
};

/// Groups that differ in depth, with a result of the same extents each.
struct StackedTiles {
  DenseTiles each;
  int groups;

  __device__ __forceinline__ bool find(int index, Tile* tile) {
    const int group = index / each.count();
    if (group >= groups) return false;
    each.find(index - group * each.count(), tile);
    tile->group = group;
    tile->row += group * each.m;
    return true;
  }
};

/// Blocks of a persistent grid: no more than there are tiles or SMs.
inline int persistent_blocks(int tiles, int sms) {
  const int available = sms > 0 ? sms : device_sms();
  return tiles < available ? tiles : available;
}

}  // namespace pipecast::kernels
