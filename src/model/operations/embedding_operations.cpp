#include "model/operations/layer_parts.hpp"

namespace pipecast {

namespace {

/// Rows by token, once forward; gradients added to their rows, once backward.
void add_lookup(LaunchList& list, std::int64_t tokens, std::int64_t hidden) {
  list.memory("embedding_lookup", {}, {tokens, hidden});
}

void add_gradient(LaunchList& list, const PlanSpec& plan, std::int64_t tokens,
                  std::int64_t hidden) {
  list.memory("embedding_grad", {}, {tokens, hidden}, {.gradients = plan.precision.gradients});
}

}  // namespace

void add_embedding(LayerDraft& draft) {
  LaunchList forward = draft.phase(Phase::kMlpForward);
  LaunchList weight = draft.phase(Phase::kMlpWeight);
  add_lookup(forward, draft.load.tokens, draft.model.hidden_size);
  add_gradient(weight, draft.plan, draft.load.tokens, draft.model.hidden_size);
}

void add_mtp_entry_forward(LayerDraft& draft) {
  const std::int64_t tokens = draft.load.tokens;
  const std::int64_t hidden = draft.model.hidden_size;
  LaunchList list = draft.phase(Phase::kAttentionForward);
  add_lookup(list, tokens, hidden);
  list.norm("mtp_hidden_norm", tokens, hidden);
  list.norm("mtp_embedding_norm", tokens, hidden);
  list.memory("copy_strided", "mtp_concatenation", {tokens, 2 * hidden});
  draft.cache_norm_output(list, "mtp_concatenation", 2 * hidden);
  list.cast("mtp_projection", tokens, 2 * hidden);
  list.transpose_scales("mtp_projection", tokens, 2 * hidden);
  list.product("mtp_projection", {tokens, hidden, 2 * hidden});
  const Columns norm{hidden, "hidden_size"};
  draft.keep_input("mtp_hidden_norm_input", norm, "RMSNorm of the main model's state",
                   Phase::kAttentionForward);
  draft.keep_input("mtp_embedding_norm_input", norm, "RMSNorm of the next embedding",
                   Phase::kAttentionForward);
  if (!draft.plan.recompute.layernorm) {
    draft.keep("mtp_concatenation", draft.cached(), {2 * hidden, "2 x hidden_size"},
               "input of the MTP projection", Phase::kAttentionForward);
  }
}

void add_mtp_entry_backward(LayerDraft& draft) {
  const std::int64_t tokens = draft.load.tokens;
  const std::int64_t hidden = draft.model.hidden_size;
  LaunchList list = draft.phase(Phase::kAttentionBackward);
  list.cast("mtp_projection_grad", tokens, hidden);
  list.transpose_weight("mtp_projection", hidden, 2 * hidden);
  list.transpose_scales("mtp_projection_grad", tokens, hidden);
  list.product("mtp_projection_dgrad", {tokens, 2 * hidden, hidden});
  if (draft.plan.recompute.layernorm) {
    list.norm("mtp_hidden_norm", tokens, hidden);
    list.norm("mtp_embedding_norm", tokens, hidden);
    list.memory("copy_strided", "mtp_concatenation", {tokens, 2 * hidden});
  } else {
    list.uncache("mtp_concatenation", tokens, 2 * hidden);
  }
  list.cast_transpose("mtp_concatenation", tokens, 2 * hidden);
  list.cast_transpose("mtp_projection_grad", tokens, hidden);
  list.norm_backward("mtp_embedding_norm", tokens, hidden);
  list.norm_backward("mtp_hidden_norm", tokens, hidden);

  LaunchList weight = draft.phase(Phase::kAttentionWeight);
  weight.weight_product("mtp_projection_wgrad", {hidden, 2 * hidden, tokens});
  add_gradient(weight, draft.plan, tokens, hidden);
}

}  // namespace pipecast
