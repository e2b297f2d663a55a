/// Kernel costs a second on one core: matrix products of ever new shapes, remembered ones, and one
/// grouped product with ever new loads.
#include <benchmark/benchmark.h>

#include "app/config/load.hpp"
#include "base/random.hpp"
#include "model/operations/product_shapes.hpp"
#include "model/ops/grouped_gemm.hpp"
#include "model/ops/kernel_memo.hpp"

namespace {

using namespace pipecast;

const GpuSpec& gpu() {
  static const GpuSpec kGpu = load_gpu(config_directory() / "gpus/h800.yaml");
  return kGpu;
}
const CalibrationSpec& calibration() {
  static const CalibrationSpec kCalibration =
      load_calibration(config_directory() / "calibration/h800.yaml");
  return kCalibration;
}

/// Products that differ from one another, with extents as in training.
std::vector<Operation> products(std::string_view op, std::size_t count) {
  constexpr std::int64_t kStep = 64;
  Random random(1, "bench_kernels");
  const auto extent = [&](std::uint64_t most) {
    return kStep * static_cast<std::int64_t>(1 + random.below(most));
  };
  std::vector<Operation> out;
  for (std::size_t i = 0; i < count; ++i) {
    // The number of rows is the shape's own, so that no two are the same.
    const auto m = static_cast<std::int64_t>(1 + i);
    out.push_back(product_operation(op, m, extent(384), extent(288), 1));
  }
  return out;
}

void distinct_shapes(benchmark::State& state, std::string_view op) {
  const std::vector<Operation> shapes = products(op, 16'384);
  for (auto iteration : state) {
    for (const Operation& shape : shapes) {
      benchmark::DoNotOptimize(kernel_cost(shape, gpu(), calibration(), gpu().sm_count));
    }
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(shapes.size()) * state.iterations());
}
BENCHMARK_CAPTURE(distinct_shapes, fp8, "gemm_fp8")->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(distinct_shapes, bf16, "gemm_bf16")->Unit(benchmark::kMillisecond);

/// As many shapes as a step of DeepSeek-V3 has, over and over.
void remembered_shapes(benchmark::State& state) {
  const std::vector<Operation> shapes =
      products("gemm_fp8", static_cast<std::size_t>(state.range(0)));
  KernelMemo memo(gpu(), calibration());
  for (const Operation& shape : shapes) memo.cost(shape, gpu().sm_count);
  for (auto iteration : state) {
    for (const Operation& shape : shapes) {
      benchmark::DoNotOptimize(&memo.cost(shape, gpu().sm_count));
    }
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(shapes.size()) * state.iterations());
}
BENCHMARK(remembered_shapes)->ArgName("shapes")->Arg(256)->Arg(16'384);

/// The experts of one GPU of DeepSeek-V3: gate and up projections of eight experts on 112 SMs, with
/// loads of up to four times their mean of 4,096 rows.
constexpr GroupedGemm::Shape kExperts{.n = 4'096, .k = 7'168, .groups = 8};
constexpr int kSms = 112;
constexpr std::int64_t kMostRows = 4 * kExperts.groups * 4'096;

void uneven_groups(benchmark::State& state) {
  const GroupedGemm gemm(kExperts, gpu(), calibration(), kSms, kMostRows);
  constexpr std::size_t kLists = 4'096;
  constexpr auto kGroups = static_cast<std::size_t>(kExperts.groups);
  Random random(2, "bench_kernels");
  std::vector<std::int64_t> rows(kLists * kGroups);
  for (std::int64_t& r : rows) {
    r = static_cast<std::int64_t>(random.below(kMostRows / kExperts.groups - kPaddedRows));
  }
  for (auto iteration : state) {
    for (std::size_t i = 0; i < kLists; ++i) {
      benchmark::DoNotOptimize(gemm.time(std::span(rows).subspan(i * kGroups, kGroups)));
    }
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(kLists) * state.iterations());
}
BENCHMARK(uneven_groups)->Unit(benchmark::kMicrosecond);

/// Its preparation: items are numbers of row blocks.
void grouped_gemm_table(benchmark::State& state) {
  for (auto iteration : state) {
    benchmark::DoNotOptimize(GroupedGemm(kExperts, gpu(), calibration(), kSms, kMostRows));
  }
  state.SetItemsProcessed(kMostRows / kPaddedRows * state.iterations());
}
BENCHMARK(grouped_gemm_table)->Unit(benchmark::kMicrosecond);

}  // namespace

BENCHMARK_MAIN();
