/// Matrix products: tensor-core rate times a measured efficiency, less the SMs that idle in the
/// last wave. Not modelled: the choice of tile, prologue and epilogue, L2 reuse; docs/model.md says
/// what that costs.
#include "model/operations/product_shapes.hpp"
#include "model/ops/kernel_cost.hpp"

namespace pipecast {

namespace {

// One output tile of a thread block, as DeepGEMM and cuBLAS choose for large products on Hopper.
constexpr std::int64_t kTileM = 128;
constexpr std::int64_t kTileN = 128;

/// Useful share of what the SMs could compute meanwhile: tiles and waves are whole, the last tile
/// of a row or column and the last wave are not. A part of a tile takes as long as the whole.
double wave_occupancy(const Operation& op, int sms) {
  const std::int64_t rows_per_group = ceil_div(op.m, op.groups);
  const std::int64_t tiles = op.groups * ceil_div(rows_per_group, kTileM) * ceil_div(op.n, kTileN);
  const std::int64_t slots = ceil_div(tiles, sms) * sms;
  return static_cast<double>(op.m) * static_cast<double>(op.n) /
         (static_cast<double>(slots) * static_cast<double>(kTileM * kTileN));
}

template <Constant TensorEfficiency::*kEfficiency>
const Constant& constant(const CalibrationSpec& calibration) {
  return calibration.tensor.*kEfficiency;
}

template <Constant TensorEfficiency::*kEfficiency, Precision kPrecision>
KernelCost gemm(const Operation& op, const GpuSpec& gpu, const CalibrationSpec& calibration,
                int sms) {
  require(op.m > 0 && op.n > 0 && op.k > 0 && op.groups > 0,
          "{} {}: extents must be positive: m={} n={} k={} groups={}", op.op, op.label, op.m, op.n,
          op.k, op.groups);
  const FlopRate peak = gpu.tensor_peak(kPrecision, sms);
  require(peak.count() > 0, "{} has no {} tensor cores; set plan.precision.gemm to bf16", gpu.name,
          name_of(kPrecision));
  const double efficiency = constant<kEfficiency>(calibration).value * wave_occupancy(op, sms);
  return roofline(op, peak * efficiency, gpu, calibration);
}

constexpr KernelOption kExtents[] = {
    {"m", "rows of the result, of all groups together"},
    {"n", "columns of the result"},
    {"k", "depth: the length of the sums"},
    {"groups", "experts, each with m / groups rows and a right factor of its own", 1},
};
constexpr std::span<const KernelOption> kGroupedOptions = kExtents;
constexpr std::span<const KernelOption> kOptions = kGroupedOptions.first(3);

Operation make(std::string_view op, std::span<const std::int64_t> values) {
  const std::int64_t groups = values.size() > 3 ? values[3] : 1;
  require(values[0] > 0 && values[1] > 0 && values[2] > 0 && groups > 0,
          "{}: extents must be positive: m={} n={} k={} groups={}", op, values[0], values[1],
          values[2], groups);
  return product_operation(op, values[0], values[1], values[2], groups);
}

template <Constant TensorEfficiency::*kEfficiency, Precision kPrecision, bool kGrouped = false>
constexpr KernelKind kKind{gemm<kEfficiency, kPrecision>, constant<kEfficiency>,
                           kGrouped ? kGroupedOptions : kOptions, make};

constexpr KernelKind kBf16 = kKind<&TensorEfficiency::gemm_bf16, Precision::kBf16>;
const Register<KernelKind> kEntries[] = {
    {"gemm_fp8", kKind<&TensorEfficiency::gemm_fp8, Precision::kFp8>},
    {"grouped_gemm_fp8", kKind<&TensorEfficiency::grouped_gemm_fp8, Precision::kFp8, true>},
    {"gemm_fp8_wgrad", kKind<&TensorEfficiency::gemm_fp8_wgrad, Precision::kFp8>},
    {"gemm_bf16", kBf16},
    {"grouped_gemm_bf16", kKind<&TensorEfficiency::gemm_bf16, Precision::kBf16, true>},
    {"gemm_bf16_wgrad", kBf16},
    {"gate_gemm_fwd", kBf16},
    {"gate_gemm_dgrad", kBf16},
    {"gate_gemm_wgrad", kBf16},
};

}  // namespace

}  // namespace pipecast
