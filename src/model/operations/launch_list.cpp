#include "model/operations/launch_list.hpp"

#include "model/operations/operation_kinds.hpp"
#include "model/operations/product_shapes.hpp"

namespace pipecast {

namespace {

Bytes fp32(std::int64_t elements) { return stored_bytes(Precision::kFp32, 1, elements); }
Bytes bf16(std::int64_t elements) { return stored_bytes(Precision::kBf16, 1, elements); }

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

void LaunchList::push_product(Operation operation, std::string_view label, Stream stream) {
  operation.label = label;
  operation.stream = stream;
  push(operation);
}

void LaunchList::product(std::string_view label, ProductShape s) {
  push_product(product_operation(fp8() ? "gemm_fp8" : "gemm_bf16", s.m, s.n, s.k, 1), label,
               stream_);
}

void LaunchList::grouped_product(std::string_view label, ProductShape s, std::int64_t groups) {
  push_product(
      product_operation(fp8() ? "grouped_gemm_fp8" : "grouped_gemm_bf16", s.m, s.n, s.k, groups),
      label, stream_);
}

void LaunchList::weight_product(std::string_view label, ProductShape s, Stream stream) {
  push_product(product_operation(fp8() ? "gemm_fp8_wgrad" : "gemm_bf16_wgrad", s.m, s.n, s.k, 1,
                                 plan_.precision.gradients),
               label, stream);
}

void LaunchList::bf16_product(std::string_view op, std::string_view label, ProductShape s) {
  push_product(product_operation(op, s.m, s.n, s.k, 1), label, stream_);
}

void LaunchList::bf16_weight_product(std::string_view op, std::string_view label, ProductShape s) {
  push_product(product_operation(op, s.m, s.n, s.k, 1, plan_.precision.gradients), label, stream_);
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
