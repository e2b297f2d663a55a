#include "model/ops/gemm_tile.hpp"

#include <array>

namespace pipecast {

namespace {

constexpr std::array kRows = {64, 128, 256};
// Above 128 columns every tile spans several weight scales: only these are compiled.
constexpr std::array kColumns = {16, 32, 48, 64, 80, 96, 112, 128, 144, 160, 192};

// With splits of K they cover what the H100 table's times show. The largest first, which mostly
// win; of those as large as one another the one that reads least.
constexpr std::array<GemmTile, 18> kBf16Tiles = {{{128, 256},
                                                  {256, 128},
                                                  {128, 192},
                                                  {192, 128},
                                                  {256, 96},
                                                  {128, 160},
                                                  {128, 128},
                                                  {64, 256},
                                                  {256, 64},
                                                  {128, 96},
                                                  {64, 192},
                                                  {192, 64},
                                                  {64, 160},
                                                  {64, 128},
                                                  {128, 64},
                                                  {64, 96},
                                                  {64, 64},
                                                  {64, 32}}};

std::span<const int> heights(Fp8Rows rows) {
  const std::span<const int> all(kRows);
  switch (rows) {
    case Fp8Rows::kDense:
      return all;
    case Fp8Rows::kMasked:
    case Fp8Rows::kGradient:
      return all.first(2);
    case Fp8Rows::kContiguous:
      return all.subspan(1, 1);
  }
  return all;
}

}  // namespace

std::span<const GemmTile> bf16_tiles() { return kBf16Tiles; }

GemmTile fp8_tile(const ProductExtents& p, Fp8Rows rows, int sms, GemmTile largest) {
  GemmTile best;
  std::int64_t best_waves = 0;
  std::int64_t best_last = 0;
  for (const int m : heights(rows)) {
    for (const int n : kColumns) {
      if (m > largest.m || n > largest.n) continue;
      if (m > 128 && n > 128) continue;  // the registers hold no more sums
      const GemmTile tile{m, n};
      const std::int64_t tiles = tile.count(p);
      const std::int64_t waves = ceil_div(tiles, std::int64_t{sms});
      const std::int64_t last = tiles - (waves - 1) * sms;  // SMs at work in the last wave
      bool better = best.m == 0 || waves < best_waves;
      if (!better && waves == best_waves) {
        better = last > best_last;
        if (last == best_last) {
          better = (m == best.m && n < best.n) || (n == best.n && m < best.m) ||
                   (m != best.m && n > best.n && n <= p.n && m <= p.rows);
        }
      }
      if (better) {
        best = tile;
        best_waves = waves;
        best_last = last;
      }
    }
  }
  return best;
}

}  // namespace pipecast
