/// Matrix products by the names that layers launch them under.
#include <array>

#include "model/operations/product_shapes.hpp"
#include "model/ops/grouped_gemm.hpp"

namespace pipecast {

namespace {

template <Constant ProductConstants::*kConstant>
const Constant& constant(const CalibrationSpec& calibration) {
  return calibration.product.*kConstant;
}

Product product_of(const Operation& op, ProductKind kind, Fp8Rows rows) {
  if (rows == Fp8Rows::kContiguous) {
    Product product = contiguous_product(balanced_loads(op.m, op.groups), op.n, op.k);
    product.options = op.product;
    return product;
  }
  const double element = kind == ProductKind::kBf16 ? 2 : 1;
  return {.kind = kind,
          .rows = rows,
          .extents = {.rows = ceil_div(op.m, op.groups), .n = op.n, .k = op.k, .groups = op.groups},
          .options = op.product,
          .flops = op.flops.count(),
          .hbm_bytes = static_cast<double>((op.read + op.written).count()),
          .group_weight_bytes = element * static_cast<double>(op.n) * static_cast<double>(op.k)};
}

template <ProductKind kKind, Fp8Rows kRows = Fp8Rows::kDense>
KernelCost cost(const Operation& op, const GpuSpec& gpu, const CalibrationSpec& calibration,
                int sms) {
  require(op.m > 0 && op.n > 0 && op.k > 0 && op.groups > 0,
          "{} {}: extents must be positive: m={} n={} k={} groups={}", op.op, op.label, op.m, op.n,
          op.k, op.groups);
  if (kKind != ProductKind::kBf16) require_fp8(gpu);
  const Fp8Rows rows = op.product.masked ? Fp8Rows::kMasked : kRows;
  return product_cost(product_of(op, kKind, rows), gpu, calibration, sms);
}

constexpr KernelOption kM{.name = "m", .meaning = "rows of A and C, of all groups together"};
constexpr KernelOption kN{.name = "n", .meaning = "columns of B and C"};
constexpr KernelOption kK{.name = "k", .meaning = "depth: columns of A, rows of B"};
constexpr KernelOption kGroups{.name = "groups",
                               .meaning = "experts, each with its share of the rows and its own B",
                               .fallback = 1};
constexpr KernelOption kBlockM{
    .name = "block-m", .meaning = "rows of an output tile; 0: the kernel's choice", .fallback = 0};
constexpr KernelOption kBlockN{.name = "block-n",
                               .meaning = "columns of an output tile; 0: the kernel's choice",
                               .fallback = 0};
constexpr KernelOption kPromotion{
    .name = "promotion",
    .meaning = "1: partial sums go to FP32 registers every 128 of K; 0: they stay, less exact",
    .fallback = 1};
constexpr KernelOption kAccumulation{.name = "full-accumulation",
                                     .meaning = "1: the tensor core accumulates in FP32",
                                     .fallback = 0};
constexpr KernelOption kScaling{.name = "native-scaling",
                                .meaning = "1: the tensor core applies the scales of 128 elements",
                                .fallback = 0};
std::int64_t tables_with_cast(const CalibrationSpec& calibration) {
  return calibration.product.cast_blocks_per_us.value > 0 ? 1 : 0;
}
constexpr KernelOption kCast{.name = "cast",
                             .meaning = "1: with the cast of a BF16 A in the time",
                             .fallback = 0,
                             .in_tables = tables_with_cast};

constexpr KernelOption kMasked{
    .name = "masked",
    .meaning =
        "1: every group has its capacity of rows, of which a count says how many are real; 0: "
        "groups follow one another",
    .fallback = 0};

constexpr std::array kBf16Options = {kM, kN, kK, kGroups, kBlockM, kBlockN};
constexpr std::array kFp8Options = {
    kM, kN, kK, kGroups, kBlockM, kBlockN, kPromotion, kAccumulation, kScaling, kCast, kMasked};

Operation make(std::string_view op, std::span<const std::int64_t> values) {
  require(values[0] > 0 && values[1] > 0 && values[2] > 0 && values[3] > 0,
          "{}: extents must be positive: m={} n={} k={} groups={}", op, values[0], values[1],
          values[2], values[3]);
  Operation out = product_operation(op, values[0], values[1], values[2], values[3]);
  out.product.block_m = static_cast<int>(values[4]);
  out.product.block_n = static_cast<int>(values[5]);
  if (values.size() > kBf16Options.size()) {
    out.product.promotion = values[6] != 0;
    out.product.full_accumulation = values[7] != 0;
    out.product.native_scaling = values[8] != 0;
    out.product.with_cast = values[9] != 0;
    out.product.masked = values[10] != 0;
  }
  return out;
}

template <ProductKind kKind, Fp8Rows kRows, Constant ProductConstants::*kConstant>
constexpr KernelKind kFp8Kind{cost<kKind, kRows>, constant<kConstant>, kFp8Options, make};

constexpr KernelKind kBf16Kind{cost<ProductKind::kBf16>, constant<&ProductConstants::issue_bf16>,
                               kBf16Options, make};

const Register<KernelKind> kEntries[] = {
    {"gemm_fp8", kFp8Kind<ProductKind::kFp8, Fp8Rows::kDense, &ProductConstants::drain_cycles>},
    {"grouped_gemm_fp8",
     kFp8Kind<ProductKind::kFp8, Fp8Rows::kContiguous, &ProductConstants::drain_cycles>},
    {"gemm_fp8_wgrad", kFp8Kind<ProductKind::kFp8Gradient, Fp8Rows::kGradient,
                                &ProductConstants::gradient_drain_cycles>},
    {"gemm_bf16", kBf16Kind},
    {"grouped_gemm_bf16", kBf16Kind},
    {"gemm_bf16_wgrad", kBf16Kind},
    {"gate_gemm_fwd", kBf16Kind},
    {"gate_gemm_dgrad", kBf16Kind},
    {"gate_gemm_wgrad", kBf16Kind},
};

}  // namespace

}  // namespace pipecast
