#include "kernels/numerics/fp8_product.hpp"

#include <algorithm>
#include <cmath>

namespace pipecast::kernels {
namespace {

constexpr int kStep = Fp8Operands::kCount;

/// @param codes  values of the format, which rounding leaves as they are
template <class Format, class Round>
void unpack_row(const float* codes, int k, const Round& round, std::vector<Fp8Operands>& out) {
  for (int first = 0; first < k; first += kStep) {
    Format packed[kStep] = {};
    for (int i = 0; i < std::min(kStep, k - first); ++i) packed[i] = round(codes[first + i]);
    out.push_back(unpack(packed));
  }
}

}  // namespace

SmallFloat format_of(Fp8Kind kind) { return kind == Fp8Kind::kE4m3 ? kFormatE4m3 : kFormatE5m2; }

Fp8Operand fp8_operand(const SampleMatrix& matrix, Fp8Kind kind, const ScaleTile& tile,
                       ScaleKind scales) {
  Fp8Operand out;
  out.rounded = quantised(matrix, {.format = format_of(kind), .tile = tile, .scales = scales});
  out.steps = (matrix.columns + kStep - 1) / kStep;
  out.unpacked.reserve(static_cast<std::size_t>(matrix.rows) * static_cast<std::size_t>(out.steps));
  for (int row = 0; row < matrix.rows; ++row) {
    const float* codes = &out.rounded.codes.values[matrix.index(row, 0)];
    if (kind == Fp8Kind::kE4m3) {
      unpack_row<E4m3>(codes, matrix.columns, to_e4m3, out.unpacked);
    } else {
      unpack_row<E5m2>(codes, matrix.columns, to_e5m2, out.unpacked);
    }
  }
  return out;
}

std::vector<float> fp8_product_row(const Fp8Operand& a, int row, const Fp8Operand& b,
                                   const Fp8Sums& sums) {
  const auto steps = static_cast<std::size_t>(a.steps);
  const int interval = sums.promotion == 0 ? a.steps : sums.promotion / kStep;
  const Fp8Operands* left = &a.unpacked[static_cast<std::size_t>(row) * steps];
  std::vector<float> out(static_cast<std::size_t>(b.rounded.codes.rows));
  for (std::size_t column = 0; column < out.size(); ++column) {
    const Fp8Operands* right = &b.unpacked[column * steps];
    float sum = 0;
    for (int begin = 0; begin < a.steps; begin += interval) {
      float partial = 0;
      for (int step = begin; step < std::min(begin + interval, a.steps); ++step) {
        partial = accumulate(partial, left[step], right[step], sums.fraction_bits);
      }
      const float scale = a.rounded.scale(row, begin * kStep) *
                          b.rounded.scale(static_cast<int>(column), begin * kStep);
      sum = std::fma(partial, scale, sum);
    }
    out[column] = sum;
  }
  return out;
}

}  // namespace pipecast::kernels
