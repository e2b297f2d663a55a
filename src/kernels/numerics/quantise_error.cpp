#include "kernels/numerics/quantise_error.hpp"

#include <cmath>

#include "base/error.hpp"

namespace pipecast::kernels {

QuantiseErrors quantise_errors(const QuantiseErrorCase& the_case) {
  require(the_case.rows > 0 && the_case.columns > 0,
          "a tensor of {} rows and {} columns: both are positive", the_case.rows, the_case.columns);
  constexpr std::string_view kPurpose = "tensor to quantise";
  SampleKind plain_kind = the_case.samples;
  plain_kind.outliers = {};
  const SampleMatrix plain =
      sample_matrix(the_case.rows, the_case.columns, plain_kind, the_case.seed, kPurpose);
  const SampleMatrix matrix =
      sample_matrix(the_case.rows, the_case.columns, the_case.samples, the_case.seed, kPurpose);
  const QuantisedMatrix codes = quantised(matrix, the_case.how);
  const std::vector<double> values = dequantised(codes);
  const double normal = smallest_normal(the_case.how.format);
  ErrorSums all;
  ErrorSums bulk;
  double lost = 0;
  double subnormal = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto expected = static_cast<double>(matrix.values[i]);
    const auto code = static_cast<double>(codes.codes.values[i]);
    all.add(values[i], expected);
    if (matrix.values[i] == plain.values[i]) bulk.add(values[i], expected);
    if (expected == 0) continue;
    if (code == 0) ++lost;
    if (std::abs(code) < normal) ++subnormal;
  }
  const auto count = static_cast<double>(values.size());
  return {.all = all.measures(),
          .bulk = bulk.measures(),
          .lost_to_zero = lost / count,
          .below_normal = subnormal / count};
}

}  // namespace pipecast::kernels
