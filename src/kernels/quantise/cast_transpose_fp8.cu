#include "kernels/quantise/cast_transpose_fp8.hpp"
#include "kernels/quantise/row_sources.hpp"
#include "kernels/quantise/transposed_tile.hpp"

namespace pipecast::kernels {
namespace {

/// Rows times a weight each, rounded to BF16.
template <class Rows>
struct WeightedRows {
  Rows rows;
  const float* weight;

  struct Piece {
    typename Rows::Piece piece;
    float factor;
  };
  __device__ __forceinline__ Piece load(int row, int column) const {
    return {rows.load(row, column), __ldg(weight + row)};
  }
  __device__ __forceinline__ int4 numbers(const Piece& piece) const {
    EightFloats x = unpack(rows.numbers(piece.piece));
#pragma unroll
    for (int i = 0; i < kEight; ++i) x.value[i] *= piece.factor;
    return pack(x);
  }
};

template <class Source>
__global__ void __launch_bounds__(kStreamingThreads, kTransposeBlocksPerSm)
    cast_transpose_fp8_128x1_kernel(Source source, TransposedCodes out) {
  cast_transpose(source, out);
}

template <class Source>
void start(const CastTransposeFp8& p, const Source& source) {
  launch(cast_transpose_fp8_128x1_kernel<Source>,
         {transpose_blocks(p.rows, p.columns, p.sms, "cast_transpose_fp8_128x1"), kStreamingThreads,
          sizeof(TransposeShared)},
         source, TransposedCodes{p.transposed, p.new_scales, p.rows, p.columns});
}

template <class Rows>
void start_weighted(const CastTransposeFp8& p, const Rows& rows) {
  if (p.row_weight == nullptr) {
    start(p, rows);
  } else {
    start(p, WeightedRows<Rows>{rows, p.row_weight});
  }
}

}  // namespace

void cast_transpose_fp8_128x1(const CastTransposeFp8& p) {
  require_eights(p.rows, p.columns, "cast_transpose_fp8_128x1");
  if ((p.source == nullptr) == (p.codes == nullptr)) {
    throw DeviceError("cast_transpose_fp8_128x1: either BF16 rows or codes");
  }
  if (p.rows == 0) return;
  if (p.source != nullptr) {
    start_weighted(p, Bf16Rows{p.source, p.columns});
  } else {
    start_weighted(p, ScaledRows{p.codes, p.scales, p.order, p.rows, p.columns});
  }
}

}  // namespace pipecast::kernels
