/// The parts that layers are put together from. Internal to model/operations.
#pragma once

#include "model/operations/launch_list.hpp"
#include "model/operations/layer_operations.hpp"

namespace pipecast {

/// Columns of a kept tensor, and what they are in the model's words.
struct Columns {
  std::int64_t count = 0;
  std::string_view are;
};

/// One layer under construction.
struct LayerDraft {
  const ModelSpec& model;
  const PlanSpec& plan;
  const LayerLoad& load;
  LayerOperations layer;

  [[nodiscard]] LaunchList phase(Phase p, Stream stream = Stream::kCompute) {
    return {layer.at(p), plan, stream};
  }
  /// Kept, or made again at the beginning of the backward pass where that repeats the whole layer.
  /// @param made_in  attn(F) or mlp(F)
  void keep(std::string_view name, Precision p, const Columns& columns, std::string_view reason,
            Phase made_in, RowKind rows_are = RowKind::kTokens) {
    (plan.recompute.full ? layer.replayed : layer.kept)
        .push_back(tensor(name, p, columns, reason, made_in, rows_are));
  }
  /// In BF16, whatever is recomputed: all that follows is made of it.
  void keep_input(std::string_view name, const Columns& columns, std::string_view reason,
                  Phase made_in) {
    layer.kept.push_back(
        tensor(name, Precision::kBf16, columns, reason, made_in, RowKind::kTokens));
  }
  /// Format in which the inputs of linear layers and of SwiGLU are kept.
  [[nodiscard]] Precision cached() const { return cached_precision(plan); }
  /// Launches what a norm's output takes to be kept besides what the product after it takes.
  void cache_norm_output(LaunchList& list, std::string_view label, std::int64_t columns) const {
    if (!plan.recompute.layernorm && !list.fp8()) list.cache(label, load.tokens, columns);
  }

 private:
  [[nodiscard]] KeptTensor tensor(std::string_view name, Precision p, const Columns& columns,
                                  std::string_view reason, Phase made_in, RowKind rows_are) const {
    const std::int64_t rows = rows_of(rows_are);
    return {.name = name,
            .precision = p,
            .rows_are = rows_are,
            .rows = rows,
            .columns = columns.count,
            .columns_are = columns.are,
            .reason = reason,
            .made_in = made_in,
            .bytes = stored_bytes(p, rows, columns.count)};
  }
  [[nodiscard]] std::int64_t rows_of(RowKind kind) const {
    switch (kind) {
      case RowKind::kTokens:
        return load.tokens;
      case RowKind::kRouted:
        return load.routed_tokens;
      case RowKind::kReceived:
        return load.received_tokens;
    }
    return 0;
  }
};

/// Widths of the latent attention's tensors, in elements per token.
struct AttentionWidths {
  explicit AttentionWidths(const ModelSpec& m);

  std::int64_t hidden;
  std::int64_t heads;
  bool compressed_query;  ///< queries go through a low-rank bottleneck with its own norm
  std::int64_t query_rank;
  std::int64_t query;  ///< all heads
  std::int64_t kv_rank;
  std::int64_t rope;     ///< rotary key, shared by all heads
  std::int64_t kv_down;  ///< output of the joint down-projection
  std::int64_t nope_keys;
  std::int64_t values;
  std::int64_t kv_up;  ///< output of the up-projection: keys without rotary part, and values
};

/// Causal attention of a micro-batch; decompressed latents have keys and values for every head.
AttentionShape attention_shape(const LayerDraft& draft);

/// Attention with its norm and residual, and the norm before the MLP. Fills attn(F), attn(B),
/// attn(W).
void add_attention_forward(LayerDraft& draft);
void add_attention_backward(LayerDraft& draft);
void keep_attention(LayerDraft& draft);

/// The expansion of latents to queries, keys and values, as forward and recomputation share it.
void add_up_projections(LayerDraft& draft, LaunchList& list, bool recompute);

/// Router: gate and selection in attn(F), its gradients in attn(B).
void add_router_forward(LayerDraft& draft);
void add_router_backward(LayerDraft& draft);

/// Dispatch and combine on the communication stream; nothing without expert parallelism.
void add_exchange(LayerDraft& draft);

/// Experts in mlp(F), mlp(B), mlp(W).
void add_moe_mlp(LayerDraft& draft);
void add_dense_mlp(LayerDraft& draft);

void add_embedding(LayerDraft& draft);
void add_head(LayerDraft& draft);
/// What MTP has beyond a MoE layer and the head: lookup, two norms, projection.
void add_mtp_entry_forward(LayerDraft& draft);
void add_mtp_entry_backward(LayerDraft& draft);

}  // namespace pipecast
