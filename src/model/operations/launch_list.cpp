#include "model/operations/launch_list.hpp"

#include "model/operations/operation_kinds.hpp"

namespace pipecast {

namespace {

constexpr std::int64_t kScaleBlock = 128;  // rows and columns per scale of a weight
constexpr std::int64_t kScaleBytes = 4;    // FP32

Bytes fp32(std::int64_t elements) { return stored_bytes(Precision::kFp32, 1, elements); }
Bytes bf16(std::int64_t elements) { return stored_bytes(Precision::kBf16, 1, elements); }

Flops product_flops(ProductShape s) {
  return Flops(2.0 * static_cast<double>(s.m) * static_cast<double>(s.n) *
               static_cast<double>(s.k));
}

// Weights carry one scale per 128 x 128 block.
Bytes weight_bytes(Precision p, std::int64_t rows, std::int64_t columns) {
  if (p != Precision::kFp8) return stored_bytes(p, rows, columns);
  const std::int64_t scales = ceil_div(rows, kScaleBlock) * ceil_div(columns, kScaleBlock);
  return Bytes(rows * columns + scales * kScaleBytes);
}

}  // namespace

void LaunchList::push(const Operation& operation) {
  Operation& added = out_.emplace_back(operation);
  added.op = operation_kind(operation.op);
}

void LaunchList::move(std::string_view op, std::string_view label, Precision p, Bytes read,
                      Bytes written) {
  push({.op = op,
        .label = label,
        .precision = p,
        .flops = {},
        .read = read,
        .written = written,
        .stream = stream_});
}

void LaunchList::small(std::string_view label, int launches, std::int64_t elements) {
  for (int i = 0; i < launches; ++i) {
    move("elementwise", label, Precision::kFp32, fp32(elements), fp32(elements));
  }
}

void LaunchList::add(std::string_view label, std::int64_t rows, std::int64_t columns) {
  const Bytes one = bf16(rows * columns);
  move("elementwise", label, Precision::kBf16, one + one, one);
}

void LaunchList::copy(std::string_view op, std::string_view label, std::int64_t rows,
                      std::int64_t columns) {
  const Bytes one = bf16(rows * columns);
  move(op, label, Precision::kBf16, one, one);
}

void LaunchList::cast(std::string_view label, std::int64_t rows, std::int64_t columns) {
  if (fp8()) cast_always(label, rows, columns);
}

void LaunchList::uncast(std::string_view label, std::int64_t rows, std::int64_t columns) {
  if (fp8()) uncast_always(label, rows, columns);
}

void LaunchList::cast_always(std::string_view label, std::int64_t rows, std::int64_t columns) {
  move("cast_fp8_1x128", label, Precision::kFp8, bf16(rows * columns),
       stored_bytes(Precision::kFp8, rows, columns));
}

void LaunchList::uncast_always(std::string_view label, std::int64_t rows, std::int64_t columns) {
  move("uncast_fp8", label, Precision::kFp8, stored_bytes(Precision::kFp8, rows, columns),
       bf16(rows * columns));
}

void LaunchList::cast_transpose(std::string_view label, std::int64_t rows, std::int64_t columns,
                                Precision from) {
  if (!fp8()) return;
  move("cast_transpose_fp8_128x1", label, Precision::kFp8, stored_bytes(from, rows, columns),
       stored_bytes(Precision::kFp8, columns, rows));
}

void LaunchList::transpose_weight(std::string_view label, std::int64_t rows, std::int64_t columns) {
  if (!fp8()) return;
  const Bytes one(rows * columns);  // the few block scales are not moved
  move("transpose_fp8", label, Precision::kFp8, one, one);
}

void LaunchList::transpose_scales(std::string_view label, std::int64_t rows, std::int64_t columns) {
  if (!fp8()) return;
  const Bytes scales = stored_bytes(Precision::kFp8, rows, columns) - Bytes(rows * columns);
  move("transpose_scales", label, Precision::kFp32, scales, scales);
}

void LaunchList::product(std::string_view label, ProductShape s) {
  const Precision p = gemm_precision();
  push({.op = fp8() ? "gemm_fp8" : "gemm_bf16",
        .label = label,
        .precision = p,
        .m = s.m,
        .n = s.n,
        .k = s.k,
        .flops = product_flops(s),
        .read = stored_bytes(p, s.m, s.k) + weight_bytes(p, s.n, s.k),
        .written = bf16(s.m * s.n),
        .stream = stream_});
}

void LaunchList::grouped_product(std::string_view label, ProductShape s, std::int64_t groups) {
  const Precision p = gemm_precision();
  push({.op = fp8() ? "grouped_gemm_fp8" : "grouped_gemm_bf16",
        .label = label,
        .precision = p,
        .m = s.m,
        .n = s.n,
        .k = s.k,
        .groups = groups,
        .flops = product_flops(s),
        .read = stored_bytes(p, s.m, s.k) + groups * weight_bytes(p, s.n, s.k),
        .written = bf16(s.m * s.n),
        .stream = stream_});
}

void LaunchList::weight_gradient(std::string_view op, std::string_view label, Precision p,
                                 ProductShape s, Stream stream) {
  const Bytes accumulator = stored_bytes(plan_.precision.gradients, s.m, s.n);
  push({.op = op,
        .label = label,
        .precision = p,
        .m = s.m,
        .n = s.n,
        .k = s.k,
        .flops = product_flops(s),
        .read = stored_bytes(p, s.m, s.k) + stored_bytes(p, s.n, s.k) + accumulator,
        .written = accumulator,
        .stream = stream});
}

void LaunchList::weight_product(std::string_view label, ProductShape s, Stream stream) {
  weight_gradient(fp8() ? "gemm_fp8_wgrad" : "gemm_bf16_wgrad", label, gemm_precision(), s, stream);
}

void LaunchList::bf16_product(std::string_view op, std::string_view label, ProductShape s) {
  push({.op = op,
        .label = label,
        .precision = Precision::kBf16,
        .m = s.m,
        .n = s.n,
        .k = s.k,
        .flops = product_flops(s),
        .read = bf16(s.m * s.k) + bf16(s.n * s.k),
        .written = bf16(s.m * s.n),
        .stream = stream_});
}

void LaunchList::bf16_weight_product(std::string_view op, std::string_view label, ProductShape s) {
  weight_gradient(op, label, Precision::kBf16, s, stream_);
}

void LaunchList::norm(std::string_view label, std::int64_t rows, std::int64_t columns) {
  copy("rmsnorm_fwd", label, rows, columns);
}

void LaunchList::norm_backward(std::string_view label, std::int64_t rows, std::int64_t columns) {
  // Partial sums of the weight gradient, one row per block; the trace launches one block per SM.
  constexpr std::int64_t kPartialRows = 132;
  const Bytes one = bf16(rows * columns);
  const Bytes partial = fp32(kPartialRows * columns);
  move("rmsnorm_bwd", label, Precision::kBf16, one + one, one + partial);
  move("rmsnorm_bwd_finalize", label, Precision::kFp32, partial, fp32(columns));
  small(label, 1, columns);
}

}  // namespace pipecast
