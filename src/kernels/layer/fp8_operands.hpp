/// Operands of FP8 products, as DeepSeek-V3's recipe casts them (arXiv 2412.19437, section 3.3).
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/memory/buffer.hpp"
#include "kernels/numbers/bf16.hpp"
#include "kernels/numbers/fp8.hpp"
#include "kernels/quantise/tile_scale.hpp"

namespace pipecast::kernels {

template <class T>
Buffer<T> matrix_buffer(std::int64_t rows, std::int64_t columns) {
  return Buffer<T>(static_cast<std::size_t>(rows * columns));
}

/// For what kernels add to.
Buffer<float> zeros(std::int64_t rows, std::int64_t columns);

/// Activations with a scale per 1 x 128.
struct RowsFp8 {
  Buffer<E4m3> codes{};
  Buffer<float> scales{};
  ScaleOrder order{};
  int rows{};
  int columns{};
};

/// The same transposed, with a scale per 128 tokens of a column: an operand of a weight gradient.
struct ColumnsFp8 {
  Buffer<E4m3> codes{};    // columns x padded tokens
  Buffer<float> scales{};  // padded tokens / 128 x columns
  int columns{};
  int padded_tokens{};
};

RowsFp8 cast_rows(const Buffer<Bf16>& source, int rows, int columns, int sms);

/// As tokens and their gradients are sent: scales row by row, powers of two.
RowsFp8 cast_to_send(const Buffer<Bf16>& source, int rows, int columns, int sms);

/// What was sent, as products read it: the same codes, scales tile by tile.
Buffer<float> scales_by_tile(const RowsFp8& sent, int sms);

ColumnsFp8 cast_columns(const Buffer<Bf16>& source, int rows, int columns, int sms);

/// @param row_weight  multiplies the rows before the cast; null: 1
ColumnsFp8 cast_columns(const RowsFp8& source, const float* row_weight, int sms);

Buffer<Bf16> uncast(const RowsFp8& source, int sms);

}  // namespace pipecast::kernels
