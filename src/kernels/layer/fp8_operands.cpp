#include "kernels/layer/fp8_operands.hpp"

#include <algorithm>

#include "kernels/quantise/cast_fp8.hpp"
#include "kernels/quantise/cast_transpose_fp8.hpp"
#include "kernels/quantise/transpose_fp8.hpp"

namespace pipecast::kernels {
namespace {

int tiles_of(int columns) { return (columns + kScaleTile - 1) / kScaleTile; }

RowsFp8 cast(const Buffer<Bf16>& source, int rows, int columns, ScaleOrder order, bool power_of_two,
             int sms) {
  RowsFp8 out{matrix_buffer<E4m3>(rows, columns), matrix_buffer<float>(rows, tiles_of(columns)),
              order, rows, columns};
  cast_fp8_1x128({source.data(), out.codes.data(), out.scales.data(), rows, columns, order,
                  power_of_two, sms});
  return out;
}

ColumnsFp8 room_for_columns(int rows, int columns) {
  const int tokens = padded_tokens(rows);
  return {matrix_buffer<E4m3>(columns, tokens), matrix_buffer<float>(tokens / kScaleTile, columns),
          columns, tokens};
}

}  // namespace

Buffer<float> zeros(std::int64_t rows, std::int64_t columns) {
  auto out = matrix_buffer<float>(rows, columns);
  std::fill(out.begin(), out.end(), 0.0F);
  return out;
}

RowsFp8 cast_rows(const Buffer<Bf16>& source, int rows, int columns, int sms) {
  return cast(source, rows, columns, ScaleOrder::kByTile, false, sms);
}

RowsFp8 cast_to_send(const Buffer<Bf16>& source, int rows, int columns, int sms) {
  return cast(source, rows, columns, ScaleOrder::kByRow, true, sms);
}

Buffer<float> scales_by_tile(const RowsFp8& sent, int sms) {
  const int tiles = tiles_of(sent.columns);
  auto out = matrix_buffer<float>(tiles, sent.rows);
  transpose_scales({sent.scales.data(), out.data(), sent.rows, tiles, sms});
  return out;
}

ColumnsFp8 cast_columns(const Buffer<Bf16>& source, int rows, int columns, int sms) {
  ColumnsFp8 out = room_for_columns(rows, columns);
  cast_transpose_fp8_128x1({.source = source.data(),
                            .codes = nullptr,
                            .scales = nullptr,
                            .order = {},
                            .row_weight = nullptr,
                            .transposed = out.codes.data(),
                            .new_scales = out.scales.data(),
                            .rows = rows,
                            .columns = columns,
                            .sms = sms});
  return out;
}

ColumnsFp8 cast_columns(const RowsFp8& source, const float* row_weight, int sms) {
  ColumnsFp8 out = room_for_columns(source.rows, source.columns);
  cast_transpose_fp8_128x1({.source = nullptr,
                            .codes = source.codes.data(),
                            .scales = source.scales.data(),
                            .order = source.order,
                            .row_weight = row_weight,
                            .transposed = out.codes.data(),
                            .new_scales = out.scales.data(),
                            .rows = source.rows,
                            .columns = source.columns,
                            .sms = sms});
  return out;
}

Buffer<Bf16> uncast(const RowsFp8& source, int sms) {
  auto out = matrix_buffer<Bf16>(source.rows, source.columns);
  uncast_fp8({source.codes.data(), source.scales.data(), out.data(), source.rows, source.columns,
              source.order, sms});
  return out;
}

}  // namespace pipecast::kernels
