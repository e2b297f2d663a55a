/// Kernels that move memory from their extents: what each kind reads and writes. The one place for
/// layers' launch lists and for shapes that a user names.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string_view>

#include "model/operations/operation.hpp"

namespace pipecast {

/// Formats that a plan chooses; all others follow from the kind.
struct MemoryFormats {
  /// Of what is cast, or kept for backward; none: as the kernel of DeepSeek-V3's trace reads it.
  std::optional<Precision> source{};
  Precision gradients = Precision::kFp32;
  Precision moments = Precision::kBf16;
  Precision master_weights = Precision::kFp32;
  Precision parameter_gather = Precision::kBf16;
};

/// The launch of `op`, without label and stream. Rows and columns go to m and n; a kernel without
/// rows has its elements in n.
///
/// Extents by kind, in elements:
/// - rows, columns: copies, casts (of the tensor before transposition), E5M6, norms, rope, SwiGLU
///   (columns of its output), cross-entropy, embedding, transpose_fp8, attention_bwd_convert_dq.
///   transpose_scales: of the activations that the scales belong to.
/// - elements: adamw, grad_norm, cast_fp8_128x128, memcpy and memset (of 4 bytes).
/// - elementwise: rows, columns, tensors read, tensors written, bytes per element.
/// - permute, permute_with_scales, unpermute_reduce: expert rows, columns, received tokens.
/// - permute_map: choices, expert rows; expert_count: choices, experts. A choice is one of a
/// token's
///   experts, on whichever GPU.
/// - topk: rows, columns, chosen; group_topk_sum: rows, columns, groups.
/// - swiglu_weight_bwd: rows, columns, choices.
/// - attention_bwd_preprocess: tokens, heads, query and value dimension of a head.
/// - fill_tensormaps: descriptors.
/// - ep_layout: tokens, experts per token, counts; ep_notify, ep_cached_notify: counts.
/// @throws Error for another kind, a wrong number of extents or one below 0
Operation memory_operation(std::string_view op, std::span<const std::int64_t> extents,
                           const MemoryFormats& formats = {});

inline Operation memory_operation(std::string_view op, std::initializer_list<std::int64_t> extents,
                                  const MemoryFormats& formats = {}) {
  return memory_operation(op, std::span(extents.begin(), extents.size()), formats);
}

/// Rows of partial sums that RMSNorm's backward leaves of the weight gradient: one per SM of an
/// H100 or H800. Not modelled: norms of narrow rows launch up to five thread blocks per SM, each
/// with a row.
inline constexpr std::int64_t kNormPartialRows = 132;

}  // namespace pipecast
