#include "kernels/numerics/gemm_error.hpp"

#include <algorithm>
#include <cmath>

#include "base/error.hpp"

namespace pipecast::kernels {
namespace {

constexpr int kStep = Fp8Operands::kCount;

void check(const GemmErrorCase& c) {
  require(c.rows > 0 && c.columns > 0, "a product of {} rows and {} columns: both are positive",
          c.rows, c.columns);
  require(c.k > 0 && c.k % kStep == 0, "k = {}: a positive multiple of {} is expected", c.k, kStep);
  require(c.promotion >= 0 && c.promotion % kStep == 0,
          "promotion every {}: a multiple of {} is expected", c.promotion, kStep);
  require(c.fraction_bits >= 1 && c.fraction_bits <= 23, "{} fraction bits: 1 to 23 are expected",
          c.fraction_bits);
  for (const ScaleTile& tile : {c.a_tile, c.b_tile}) {
    if (tile.columns == 0 || tile.columns >= c.k || c.scales == ScaleKind::kNone) continue;
    require(c.promotion != 0 && tile.columns % c.promotion == 0,
            "scales of {} along k need promotion every {} or a divisor of it, not {}: sums of "
            "products of different scales cannot be joined in the tensor core",
            tile.columns, tile.columns, c.promotion == 0 ? "none" : std::to_string(c.promotion));
  }
}

template <class Format, class Round>
void unpack_row(const float* codes, int k, const Round& round, std::vector<Fp8Operands>& out) {
  Format packed[kStep];
  for (int first = 0; first < k; first += kStep) {
    for (int i = 0; i < kStep; ++i) packed[i] = round(codes[first + i]);
    out.push_back(unpack(packed));
  }
}

}  // namespace

GemmErrorStudy::GemmErrorStudy(const GemmErrorCase& the_case) : case_(the_case) {
  check(case_);
  a_ = operand(case_.rows, case_.a_tile, "left operand");
  b_ = operand(case_.columns, case_.b_tile, "right operand");
}

GemmErrorStudy::Operand GemmErrorStudy::operand(int rows, const ScaleTile& tile,
                                                std::string_view purpose) const {
  const bool e4m3 = case_.format == Fp8Kind::kE4m3;
  Operand out;
  out.exact = sample_matrix(rows, case_.k, case_.samples, case_.seed, purpose);
  out.rounded =
      quantised(out.exact,
                {.format = e4m3 ? kFormatE4m3 : kFormatE5m2, .tile = tile, .scales = case_.scales});
  out.dequantised = kernels::dequantised(out.rounded);
  out.unpacked.reserve(static_cast<std::size_t>(rows) * static_cast<std::size_t>(case_.k / kStep));
  for (int row = 0; row < rows; ++row) {
    const float* codes = &out.rounded.codes.values[out.exact.index(row, 0)];
    if (e4m3) {
      unpack_row<E4m3>(codes, case_.k, to_e4m3, out.unpacked);
    } else {
      unpack_row<E5m2>(codes, case_.k, to_e5m2, out.unpacked);
    }
  }
  return out;
}

/// As the kernel does: partial sums of the tensor core, each times its scales added in FP32.
std::vector<float> GemmErrorStudy::emulated_row(int row) const {
  const int interval = case_.promotion == 0 ? case_.k : case_.promotion;
  const auto steps = static_cast<std::size_t>(case_.k / kStep);
  const Fp8Operands* a = &a_.unpacked[static_cast<std::size_t>(row) * steps];
  std::vector<float> out(static_cast<std::size_t>(case_.columns));
  for (int column = 0; column < case_.columns; ++column) {
    const Fp8Operands* b = &b_.unpacked[static_cast<std::size_t>(column) * steps];
    float sum = 0;
    for (int begin = 0; begin < case_.k; begin += interval) {
      const int end = std::min(begin + interval, case_.k);
      float partial = 0;
      for (int step = begin / kStep; step < end / kStep; ++step) {
        partial = accumulate(partial, a[step], b[step], case_.fraction_bits);
      }
      const float scale = a_.rounded.scale(row, begin) * b_.rounded.scale(column, begin);
      sum = std::fma(partial, scale, sum);
    }
    out[static_cast<std::size_t>(column)] = sum;
  }
  return out;
}

GemmErrors GemmErrorStudy::errors_of_rows(int first, int end) const {
  GemmErrors out;
  for (int row = first; row < end; ++row) {
    const std::vector<float> actual = emulated_row(row);
    const double* a_codes = &a_.dequantised[a_.exact.index(row, 0)];
    const float* a = &a_.exact.values[a_.exact.index(row, 0)];
    for (int column = 0; column < case_.columns; ++column) {
      const double* b_codes = &b_.dequantised[b_.exact.index(column, 0)];
      const float* b = &b_.exact.values[b_.exact.index(column, 0)];
      double of_codes = 0;
      double of_matrices = 0;
      for (int i = 0; i < case_.k; ++i) {
        of_codes += a_codes[i] * b_codes[i];
        of_matrices += static_cast<double>(a[i]) * static_cast<double>(b[i]);
      }
      const auto result = static_cast<double>(actual[static_cast<std::size_t>(column)]);
      out.accumulation.add(result, of_codes);
      out.rounding.add(of_codes, of_matrices);
      out.total.add(result, of_matrices);
    }
  }
  return out;
}

}  // namespace pipecast::kernels
