/// Output tiles of matrix products: which ones kernels offer and which one they pick.
#pragma once

#include <cstdint>
#include <span>

#include "base/units.hpp"

namespace pipecast {

/// C[m,n] = A[m,k] * B[k,n], in `groups` products of `rows` = ceil(m / groups) rows each.
struct ProductExtents {
  std::int64_t rows = 0;
  std::int64_t n = 0;
  std::int64_t k = 0;
  std::int64_t groups = 1;
  /// Where groups follow one another, each padded to whole blocks of kPaddedRows rows: these blocks
  /// of all groups together, however uneven the groups are. 0: every group has `rows` of its own.
  std::int64_t padded_blocks = 0;
};

/// Rows to which groups that follow one another are padded (DeepGEMM).
inline constexpr int kPaddedRows = 128;

/// Rows and columns of C that one thread block computes at a time.
struct GemmTile {
  int m = 0;
  int n = 0;

  [[nodiscard]] std::int64_t row_blocks(const ProductExtents& p) const {
    if (p.padded_blocks > 0) return p.padded_blocks * (kPaddedRows / m);
    return p.groups * ceil_div(p.rows, std::int64_t{m});
  }
  [[nodiscard]] std::int64_t column_blocks(const ProductExtents& p) const {
    return ceil_div(p.n, std::int64_t{n});
  }
  [[nodiscard]] std::int64_t count(const ProductExtents& p) const {
    return row_blocks(p) * column_blocks(p);
  }
};

/// Which tile heights a kind of product offers.
enum class Fp8Rows : std::uint8_t {
  kDense,       ///< 64, 128, 256
  kMasked,      ///< 64, 128: groups of known capacity, masked by their counts
  kContiguous,  ///< 128: groups padded to 128 rows
  kGradient,    ///< 64, 128: FP32 results leave no registers for more
};

/// The tile with the fewest waves over `sms` SMs; among those the one that leaves fewest SMs idle
/// in the last wave; among those the smaller one, or the wider one that still fits the product.
/// That is what DeepGEMM does (its heuristic of 2025, read in the H100 table: the measured time of
/// 528 shapes divided by this choice's waves depends on the tile alone). It does not always pick
/// the fastest: a product may get faster when rows are added and the choice changes.
/// @param largest  rows and columns of the largest tiles that the kernel's version offers: 128 or
///                 more, 16 .. 192
GemmTile fp8_tile(const ProductExtents& p, Fp8Rows rows, int sms, GemmTile largest);

/// Tiles that cuBLAS's Hopper kernels offer; the fastest for the shape is taken, as its heuristic
/// aims to.
std::span<const GemmTile> bf16_tiles();

}  // namespace pipecast
