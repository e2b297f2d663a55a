#include "app/numerics/quantise_study.hpp"

#include "base/error.hpp"

namespace pipecast {

namespace {

using kernels::QuantiseErrorCase;
using kernels::QuantiseErrors;

QuantiseErrorCase case_of(const QuantiseStudyRequest& request,
                          const std::vector<std::size_t>& chosen) {
  return {.rows = request.rows,
          .columns = request.columns,
          .how = {.format = request.format[chosen[0]].value,
                  .tile = request.tile[chosen[1]].value,
                  .scales = request.scales[chosen[2]].value},
          .samples = {.distribution = request.distribution[chosen[3]].value,
                      .outliers = {.fraction = request.outliers[chosen[4]].value,
                                   .factor = request.factor[chosen[5]].value}},
          .seed = request.seed};
}

}  // namespace

NumericsTable study_quantise(const QuantiseStudyRequest& request) {
  constexpr std::int64_t kMostNumbers = std::int64_t{1} << 24;
  require(std::int64_t{request.rows} * request.columns <= kMostNumbers,
          "{} rows of {} columns: tensors of at most {} numbers are studied", request.rows,
          request.columns, kMostNumbers);
  NumericsTable out{.study = "quantise",
                    .title = fmt::format("tensors of {} x {} rounded to small formats",
                                         request.rows, request.columns),
                    .settings = {{"format", "format", request.format},
                                 {"tile", "tile", request.tile, true},
                                 {"scales", "scales", request.scales},
                                 {"distribution", "distribution", request.distribution},
                                 {"outliers", "outliers", request.outliers},
                                 {"factor", "factor", request.factor}},
                    .measures = {{"relative_rms", "RMS"},
                                 {"bulk_relative_rms", "RMS of the bulk"},
                                 {"bulk_largest_relative", "largest relative"},
                                 {"below_normal", "subnormal", true},
                                 {"lost_to_zero", "lost", true}},
                    .rows = {},
                    .notes =
                        "RMS: root of the summed squared errors over that of the numbers; the "
                        "bulk: numbers that are no\n"
                        "outliers; subnormal: codes of less precision below the format's smallest "
                        "normal number; lost:\n"
                        "numbers that became zero.\n"};
  for (const std::vector<std::size_t>& chosen : combinations(out.settings))
    out.rows.push_back({chosen, {}});
  in_parallel(out.rows.size(), request.threads, request.progress, "tensors", [&](std::size_t i) {
    const QuantiseErrors errors = quantise_errors(case_of(request, out.rows[i].settings));
    out.rows[i].measures = {errors.all.relative_rms, errors.bulk.relative_rms,
                            errors.bulk.largest_relative, errors.below_normal, errors.lost_to_zero};
  });
  return out;
}

}  // namespace pipecast
