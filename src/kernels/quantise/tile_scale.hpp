#pragma once

#include "kernels/numbers/bits.hpp"
#include "kernels/numbers/fp8.hpp"

namespace pipecast::kernels {

/// Elements that share a scale along the direction of the products' sum. Source: DeepSeek-V3
/// report (arXiv 2412.19437), section 3.3.2.
constexpr int kScaleTile = 128;

/// In which order the scales of activations lie.
enum class ScaleOrder {
  kByTile,  // tiles x rows, as matrix products read them
  kByRow    // rows x tiles, as tokens are sent and sorted; transpose_scales makes the other
};

/// The scale of a tile whose largest magnitude is smaller: codes of zeros and of numbers that no
/// FP32 scale could bring to 448 are then zeros or coarse, never 0 * infinity.
constexpr float kSmallestScaled = 0x1p-100F;

/// The scale of a tile: number = code * scale.
struct TileScale {
  float scale;
  float inverse;
};

/// The largest magnitude of a tile becomes E4M3's largest number. What is not finite stays so:
/// - A NaN is coded as NaN and leaves the others' scale alone (`largest` is of the rest).
/// - A tile with an infinity has an infinite scale and codes of 0 and NaN: every number read back
///   from it is NaN.
/// @param largest       largest magnitude of the tile, no NaN
/// @param power_of_two  rounds the scale up to a power of two, so that a later change of tiles
///                      rescales without an error
PIPECAST_HOST_DEVICE TileScale tile_scale(float largest, bool power_of_two) {
  const float floored = largest < kSmallestScaled ? kSmallestScaled : largest;
  float scale = floored / kLargestE4m3;
  if (power_of_two) {
    constexpr std::uint32_t kMantissa = 0x7fffffU;
    scale = float_of((bits_of(scale) + kMantissa) & ~kMantissa);
  }
  return {scale, 1.0F / scale};
}

/// Where the scale of a row's tile lies.
PIPECAST_HOST_DEVICE std::int64_t scale_place(ScaleOrder order, int row, int tile, int rows,
                                              int tiles) {
  return order == ScaleOrder::kByTile ? static_cast<std::int64_t>(tile) * rows + row
                                      : static_cast<std::int64_t>(row) * tiles + tile;
}

}  // namespace pipecast::kernels
