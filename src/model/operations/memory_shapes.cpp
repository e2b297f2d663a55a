#include "model/operations/memory_shapes.hpp"

#include <algorithm>
#include <optional>

#include "base/error.hpp"

namespace pipecast {

namespace {

constexpr std::int64_t kScaleTile = 128;  // elements of a row, rows of a column that share a scale
constexpr std::int64_t kScaleBytes = 4;   // FP32
constexpr std::int64_t kIndexBytes = 4;   // 32-bit integers, FP32 weights and statistics
constexpr std::int64_t kDescriptorBytes = 128;  // a CUtensorMap; CUDA driver API

using Extents = std::span<const std::int64_t>;

Bytes bf16(std::int64_t rows, std::int64_t columns) {
  return stored_bytes(Precision::kBf16, rows, columns);
}
Bytes fp32(std::int64_t rows, std::int64_t columns) {
  return stored_bytes(Precision::kFp32, rows, columns);
}
Bytes fp8(std::int64_t rows, std::int64_t columns) {
  return stored_bytes(Precision::kFp8, rows, columns);
}

struct Traffic {
  Bytes read;
  Bytes written;
  std::optional<Precision> precision{};  // where a plan chooses it
};

Traffic copy(Extents e, const MemoryFormats&) { return {bf16(e[0], e[1]), bf16(e[0], e[1])}; }

Traffic cast(Extents e, const MemoryFormats&) { return {bf16(e[0], e[1]), fp8(e[0], e[1])}; }

Traffic uncast(Extents e, const MemoryFormats&) { return {fp8(e[0], e[1]), bf16(e[0], e[1])}; }

Traffic cast_transpose(Extents e, const MemoryFormats& f) {
  return {stored_bytes(f.source.value_or(Precision::kBf16), e[0], e[1]), fp8(e[1], e[0])};
}

Traffic cast_e5m6(Extents e, const MemoryFormats&) {
  return {bf16(e[0], e[1]), stored_bytes(Precision::kE5m6, e[0], e[1])};
}

Traffic uncast_e5m6(Extents e, const MemoryFormats&) {
  return {stored_bytes(Precision::kE5m6, e[0], e[1]), bf16(e[0], e[1])};
}

Traffic cast_weights(Extents e, const MemoryFormats& f) {
  const std::int64_t scales = ceil_div(e[0], kScaleTile * kScaleTile);
  return {stored_bytes(f.parameter_gather, 1, e[0]), Bytes(e[0] + scales * kScaleBytes)};
}

Traffic transpose_weights(Extents e, const MemoryFormats&) {
  const Bytes elements(e[0] * e[1]);  // the few block scales are not moved
  return {elements, elements};
}

Traffic transpose_scales(Extents e, const MemoryFormats&) {
  const Bytes scales(e[0] * ceil_div(e[1], kScaleTile) * kScaleBytes);
  return {scales, scales};
}

Traffic norm_backward(Extents e, const MemoryFormats&) {
  return {bf16(e[0], e[1]) + bf16(e[0], e[1]), bf16(e[0], e[1]) + fp32(kNormPartialRows, e[1])};
}

Traffic norm_finalize(Extents e, const MemoryFormats&) { return {fp32(e[0], e[1]), fp32(1, e[1])}; }

Traffic swiglu(Extents e, const MemoryFormats&) { return {bf16(e[0], 2 * e[1]), bf16(e[0], e[1])}; }

Traffic swiglu_cast(Extents e, const MemoryFormats&) {
  return {bf16(e[0], 2 * e[1]), fp8(e[0], e[1])};
}

Traffic swiglu_recompute(Extents e, const MemoryFormats& f) {
  return {stored_bytes(f.source.value_or(Precision::kFp8), e[0], 2 * e[1]), fp8(e[1], e[0])};
}

Traffic swiglu_backward(Extents e, const MemoryFormats&) {
  return {bf16(e[0], 2 * e[1]) + bf16(e[0], e[1]), bf16(e[0], 2 * e[1])};
}

Traffic swiglu_backward_kept(Extents e, const MemoryFormats& f) {
  const Precision source = f.source.value_or(Precision::kBf16);
  return {stored_bytes(source, e[0], 2 * e[1]) + bf16(e[0], e[1]), bf16(e[0], 2 * e[1])};
}

Traffic swiglu_forward_backward(Extents e, const MemoryFormats&) {
  const Bytes both = bf16(e[0], 2 * e[1]) + bf16(e[0], e[1]);
  return {both, both};
}

Traffic swiglu_weight(Extents e, const MemoryFormats&) {
  return {bf16(e[0], e[1]) + bf16(e[0], e[1]), Bytes(e[2] * kIndexBytes)};
}

Traffic permute(Extents e, const MemoryFormats&) { return {bf16(e[2], e[1]), bf16(e[0], e[1])}; }

Traffic permute_with_scales(Extents e, const MemoryFormats&) {
  return {fp8(e[2], e[1]), fp8(e[0], e[1])};
}

Traffic unpermute(Extents e, const MemoryFormats&) { return {bf16(e[0], e[1]), bf16(e[2], e[1])}; }

Traffic permute_map(Extents e, const MemoryFormats&) {
  return {Bytes(e[0] * kIndexBytes), Bytes(2 * e[1] * kIndexBytes)};  // there and back
}

Traffic count(Extents e, const MemoryFormats&) {
  return {Bytes(e[0] * kIndexBytes), Bytes(e[1] * kIndexBytes)};
}

Traffic select(Extents e, const MemoryFormats&) { return {fp32(e[0], e[1]), fp32(e[0], e[2])}; }

Traffic elementwise(Extents e, const MemoryFormats&) {
  const std::int64_t tensor = e[0] * e[1] * e[4];
  return {Bytes(e[2] * tensor), Bytes(e[3] * tensor)};
}

Traffic device_copy(Extents e, const MemoryFormats&) { return {fp32(1, e[0]), fp32(1, e[0])}; }

Traffic fill(Extents e, const MemoryFormats&) { return {Bytes(), fp32(1, e[0])}; }

Traffic descriptors(Extents e, const MemoryFormats&) {
  return {Bytes(), Bytes(e[0] * kDescriptorBytes)};
}

Traffic embedding_gradient(Extents e, const MemoryFormats& f) {
  const Bytes accumulator = stored_bytes(f.gradients, e[0], e[1]);
  return {bf16(e[0], e[1]) + accumulator, accumulator, f.gradients};
}

constexpr std::int64_t kRowStatistics = 2;  // log-sum and loss, FP32

Traffic cross_entropy(Extents e, const MemoryFormats&) {
  return {bf16(e[0], e[1]), fp32(e[0], kRowStatistics)};
}

Traffic cross_entropy_backward(Extents e, const MemoryFormats&) {
  return {bf16(e[0], e[1]) + fp32(e[0], kRowStatistics), bf16(e[0], e[1])};
}

Traffic gradient_norm(Extents e, const MemoryFormats& f) {
  return {stored_bytes(f.gradients, 1, e[0]), Bytes(), f.gradients};
}

Traffic adamw(Extents e, const MemoryFormats& f) {
  const Bytes state =
      stored_bytes(f.master_weights, 1, e[0]) + 2 * stored_bytes(f.moments, 1, e[0]);
  return {stored_bytes(f.gradients, 1, e[0]) + state,
          state + stored_bytes(f.parameter_gather, 1, e[0]), f.master_weights};
}

Traffic attention_preprocess(Extents e, const MemoryFormats&) {
  const Bytes values = bf16(e[0], e[1] * e[3]);
  return {values + values, fp32(e[0], e[1] * e[2]) + fp32(e[0], e[1])};
}

Traffic attention_convert(Extents e, const MemoryFormats&) {
  return {fp32(e[0], e[1]), bf16(e[0], e[1])};
}

Traffic exchange_layout(Extents e, const MemoryFormats&) {
  return {Bytes(e[0] * e[1] * kIndexBytes), Bytes(e[2] * kIndexBytes)};
}

Traffic exchange_counts(Extents e, const MemoryFormats&) {
  return {Bytes(e[0] * kIndexBytes), Bytes(e[0] * kIndexBytes)};
}

struct MemoryKind {
  std::string_view op;
  std::size_t extents;
  Precision precision;
  Traffic (*traffic)(Extents, const MemoryFormats&);
};

// Sorted by name.
constexpr MemoryKind kKinds[] = {
    {"adamw", 1, Precision::kFp32, adamw},
    {"attention_bwd_convert_dq", 2, Precision::kFp32, attention_convert},
    {"attention_bwd_preprocess", 4, Precision::kBf16, attention_preprocess},
    {"cast_e5m6", 2, Precision::kE5m6, cast_e5m6},
    {"cast_fp8_128x128", 1, Precision::kFp8, cast_weights},
    {"cast_fp8_1x128", 2, Precision::kFp8, cast},
    {"cast_transpose_fp8_128x1", 2, Precision::kFp8, cast_transpose},
    {"copy_strided", 2, Precision::kBf16, copy},
    {"cross_entropy_bwd", 2, Precision::kBf16, cross_entropy_backward},
    {"cross_entropy_fwd", 2, Precision::kBf16, cross_entropy},
    {"elementwise", 5, Precision::kFp32, elementwise},
    {"embedding_grad", 2, Precision::kFp32, embedding_gradient},
    {"embedding_lookup", 2, Precision::kBf16, copy},
    {"ep_cached_notify", 1, Precision::kFp32, exchange_counts},
    {"ep_layout", 3, Precision::kFp32, exchange_layout},
    {"ep_notify", 1, Precision::kFp32, exchange_counts},
    {"expert_count", 2, Precision::kFp32, count},
    {"fill_tensormaps", 1, Precision::kFp8, descriptors},
    {"grad_norm", 1, Precision::kFp32, gradient_norm},
    {"group_topk_sum", 3, Precision::kFp32, select},
    {"memcpy", 1, Precision::kFp32, device_copy},
    {"memset", 1, Precision::kFp32, fill},
    {"permute", 3, Precision::kBf16, permute},
    {"permute_map", 2, Precision::kFp32, permute_map},
    {"permute_with_scales", 3, Precision::kFp8, permute_with_scales},
    {"rmsnorm_bwd", 2, Precision::kBf16, norm_backward},
    {"rmsnorm_bwd_finalize", 2, Precision::kFp32, norm_finalize},
    {"rmsnorm_fwd", 2, Precision::kBf16, copy},
    {"rope", 2, Precision::kBf16, copy},
    {"swiglu_bwd", 2, Precision::kBf16, swiglu_backward},
    {"swiglu_bwd_shared", 2, Precision::kBf16, swiglu_backward_kept},
    {"swiglu_fwd", 2, Precision::kBf16, swiglu},
    {"swiglu_fwd_and_cast_fp8", 2, Precision::kFp8, swiglu_cast},
    {"swiglu_fwd_bwd_routed", 2, Precision::kBf16, swiglu_forward_backward},
    {"swiglu_recompute_and_cast_transpose", 2, Precision::kFp8, swiglu_recompute},
    {"swiglu_weight_bwd", 3, Precision::kBf16, swiglu_weight},
    {"topk", 3, Precision::kFp32, select},
    {"transpose_fp8", 2, Precision::kFp8, transpose_weights},
    {"transpose_scales", 2, Precision::kFp32, transpose_scales},
    {"uncast_e5m6", 2, Precision::kE5m6, uncast_e5m6},
    {"uncast_fp8", 2, Precision::kFp8, uncast},
    {"unpermute_reduce", 3, Precision::kBf16, unpermute},
};

const MemoryKind& memory_kind(std::string_view op) {
  const auto* const it = std::lower_bound(
      std::begin(kKinds), std::end(kKinds), op,
      [](const MemoryKind& kind, std::string_view wanted) { return kind.op < wanted; });
  require(it != std::end(kKinds) && it->op == op, "{} is no kernel that moves memory", op);
  return *it;
}

}  // namespace

Operation memory_operation(std::string_view op, Extents extents, const MemoryFormats& formats) {
  const MemoryKind& kind = memory_kind(op);
  require(extents.size() == kind.extents, "{} has {} extents, not {}", op, kind.extents,
          extents.size());
  for (const std::int64_t extent : extents) {
    require(extent >= 0, "{}: an extent must not be negative: {}", op, extent);
  }
  const Traffic traffic = kind.traffic(extents, formats);
  const bool rows = extents.size() > 1;
  return {.op = kind.op,
          .precision = traffic.precision.value_or(kind.precision),
          .m = rows ? extents[0] : 1,
          .n = rows ? extents[1] : extents[0],
          .flops = {},
          .read = traffic.read,
          .written = traffic.written};
}

}  // namespace pipecast
