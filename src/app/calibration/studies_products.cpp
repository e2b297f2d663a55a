/// Studies of matrix products.
#include <fmt/format.h>

#include <algorithm>

#include "app/calibration/study_parts.hpp"

namespace pipecast {

namespace {

/// Smaller products say more of the launch than of the machine.
constexpr double kLeastFlops = 1e9;

/// Appends a table of products to a study, all its rows together weighing as much as another's.
void add_products(FitStudy& study, const StudyInput& input, const char* file, std::string_view op) {
  std::vector<MeasuredKernel> kernels = read_products(input.traces / file, op);
  kernels.erase(std::remove_if(kernels.begin(), kernels.end(),
                               [](const MeasuredKernel& kernel) {
                                 return kernel.operation.flops.count() < kLeastFlops;
                               }),
                kernels.end());
  append_rows(study.rows, kernel_rows(kernels, input.gpu()), 1);
}

std::vector<StatedConstant> kernel_version(int tallest, int widest, const std::string& source) {
  const auto stated = [&](int value) {
    const auto exact = static_cast<double>(value);
    return Constant{.value = exact, .low = exact, .high = exact, .source = source};
  };
  constexpr double kTile = 128;
  return {{"product.tallest_tile", stated(tallest)},
          {"product.widest_tile", stated(widest)},
          {"product.training_tile",
           {kTile, kTile, kTile,
            kTraceName + ": products of one depth take one time per wave of such tiles"}}};
}

}  // namespace

std::vector<FreeConstant> product_constants() {
  return {{"clock.loaded_ghz", {.start = 1.5, .low = 1, .high = 1.9}},
          {"clock.settling_us", {.start = 1000, .low = 10, .high = 1e5}},
          cycles("product.drain_cycles", 160),
          {"product.uneven_columns", {.start = 0.25, .low = 0.01, .high = 2}},
          cycles("product.epilogue_cycles_fp8", 14),
          cycles("product.epilogue_cycles_bf16", 12),
          {"product.issue_bf16", {.start = 1.15, .low = 1, .high = 2}},
          {"product.partial_row_cycles", {.start = 1.8, .low = 0.01, .high = 20}},
          fraction("product.hbm", 0.9),
          microseconds("product.launch_us", 3, 10),
          {"product.one_wave_factor", {.start = 1.5, .low = 1, .high = 3}},
          cycles("product.one_wave_cycles", 4800),
          microseconds("product.cast_launch_us", 1.5, 10),
          {"product.cast_blocks_per_us", {.start = 900, .low = 100, .high = 1e4}}};
}

/// FP8 and BF16 products of one campaign: one clock, one HBM.
FitStudy products_on_h100(const StudyInput& input) {
  FitStudy study{.name = "products",
                 .source =
                     "traces/h100/gemm_fp8_block.csv (timed with the cast of A) and gemm_bf16.csv, "
                     "rows of at least 1 GFLOP",
                 .constants = product_constants(),
                 .stated = kernel_version(256, 192, "the tiles that the table's times show"),
                 .loss = Loss::kCauchy};
  add_products(study, input, "h100/gemm_fp8_block.csv", "gemm_fp8");
  add_products(study, input, "h100/gemm_bf16.csv", "gemm_bf16");
  return study;
}

/// Other versions of the FP8 kernels on the same chip; what they cannot tell comes from the H100.
FitStudy products_on_h800(const StudyInput& input, CalibrationSpec& h100) {
  FitStudy study{.name = "products",
                 .source =
                     "traces/deepgemm/*_2025-03-25.csv and grouped_gemm_fp8_masked.csv, "
                     "traces/h800_kernels/grouped_gemm_fp8.csv",
                 .constants = {{"clock.loaded_ghz", {.start = 1.6, .low = 1, .high = 1.9}},
                               cycles("product.drain_cycles", 160),
                               cycles("product.epilogue_cycles_fp8", 14),
                               fraction("product.hbm", 0.85),
                               {"product.launch_us", {.start = 2, .low = 0.5, .high = 10}}},
                 .stated = kernel_version(128, 160, "DeepGEMM, README and code of 2025-03-25")};
  for (StatedConstant& stated : as_on_h100(
           h100, {"clock.settling_us", "product.uneven_columns", "product.epilogue_cycles_bf16",
                  "product.issue_bf16", "product.partial_row_cycles"})) {
    study.stated.push_back(std::move(stated));
  }
  const std::string none = "not seen in this version";
  study.stated.push_back({"product.one_wave_factor", {1, 1, 1, none}});
  study.stated.push_back({"product.one_wave_cycles", {0, 0, 0, none}});
  const std::string alone = "tables time products alone";
  study.stated.push_back({"product.cast_launch_us", {0, 0, 0, alone}});
  study.stated.push_back({"product.cast_blocks_per_us", {0, 0, 0, alone}});
  add_products(study, input, "deepgemm/gemm_fp8_2025-03-25.csv", "gemm_fp8");
  add_products(study, input, "deepgemm/grouped_gemm_fp8_contiguous_2025-03-25.csv",
               "grouped_gemm_fp8");
  add_products(study, input, "deepgemm/grouped_gemm_fp8_masked.csv", "grouped_gemm_fp8");
  add_products(study, input, "h800_kernels/grouped_gemm_fp8.csv", "grouped_gemm_fp8");
  return study;
}

FitStudy weight_gradients(const StudyInput& input) {
  return {.name = "FP8 weight gradients",
          .source = fmt::format("{}, gemm_fp8_wgrad of dense layers, at the clock of training",
                                kTraceName),
          .constants = {cycles("product.gradient_drain_cycles", 400)},
          .rows = trace_rows(input, [](const TracedKernel& kernel) {
            return kernel.family == TraceFamily::kWeightGradients;
          })};
}

/// What makes the products of a step slower than alone on a rested chip, whatever runs beside.
FitStudy training_clock(const StudyInput& input) {
  return {.name = "clock of training",
          .source = fmt::format("{}, FP8 products from 20 GFLOP, all else as alone", kTraceName),
          .constants = {{"clock.training_ghz", {.start = 1.75, .low = 1, .high = 1.98}}},
          .rows = trace_rows(input, [](const TracedKernel& kernel) {
            return kernel.family == TraceFamily::kProducts &&
                   kernel.operation.flops.count() >= kLargeKernelFlop;
          })};
}

}  // namespace pipecast
