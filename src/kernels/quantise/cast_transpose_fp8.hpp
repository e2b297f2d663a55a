#pragma once

#include "kernels/numbers/bf16.hpp"
#include "kernels/numbers/fp8.hpp"
#include "kernels/quantise/tile_scale.hpp"

namespace pipecast::kernels {

/// Rows (tokens) of the transposed codes: whole tiles, zeros behind the last token, so that the
/// weight gradient sums over a multiple of 128.
constexpr int padded_tokens(int rows) { return (rows + kScaleTile - 1) / kScaleTile * kScaleTile; }

/// Activations to E4M3, transposed, with one FP32 scale per 128 tokens of a column, as
/// tile_scale() chooses it: an operand of the weight gradient. Source: DeepSeek-V3 report (arXiv
/// 2412.19437), section 3.3 and figure 6. `columns` is a multiple of 8; rows are free. Either
/// `source` or `codes` is given; codes are read back to BF16 first, as uncast_fp8 does, so that
/// one kernel gives the same bits as two. All arrays are the device's, row-major.
struct CastTransposeFp8 {
  const Bf16* source;       // rows x columns; null: the codes
  const E4m3* codes;        // rows x columns, with a scale per 1 x 128
  const float* scales;      // of rows x ceil(columns / 128) tiles, in `order`
  ScaleOrder order;         // of `scales`
  const float* row_weight;  // rows; multiplies every row before the cast; null: none
  E4m3* transposed;         // columns x padded_tokens(rows)
  float* new_scales;        // padded_tokens(rows) / 128 x columns
  int rows;
  int columns;
  int sms;  // how many SMs the kernel may use; 0 for all
};

/// @throws DeviceError on columns that are no multiple of 8, without or with both sources, or a
///         failed launch
void cast_transpose_fp8_128x1(const CastTransposeFp8& problem);

}  // namespace pipecast::kernels
