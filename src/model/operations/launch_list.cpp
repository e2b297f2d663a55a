#include "model/operations/launch_list.hpp"

#include "model/operations/operation_kinds.hpp"
#include "model/operations/product_shapes.hpp"

namespace pipecast {

void LaunchList::push(const Operation& operation) {
  Operation& added = out_.emplace_back(operation);
  added.op = operation_kind(operation.op);
}

void LaunchList::memory(std::string_view op, std::string_view label,
                        std::initializer_list<std::int64_t> extents, const MemoryFormats& formats) {
  push_as(memory_operation(op, extents, formats), label, stream_);
}

void LaunchList::pointwise(std::string_view label, Precision p, PointwiseShape s) {
  const auto element = static_cast<std::int64_t>(bytes_per_element(p));
  Operation operation = memory_operation(
      "elementwise", {s.rows, s.columns, s.tensors_read, s.tensors_written, element});
  operation.precision = p;
  push_as(operation, label, stream_);
}

void LaunchList::small(std::string_view label, int launches, std::int64_t elements) {
  for (int i = 0; i < launches; ++i) {
    pointwise(label, Precision::kFp32, {.rows = 1, .columns = elements});
  }
}

void LaunchList::add(std::string_view label, std::int64_t rows, std::int64_t columns) {
  pointwise(label, Precision::kBf16, {.rows = rows, .columns = columns, .tensors_read = 2});
}

void LaunchList::copy(std::string_view label, std::int64_t rows, std::int64_t columns) {
  pointwise(label, Precision::kBf16, {.rows = rows, .columns = columns});
}

void LaunchList::cast(std::string_view label, std::int64_t rows, std::int64_t columns) {
  if (fp8()) cast_always(label, rows, columns);
}

void LaunchList::cache(std::string_view label, std::int64_t rows, std::int64_t columns) {
  if (cached() == Precision::kFp8) cast_always(label, rows, columns);
}

void LaunchList::uncache(std::string_view label, std::int64_t rows, std::int64_t columns) {
  if (cached() == Precision::kFp8) uncast_always(label, rows, columns);
}

void LaunchList::cast_always(std::string_view label, std::int64_t rows, std::int64_t columns) {
  memory("cast_fp8_1x128", label, {rows, columns});
}

void LaunchList::cast_to_dispatch(std::string_view label, std::int64_t rows, std::int64_t columns) {
  Operation operation = memory_operation("cast_fp8_1x128", {rows, columns});
  operation.power_of_two = true;
  push_as(operation, label, stream_);
}

void LaunchList::uncast_always(std::string_view label, std::int64_t rows, std::int64_t columns) {
  memory("uncast_fp8", label, {rows, columns});
}

void LaunchList::cast_transpose(std::string_view label, std::int64_t rows, std::int64_t columns,
                                Precision from) {
  if (fp8()) memory("cast_transpose_fp8_128x1", label, {rows, columns}, {.source = from});
}

void LaunchList::transpose_weight(std::string_view label, std::int64_t rows, std::int64_t columns) {
  if (fp8()) memory("transpose_fp8", label, {rows, columns});
}

void LaunchList::transpose_scales(std::string_view label, std::int64_t rows, std::int64_t columns) {
  if (fp8()) memory("transpose_scales", label, {rows, columns});
}

void LaunchList::push_as(Operation operation, std::string_view label, Stream stream) {
  operation.label = label;
  operation.stream = stream;
  push(operation);
}

void LaunchList::product(std::string_view label, ProductShape s) {
  push_as(product_operation(fp8() ? "gemm_fp8" : "gemm_bf16", s.m, s.n, s.k, 1), label, stream_);
}

void LaunchList::grouped_product(std::string_view label, ProductShape s, std::int64_t groups) {
  push_as(
      product_operation(fp8() ? "grouped_gemm_fp8" : "grouped_gemm_bf16", s.m, s.n, s.k, groups),
      label, stream_);
}

void LaunchList::weight_product(std::string_view label, ProductShape s, Stream stream) {
  push_as(product_operation(fp8() ? "gemm_fp8_wgrad" : "gemm_bf16_wgrad", s.m, s.n, s.k, 1,
                            plan_.precision.gradients),
          label, stream);
}

void LaunchList::bf16_product(std::string_view op, std::string_view label, ProductShape s) {
  push_as(product_operation(op, s.m, s.n, s.k, 1), label, stream_);
}

void LaunchList::bf16_weight_product(std::string_view op, std::string_view label, ProductShape s) {
  push_as(product_operation(op, s.m, s.n, s.k, 1, plan_.precision.gradients), label, stream_);
}

void LaunchList::norm(std::string_view label, std::int64_t rows, std::int64_t columns) {
  memory("rmsnorm_fwd", label, {rows, columns});
}

void LaunchList::norm_backward(std::string_view label, std::int64_t rows, std::int64_t columns) {
  memory("rmsnorm_bwd", label, {rows, columns});
  memory("rmsnorm_bwd_finalize", label, {kNormPartialRows, columns});
  small(label, 1, columns);
}

}  // namespace pipecast
