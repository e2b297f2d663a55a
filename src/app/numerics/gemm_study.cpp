#include "app/numerics/gemm_study.hpp"

#include <algorithm>

#include "base/error.hpp"

namespace pipecast {

namespace {

using kernels::ErrorMeasures;
using kernels::GemmErrorCase;
using kernels::GemmErrors;
using kernels::GemmErrorStudy;

std::vector<NumericsSetting> settings_of(const GemmStudyRequest& request) {
  return {{"k", "k", request.k},
          {"promotion", "promotion", request.promotion},
          {"bits", "bits", request.fraction_bits},
          {"format", "format", request.format},
          {"tile", "tile", request.tile, true},
          {"block", "block", request.block, true},
          {"scales", "scales", request.scales},
          {"distribution", "distribution", request.distribution},
          {"outliers", "outliers", request.outliers},
          {"factor", "factor", request.factor}};
}

GemmErrorCase case_of(const GemmStudyRequest& request, const std::vector<std::size_t>& chosen) {
  return {.rows = request.rows,
          .columns = request.columns,
          .k = request.k[chosen[0]].value,
          .promotion = request.promotion[chosen[1]].value,
          .fraction_bits = request.fraction_bits[chosen[2]].value,
          .format = request.format[chosen[3]].value,
          .a_tile = request.tile[chosen[4]].value,
          .b_tile = request.block[chosen[5]].value,
          .scales = request.scales[chosen[6]].value,
          .samples = {.distribution = request.distribution[chosen[7]].value,
                      .outliers = {.fraction = request.outliers[chosen[8]].value,
                                   .factor = request.factor[chosen[9]].value}},
          .seed = request.seed};
}

/// Parts have a fixed size and merge in their order, whoever works them out.
GemmErrors errors_of(const GemmErrorStudy& study, int rows, int threads,
                     const NumericsProgress& progress) {
  constexpr int kRowsOfPart = 8;
  std::vector<GemmErrors> parts(static_cast<std::size_t>((rows + kRowsOfPart - 1) / kRowsOfPart));
  in_parallel(parts.size(), threads, progress, "products", [&](std::size_t part) {
    const int first = static_cast<int>(part) * kRowsOfPart;
    parts[part] = study.errors_of_rows(first, std::min(first + kRowsOfPart, rows));
  });
  GemmErrors out;
  for (const GemmErrors& part : parts) {
    out.accumulation.merge(part.accumulation);
    out.rounding.merge(part.rounding);
    out.total.merge(part.total);
  }
  return out;
}

std::vector<double> measures_of(const GemmErrors& errors) {
  const ErrorMeasures sums = errors.accumulation.measures();
  const ErrorMeasures total = errors.total.measures();
  return {sums.largest_over_mean, sums.relative_rms,
          sums.largest_relative,  errors.rounding.measures().relative_rms,
          total.relative_rms,     total.largest_over_mean};
}

}  // namespace

NumericsTable study_gemm(const GemmStudyRequest& request) {
  constexpr std::int64_t kMostNumbers = std::int64_t{1} << 26;
  NumericsTable out{
      .study = "gemm",
      .title = fmt::format("FP8 products of {} x k by k x {} on the tensor cores of Hopper",
                           request.rows, request.columns),
      .settings = settings_of(request),
      .measures = {{"accumulation_largest_over_mean", "sum: largest"},
                   {"accumulation_relative_rms", "RMS"},
                   {"accumulation_largest_relative", "relative"},
                   {"rounding_relative_rms", "rounding: RMS"},
                   {"total_relative_rms", "both: RMS"},
                   {"total_largest_over_mean", "largest"}},
      .rows = {},
      .notes =
          "sum: of the tensor cores' sums alone, against the exact product of the rounded "
          "operands;\n"
          "rounding: of the operands' rounding; both: against the product of the numbers as they "
          "were.\n"
          "largest: largest error over the mean magnitude of the results; RMS: root of the summed "
          "squares\n"
          "of errors over that of results; relative: largest error of a result over that "
          "result.\n"};
  const auto all = combinations(out.settings);
  for (const std::vector<std::size_t>& chosen : all) {
    const GemmErrorCase one = case_of(request, chosen);
    require(std::int64_t{one.k} * (one.rows + one.columns) <= kMostNumbers,
            "k = {} with {} rows and {} columns: operands of at most {} numbers are studied", one.k,
            one.rows, one.columns, kMostNumbers);
    const auto finished = static_cast<double>(out.rows.size());
    const auto progress = [&](std::string_view stage, double fraction) {
      request.progress(stage, (finished + fraction) / static_cast<double>(all.size()));
    };
    const GemmErrorStudy study(one);
    out.rows.push_back(
        {chosen, measures_of(errors_of(study, one.rows, request.threads, progress))});
  }
  return out;
}

}  // namespace pipecast
