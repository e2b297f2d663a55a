#include "model/operations/attention_shapes.hpp"
#include "model/operations/layer_parts.hpp"

namespace pipecast {

namespace {

/// The backward pass of one layer's attention, in the order of the trace.
class AttentionBackward {
 public:
  explicit AttentionBackward(LayerDraft& draft)
      : draft_(draft),
        w_(draft.model),
        recompute_(draft.plan.recompute),
        tokens_(draft.load.tokens),
        list_(draft.phase(Phase::kAttentionBackward)) {}

  void run() {
    mlp_norm();
    if (recompute_.core_attn) {
      latents();
      attention_again();
    } else {
      kept_output();
    }
    output_projection();
    if (!recompute_.core_attn) latents();
    core();
    up_projections();
    transposed_operands();
    latent_norms();
    down_projections();
    weights();
  }

 private:
  void mlp_norm() {
    list_.norm_backward("mlp_norm", tokens_, w_.hidden);
    list_.add("residual_grad", tokens_, w_.hidden);
  }

  /// Output and statistics.
  void attention_again() {
    Operation attention = attention_forward_operation(attention_shape(draft_));
    attention.label = "attention_recompute";
    list_.push(attention);
  }

  void kept_output() {
    const Precision kept = draft_.plan.precision.attention_output;
    if (kept == Precision::kE5m6) {
      list_.memory("uncast_e5m6", "attention_output", {tokens_, w_.values});
    } else if (kept == Precision::kFp8) {
      list_.uncast_always("attention_output", tokens_, w_.values);
    }
  }

  void output_projection() {
    list_.cast("output_grad", tokens_, w_.hidden);
    list_.transpose_weight("o", w_.hidden, w_.values);
    list_.transpose_scales("output_grad", tokens_, w_.hidden);
    list_.product("o_dgrad", {tokens_, w_.values, w_.hidden});
    list_.cast_transpose("attention_output", tokens_, w_.values);
    list_.cast_transpose("output_grad", tokens_, w_.hidden);
  }

  /// Queries, keys and values again, as far as the plan keeps less than them.
  void latents() {
    if (recompute_.layernorm) {
      if (w_.compressed_query) list_.norm("q_norm", tokens_, w_.query_rank);
      list_.copy("kv_latent", tokens_, w_.kv_rank);
      list_.norm("kv_norm", tokens_, w_.kv_rank);
    }
    if (recompute_.mla_up_proj) add_up_projections(draft_, list_, true);
  }

  void core() {
    list_.memory("attention_bwd_preprocess", {},
                 {tokens_, w_.heads, w_.query / w_.heads, w_.values / w_.heads});
    list_.push(attention_backward_operation(attention_shape(draft_)));
    list_.memory("attention_bwd_convert_dq", {}, {tokens_, w_.query});
    list_.memory("rope", "queries_grad", {tokens_, w_.heads * w_.rope});
  }

  void up_projections() {
    if (w_.compressed_query) {
      list_.transpose_weight("q_b", w_.query, w_.query_rank);
      list_.cast("queries_grad", tokens_, w_.query);
      list_.transpose_scales("queries_grad", tokens_, w_.query);
      list_.product("q_b_dgrad", {tokens_, w_.query_rank, w_.query});
    }
    list_.pointwise("rope_key_grad_of_heads", Precision::kBf16,
                    {.rows = tokens_, .columns = w_.rope, .tensors_read = w_.heads});
    list_.memory("rope", "rope_key_grad", {tokens_, w_.rope});
    list_.memory("copy_strided", "keys_grad", {tokens_, w_.nope_keys});
    list_.memory("copy_strided", "values_grad", {tokens_, w_.values});
    list_.transpose_weight("kv_b", w_.kv_up, w_.kv_rank);
    list_.cast("kv_grad", tokens_, w_.kv_up);
    list_.transpose_scales("kv_grad", tokens_, w_.kv_up);
    list_.product("kv_b_dgrad", {tokens_, w_.kv_rank, w_.kv_up});
  }

  /// The operands of the up-projections' weight gradients.
  void transposed_operands() {
    list_.cast_transpose("kv_grad", tokens_, w_.kv_up);
    transposed_input("kv_norm_output", w_.kv_rank);
    if (!w_.compressed_query) return;
    list_.cast_transpose("queries_grad", tokens_, w_.query);
    transposed_input("q_norm_output", w_.query_rank);
  }

  void latent_norms() {
    list_.norm_backward("kv_norm", tokens_, w_.kv_rank);
    if (w_.compressed_query) list_.norm_backward("q_norm", tokens_, w_.query_rank);
    // The gradients of latent and rotary key, side by side.
    list_.copy("kv_down_grad", tokens_, w_.kv_down);
    list_.copy("rope_key_grad", tokens_, w_.rope);
    list_.copy("kv_down_grad", tokens_, w_.kv_down);
    list_.copy("kv_latent_grad", tokens_, w_.kv_rank);
    list_.copy("kv_down_grad", tokens_, w_.kv_down);
  }

  void down_projections() {
    const std::int64_t query = w_.compressed_query ? w_.query_rank : w_.query;
    if (recompute_.layernorm) list_.norm("attention_norm", tokens_, w_.hidden);
    list_.cast("kv_down_grad", tokens_, w_.kv_down);
    list_.transpose_weight("kv_a", w_.kv_down, w_.hidden);
    list_.transpose_scales("kv_down_grad", tokens_, w_.kv_down);
    list_.product("kv_a_dgrad", {tokens_, w_.hidden, w_.kv_down});
    transposed_input("attention_norm_output", w_.hidden);
    list_.cast_transpose("kv_down_grad", tokens_, w_.kv_down);
    list_.cast("q_down_grad", tokens_, query);
    list_.transpose_weight(w_.compressed_query ? "q_a" : "q", query, w_.hidden);
    list_.transpose_scales("q_down_grad", tokens_, query);
    list_.product(w_.compressed_query ? "q_a_dgrad" : "q_dgrad", {tokens_, w_.hidden, query});
    // The trace transposes the same input once per product.
    transposed_input("attention_norm_output", w_.hidden);
    list_.cast_transpose("q_down_grad", tokens_, query);
    list_.add("attention_input_grad", tokens_, w_.hidden);
    list_.norm_backward("attention_norm", tokens_, w_.hidden);
  }

  void weights() {
    LaunchList list = draft_.phase(Phase::kAttentionWeight);
    list.weight_product("o_wgrad", {w_.hidden, w_.values, tokens_});
    list.weight_product("kv_b_wgrad", {w_.kv_up, w_.kv_rank, tokens_});
    if (w_.compressed_query) {
      list.weight_product("q_b_wgrad", {w_.query, w_.query_rank, tokens_});
    }
    list.weight_product("kv_a_wgrad", {w_.kv_down, w_.hidden, tokens_});
    const std::int64_t query = w_.compressed_query ? w_.query_rank : w_.query;
    list.weight_product(w_.compressed_query ? "q_a_wgrad" : "q_wgrad", {query, w_.hidden, tokens_});
  }

  /// A norm's output is BF16 if it was just recomputed, in the plan's format if it was kept.
  void transposed_input(std::string_view label, std::int64_t columns) {
    if (!recompute_.layernorm) list_.uncache(label, tokens_, columns);
    list_.cast_transpose(label, tokens_, columns);
  }

  LayerDraft& draft_;
  const AttentionWidths w_;
  const RecomputeSpec recompute_;
  const std::int64_t tokens_;
  LaunchList list_;
};

}  // namespace

void add_attention_backward(LayerDraft& draft) { AttentionBackward(draft).run(); }

}  // namespace pipecast
