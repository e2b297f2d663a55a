#include "model/operations/attention_shapes.hpp"
#include "model/operations/layer_parts.hpp"

namespace pipecast {

namespace {

/// Normalises the input and projects it down to the latents (or, uncompressed, to the queries).
void add_down_projections(const LayerDraft& draft, LaunchList& list, const AttentionWidths& w) {
  const std::int64_t tokens = draft.load.tokens;
  const std::int64_t query = w.compressed_query ? w.query_rank : w.query;
  list.norm("attention_norm", tokens, w.hidden);
  draft.cache_norm_output(list, "attention_norm_output", w.hidden);
  list.cast("q_a", tokens, w.hidden);
  list.transpose_scales("q_a", tokens, w.hidden);
  list.product(w.compressed_query ? "q_a" : "q", {tokens, query, w.hidden});
  // The same input is cast again for the second product, as in the trace.
  list.cast("kv_a", tokens, w.hidden);
  list.transpose_scales("kv_a", tokens, w.hidden);
  list.product("kv_a", {tokens, w.kv_down, w.hidden});
  list.small("scalars", 2, 1);
}

void add_latent_norms(const LayerDraft& draft, LaunchList& list, const AttentionWidths& w) {
  const std::int64_t tokens = draft.load.tokens;
  if (w.compressed_query) {
    list.norm("q_norm", tokens, w.query_rank);
    draft.cache_norm_output(list, "q_norm_output", w.query_rank);
  }
  list.copy("kv_latent", tokens, w.kv_rank);
  list.norm("kv_norm", tokens, w.kv_rank);
  draft.cache_norm_output(list, "kv_norm_output", w.kv_rank);
  list.copy("rope_key", tokens, w.rope);
}

/// Keeps the output in its compressed format, if at all, and projects it; adds the residual.
void add_output(LayerDraft& draft, LaunchList& list, const AttentionWidths& w) {
  const std::int64_t tokens = draft.load.tokens;
  if (!draft.plan.recompute.core_attn) {
    const Precision kept = draft.plan.precision.attention_output;
    if (kept == Precision::kE5m6) {
      list.memory("cast_e5m6", "attention_output", {tokens, w.values});
    }
    if (kept == Precision::kFp8 && !list.fp8()) {
      list.cast_always("attention_output", tokens, w.values);
    }
  }
  list.cast("o", tokens, w.values);  // kept too, where FP8 is the format
  list.transpose_scales("o", tokens, w.values);
  list.product("o", {tokens, w.hidden, w.values});
  list.add("residual", tokens, w.hidden);
}

}  // namespace

AttentionWidths::AttentionWidths(const ModelSpec& m)
    : hidden(m.hidden_size),
      heads(m.num_attention_heads),
      compressed_query(m.q_lora_rank.has_value()),
      query_rank(m.q_lora_rank.value_or(0)),
      query(heads * m.qk_head_dim()),
      kv_rank(m.kv_lora_rank),
      rope(m.qk_rope_head_dim),
      kv_down(kv_rank + rope),
      nope_keys(heads * m.qk_nope_head_dim),
      values(heads * m.v_head_dim),
      kv_up(nope_keys + values) {}

AttentionShape attention_shape(const LayerDraft& draft) {
  const ModelSpec& m = draft.model;
  const LayerLoad& load = draft.load;
  return {.batch = load.seq_length > 0 ? load.tokens / load.seq_length : 0,
          .heads = m.num_attention_heads,
          .kv_heads = m.num_attention_heads,
          .queries = load.seq_length,
          .keys = load.seq_length,
          .qk_dim = m.qk_head_dim(),
          .v_dim = m.v_head_dim,
          .causal = true};
}

void add_up_projections(LayerDraft& draft, LaunchList& list, bool recompute) {
  const AttentionWidths w(draft.model);
  const std::int64_t tokens = draft.load.tokens;
  // In the backward pass norm outputs that were kept may be FP8 already.
  const bool kept_inputs = recompute && !draft.plan.recompute.layernorm;
  const auto read_input = [&](std::string_view product, std::string_view input,
                              std::int64_t columns) {
    if (kept_inputs && !list.fp8()) list.uncache(input, tokens, columns);
    if (!kept_inputs || list.cached() != Precision::kFp8) list.cast(product, tokens, columns);
  };
  if (w.compressed_query) {
    read_input("q_b", "q_norm_output", w.query_rank);
    list.transpose_scales("q_b", tokens, w.query_rank);
    list.product(recompute ? "q_b_recompute" : "q_b", {tokens, w.query, w.query_rank});
  }
  read_input("kv_b", "kv_norm_output", w.kv_rank);
  list.transpose_scales("kv_b", tokens, w.kv_rank);
  list.product(recompute ? "kv_b_recompute" : "kv_b", {tokens, w.kv_up, w.kv_rank});

  // Keys: the up-projected part and one rotary part for all heads, side by side.
  list.memory("rope", "rope_key", {tokens, w.rope});
  list.memory("copy_strided", "keys", {tokens, w.nope_keys});
  list.pointwise("rope_key_to_heads", Precision::kBf16,
                 {.rows = tokens, .columns = w.rope, .tensors_written = w.heads});
  // Uncompressed queries are kept after their rotation, never computed again.
  if (w.compressed_query || !recompute) {
    list.memory("rope", "queries", {tokens, w.heads * w.rope});
  }
}

void add_attention_forward(LayerDraft& draft) {
  const AttentionWidths w(draft.model);
  LaunchList list = draft.phase(Phase::kAttentionForward);
  add_down_projections(draft, list, w);
  add_latent_norms(draft, list, w);
  add_up_projections(draft, list, false);
  list.push(attention_forward_operation(attention_shape(draft)));
  add_output(draft, list, w);
  list.norm("mlp_norm", draft.load.tokens, w.hidden);
}

void keep_attention(LayerDraft& draft) {
  const AttentionWidths w(draft.model);
  const RecomputeSpec& recompute = draft.plan.recompute;
  const auto keep = [&](std::string_view name, Precision p, const Columns& columns,
                        std::string_view reason) {
    draft.keep(name, p, columns, reason, Phase::kAttentionForward);
  };
  const Columns hidden{w.hidden, "hidden_size"};
  const Columns query_rank{w.query_rank, "q_lora_rank"};
  const Columns queries{w.query, "heads x qk_head_dim"};
  const Columns values{w.values, "heads x v_head_dim"};
  constexpr std::string_view kInput = "attention_norm_input";
  constexpr std::string_view kInputReason = "layer's input: RMSNorm and residual";
  if (draft.layer.kind == LayerKind::kMtp) {  // whose inputs come before its projection
    keep(kInput, Precision::kBf16, hidden, kInputReason);
  } else {
    draft.keep_input(kInput, hidden, kInputReason, Phase::kAttentionForward);
  }
  if (w.compressed_query) {
    keep("q_norm_input", Precision::kBf16, query_rank, "latent of the queries: RMSNorm");
  }
  keep("kv_down", Precision::kBf16, {w.kv_down, "kv_lora_rank + qk_rope_head_dim"},
       "latent of keys and values: RMSNorm; rotary key");
  if (!recompute.layernorm) {
    keep("attention_norm_output", draft.cached(), hidden, "input of q_a and kv_a");
    if (w.compressed_query) keep("q_norm_output", draft.cached(), query_rank, "input of q_b");
    keep("kv_norm_output", draft.cached(), {w.kv_rank, "kv_lora_rank"}, "input of kv_b");
    keep("mlp_norm_output", draft.cached(), hidden, "input of router and experts");
  }
  if (!recompute.mla_up_proj || !w.compressed_query) {
    keep("queries", Precision::kBf16, queries, "operand of attention");
  }
  if (!recompute.mla_up_proj) {
    keep("keys", Precision::kBf16, queries, "operand of attention");
    keep("values", Precision::kBf16, values, "operand of attention");
  }
  if (!recompute.core_attn) {
    keep("attention_output", draft.plan.precision.attention_output, values,
         "gradient of attention; input of o");
    keep("softmax_statistics", Precision::kFp32, {w.heads, "heads"}, "gradient of softmax");
  }
  keep("mlp_norm_input", Precision::kBf16, hidden, "RMSNorm before the experts; residual");
}

}  // namespace pipecast
