#include "app/validate/kernel_rows.hpp"

#include <fmt/format.h>

#include <array>
#include <tuple>

#include "app/calibration/tables.hpp"
#include "app/calibration/trace_rows.hpp"
#include "app/validate/compared.hpp"
#include "model/ops/kernel_cost.hpp"
#include "model/ops/training.hpp"

namespace pipecast {

namespace {

namespace fs = std::filesystem;

/// Appends the rows of one table, if it has any of that size.
void add_table(std::vector<ValidationRow>& out, const std::string& quantity,
               const std::string& source, const std::vector<MeasuredKernel>& kernels,
               const GpuSpec& gpu, const CalibrationSpec& calibration) {
  Compared compared;
  for (const MeasuredKernel& kernel : kernels) {
    const KernelCost cost = kernel_cost(kernel.operation, gpu, calibration, gpu.sm_count);
    compared.predicted.push_back(to_microseconds(cost.time));
    compared.measured.push_back(kernel.time_us);
  }
  if (!compared.measured.empty()) out.push_back(row_of(quantity, source, compared));
}

void add_trace(std::vector<ValidationRow>& out, const Scenario& h800, const fs::path& traces) {
  const TrainingMachine machine = in_training(h800.cluster.gpu, h800.calibration);
  const int sms = machine.gpu.sm_count - h800.plan.communication_sms;
  std::array<Compared, kTraceFamilies> families;
  Compared long_ones;  // memory-bound kernels whose times the trace's microseconds resolve well
  for (const TracedKernel& kernel : traced_kernels(traces, h800.model, h800.plan)) {
    const KernelCost cost = machine.cost(kernel.operation, sms);
    const auto add = [&, predicted = to_microseconds(cost.time)](Compared& to) {
      to.predicted.push_back(predicted);
      to.measured.push_back(kernel.row.duration_us);
    };
    add(families[static_cast<std::size_t>(kernel.family)]);
    constexpr double kLong = 20;  // us
    if (kernel.family == TraceFamily::kMemoryBound && kernel.row.duration_us >= kLong) {
      add(long_ones);
    }
  }
  for (int f = 0; f < kTraceFamilies; ++f) {
    Compared& family = families[static_cast<std::size_t>(f)];
    std::string quantity =
        fmt::format("{} of a training chunk, {} SMs", name_of(static_cast<TraceFamily>(f)), sms);
    if (static_cast<TraceFamily>(f) == TraceFamily::kElementwise) {
      quantity += ", one sum";
      family = {.predicted = {sum(family.predicted)}, .measured = {sum(family.measured)}};
    }
    const std::string source = std::string("traces/") + kTraceFile;
    out.push_back(row_of(quantity, source, family));
    if (static_cast<TraceFamily>(f) == TraceFamily::kMemoryBound) {
      out.push_back(row_of(quantity + ", from 20 us", source, long_ones));
    }
  }
}

}  // namespace

std::vector<ValidationRow> kernel_rows(const Scenario& h800, const CalibratedGpu& h100,
                                       const fs::path& traces) {
  std::vector<ValidationRow> out;
  const auto on_h100 = [&](const std::string& quantity, const std::string& file,
                           const std::vector<MeasuredKernel>& kernels) {
    add_table(out, quantity, "traces/" + file, kernels, h100.gpu, h100.calibration);
  };
  const auto on_h800 = [&](const std::string& quantity, const std::string& file,
                           const std::vector<MeasuredKernel>& kernels) {
    add_table(out, quantity, "traces/" + file, kernels, h800.cluster.gpu, h800.calibration);
  };
  for (const auto& [name, op, file] :
       {std::tuple{"FP8 products", "gemm_fp8", "h100/gemm_fp8_block.csv"},
        std::tuple{"BF16 products", "gemm_bf16", "h100/gemm_bf16.csv"}}) {
    const std::vector<MeasuredKernel> kernels = read_products(traces / file, op);
    on_h100(fmt::format("{} on H100, from 20 GFLOP", name), file, large(kernels));
    on_h100(fmt::format("{} on H100, below 20 GFLOP", name), file, small(kernels));
  }
  for (const auto& [name, op, file] :
       {std::tuple{"FP8 products on H800", "gemm_fp8", "deepgemm/gemm_fp8_2025-03-25.csv"},
        std::tuple{"grouped FP8 products on H800, contiguous", "grouped_gemm_fp8",
                   "deepgemm/grouped_gemm_fp8_contiguous_2025-03-25.csv"},
        std::tuple{"grouped FP8 products on H800, masked", "grouped_gemm_fp8",
                   "deepgemm/grouped_gemm_fp8_masked.csv"},
        std::tuple{"grouped FP8 products on H800, experts in prefill", "grouped_gemm_fp8",
                   "h800_kernels/grouped_gemm_fp8.csv"}}) {
    on_h800(name, file, read_products(traces / file, op));
  }
  for (const auto& [name, op, file] :
       {std::tuple{"MLA prefill attention", "attention_fwd", "mla_prefill_attention.csv"},
        std::tuple{"MLA decode attention", "attention_decode", "mla_decode_attention.csv"}}) {
    const std::string h100_file = fmt::format("h100/{}", file);
    on_h100(fmt::format("{} on H100", name), h100_file, read_kernels(traces / h100_file, op, {}));
    const std::string h800_file = fmt::format("h800_kernels/{}", file);
    on_h800(fmt::format("{} on H800", name), h800_file, read_kernels(traces / h800_file, op, {}));
  }
  add_trace(out, h800, traces);
  return out;
}

}  // namespace pipecast
