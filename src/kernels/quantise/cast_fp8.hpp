#pragma once

#include "kernels/numbers/bf16.hpp"
#include "kernels/numbers/fp8.hpp"
#include "kernels/quantise/tile_scale.hpp"

namespace pipecast::kernels {

/// Activations to E4M3 with one FP32 scale per 128 elements of a row, as tile_scale() chooses it.
/// Source: DeepSeek-V3 report (arXiv 2412.19437), section 3.3.2. `columns` is a multiple of 8; the
/// last tile of a row may be shorter than 128. All arrays are the device's, row-major.
struct CastFp8 {
  const Bf16* source;  // rows x columns
  E4m3* codes;         // rows x columns
  float* scales;       // of rows x ceil(columns / 128) tiles, in `order`
  int rows;
  int columns;
  ScaleOrder order;
  bool power_of_two;  // scales are powers of two, as the dispatch sends them
  int sms;            // how many SMs the kernel may use; 0 for all
};

/// The same, back to BF16.
struct UncastFp8 {
  const E4m3* codes;
  const float* scales;
  Bf16* result;
  int rows;
  int columns;
  ScaleOrder order;
  int sms;
};

/// Weights to E4M3 with one FP32 scale per block of 128 x 128.
struct CastFp8Blocks {
  const Bf16* source;  // rows x columns
  E4m3* codes;         // rows x columns
  float* scales;       // ceil(rows / 128) x ceil(columns / 128)
  int rows;
  int columns;
  int sms;
};

/// @throws DeviceError on columns that are no multiple of 8, or a failed launch
void cast_fp8_1x128(const CastFp8& problem);
void uncast_fp8(const UncastFp8& problem);
void cast_fp8_128x128(const CastFp8Blocks& problem);

}  // namespace pipecast::kernels
