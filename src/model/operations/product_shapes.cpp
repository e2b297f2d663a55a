#include "model/operations/product_shapes.hpp"

#include <algorithm>
#include <array>

#include "base/error.hpp"

namespace pipecast {

namespace {

struct ProductKind {
  std::string_view op;
  Precision operands;
  bool weight_gradient;
};

constexpr std::array kProducts = {
    ProductKind{"gemm_fp8", Precision::kFp8, false},
    ProductKind{"grouped_gemm_fp8", Precision::kFp8, false},
    ProductKind{"gemm_fp8_wgrad", Precision::kFp8, true},
    ProductKind{"gemm_bf16", Precision::kBf16, false},
    ProductKind{"grouped_gemm_bf16", Precision::kBf16, false},
    ProductKind{"gemm_bf16_wgrad", Precision::kBf16, true},
    ProductKind{"gate_gemm_fwd", Precision::kBf16, false},
    ProductKind{"gate_gemm_dgrad", Precision::kBf16, false},
    ProductKind{"gate_gemm_wgrad", Precision::kBf16, true},
};

const ProductKind& product_kind(std::string_view op) {
  const auto* const it = std::find_if(kProducts.begin(), kProducts.end(),
                                      [=](const ProductKind& kind) { return kind.op == op; });
  require(it != kProducts.end(), "{} is no matrix product", op);
  return *it;
}

Bytes weight_bytes(Precision p, std::int64_t rows, std::int64_t columns) {
  constexpr std::int64_t kScaleBlock = 128;  // rows and columns per scale
  constexpr std::int64_t kScaleBytes = 4;    // FP32
  if (p != Precision::kFp8) return stored_bytes(p, rows, columns);
  const std::int64_t scales = ceil_div(rows, kScaleBlock) * ceil_div(columns, kScaleBlock);
  return Bytes(rows * columns + scales * kScaleBytes);
}

}  // namespace

Operation product_operation(std::string_view op, std::int64_t m, std::int64_t n, std::int64_t k,
                            std::int64_t groups, Precision accumulator) {
  const ProductKind& kind = product_kind(op);
  require(m >= 0 && n >= 0 && k >= 0 && groups > 0,
          "{}: extents must not be negative, groups be positive: m={} n={} k={} groups={}", op, m,
          n, k, groups);
  const Precision p = kind.operands;
  Operation out{.op = kind.op,
                .precision = p,
                .m = m,
                .n = n,
                .k = k,
                .groups = groups,
                .flops = Flops(2.0 * static_cast<double>(m) * static_cast<double>(n) *
                               static_cast<double>(k)),
                .read = stored_bytes(p, m, k)};
  if (kind.weight_gradient) {
    const Bytes gradient = stored_bytes(accumulator, m, n);
    out.read = out.read + stored_bytes(p, n, k) + gradient;
    out.written = gradient;
  } else {
    out.read = out.read + groups * weight_bytes(p, n, k);
    out.written = stored_bytes(Precision::kBf16, m, n);
  }
  return out;
}

}  // namespace pipecast
