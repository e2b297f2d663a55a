#include "kernels/numerics/gemm_error.hpp"

#include <string>

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

}  // namespace

GemmErrorStudy::GemmErrorStudy(const GemmErrorCase& the_case) : case_(the_case) {
  check(case_);
  a_ = operand(case_.rows, case_.a_tile, "left operand");
  b_ = operand(case_.columns, case_.b_tile, "right operand");
}

GemmErrorStudy::Operand GemmErrorStudy::operand(int rows, const ScaleTile& tile,
                                                std::string_view purpose) const {
  Operand out;
  out.exact = sample_matrix(rows, case_.k, case_.samples, case_.seed, purpose);
  out.fp8 = fp8_operand(out.exact, case_.format, tile, case_.scales);
  out.values = dequantised(out.fp8.rounded);
  return out;
}

GemmErrors GemmErrorStudy::errors_of_rows(int first, int end) const {
  GemmErrors out;
  for (int row = first; row < end; ++row) {
    const std::vector<float> actual = fp8_product_row(
        a_.fp8, row, b_.fp8, {.promotion = case_.promotion, .fraction_bits = case_.fraction_bits});
    const double* a_codes = &a_.values[a_.exact.index(row, 0)];
    const float* a = &a_.exact.values[a_.exact.index(row, 0)];
    for (int column = 0; column < case_.columns; ++column) {
      const double* b_codes = &b_.values[b_.exact.index(column, 0)];
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
