#pragma once

#include "kernels/numbers/fp8.hpp"

namespace pipecast::kernels {

/// FP8 weights with their 128 x 128 scales transposed, for the product that follows: the input
/// gradient reads a weight the other way than the forward pass. Rows and columns are multiples of
/// 16. All arrays are the device's, row-major.
struct TransposeFp8 {
  const E4m3* codes;         // rows x columns
  const float* scales;       // ceil(rows / 128) x ceil(columns / 128)
  E4m3* transposed;          // columns x rows
  float* transposed_scales;  // ceil(columns / 128) x ceil(rows / 128)
  int rows;
  int columns;
  int sms;  // how many SMs the kernel may use; 0 for all
};

/// Scales of activations, one per row and tile of 128, from the order in which tokens are sent to
/// the one in which products read them (ScaleOrder::kByRow to kByTile).
struct TransposeScales {
  const float* scales;  // rows x tiles
  float* transposed;    // tiles x rows
  int rows;
  int tiles;
  int sms;
};

/// @throws DeviceError on extents outside of those above, or a failed launch
void transpose_fp8(const TransposeFp8& problem);
void transpose_scales(const TransposeScales& problem);

}  // namespace pipecast::kernels
