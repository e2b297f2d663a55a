#include "model/operations/layer_parts.hpp"

namespace pipecast {

// The router launches dozens of kernels of a few microseconds. Their number and order follow the
// trace; their labels are our reading of the extents that their thread blocks imply.

namespace {

struct RouterExtents {
  std::int64_t scores;   // one per token and expert
  std::int64_t groups;   // one per token and group
  std::int64_t choices;  // one per token and chosen expert
};

RouterExtents extents(const LayerDraft& draft) {
  const std::int64_t tokens = draft.load.tokens;
  return {tokens * draft.model.n_routed_experts, tokens * draft.model.n_group,
          tokens * draft.model.num_experts_per_tok};
}

void add_group_selection(LaunchList& list, const LayerDraft& draft, const RouterExtents& e) {
  list.memory("group_topk_sum", "groups",
              {draft.load.tokens, draft.model.n_routed_experts, draft.model.n_group});
  list.memory("memcpy", "groups", {e.groups});
  list.small("group_mask", 2, e.groups);
  list.small("group_mask", 1, e.scores);
  list.memory("memcpy", "scores", {e.scores});
  list.small("masked_scores", 1, e.scores);
}

}  // namespace

void add_router_forward(LayerDraft& draft) {
  const RouterExtents e = extents(draft);
  const std::int64_t tokens = draft.load.tokens;
  const std::int64_t hidden = draft.model.hidden_size;
  LaunchList list = draft.phase(Phase::kAttentionForward);
  list.bf16_product("gate_gemm_fwd", "gate", {tokens, draft.model.n_routed_experts, hidden});
  list.small("scores", 5, e.scores);
  if (draft.model.n_group > 1) add_group_selection(list, draft, e);
  const std::initializer_list<std::int64_t> selection = {tokens, draft.model.n_routed_experts,
                                                         draft.model.num_experts_per_tok};
  list.memory("topk", "experts", selection);
  list.small("routing_weights", 16, e.choices);
  // A second selection follows, probably for the statistics of the balance loss.
  list.memory("topk", "balance", selection);
  list.memory("memset", "expert_load", {e.choices});
  list.small("expert_load", 1, e.choices);
  list.memory("memset", "expert_load", {e.choices});
  list.small("expert_load", 1, e.choices);
  list.small("scalars", 3, 1);
  // For dispatch and the shared expert.
  const bool sent_as_fp8 = draft.load.ep > 1 && draft.plan.precision.dispatch == Precision::kFp8;
  if (sent_as_fp8) {
    list.cast_to_dispatch("mlp_norm_output", tokens, hidden);
  } else {
    draft.cache_norm_output(list, "mlp_norm_output", hidden);
    list.cast("mlp_norm_output", tokens, hidden);
  }

  draft.keep("router_scores", Precision::kFp32, {draft.model.n_routed_experts, "n_routed_experts"},
             "gradient of the sigmoid", Phase::kAttentionForward);
  draft.keep("routing", Precision::kFp32,
             {2 * draft.model.num_experts_per_tok, "2 x num_experts_per_tok"},
             "index and weight of every chosen expert", Phase::kAttentionForward);
}

void add_router_backward(LayerDraft& draft) {
  const RouterExtents e = extents(draft);
  const std::int64_t tokens = draft.load.tokens;
  const std::int64_t hidden = draft.model.hidden_size;
  const std::int64_t experts = draft.model.n_routed_experts;
  LaunchList list = draft.phase(Phase::kAttentionBackward);
  list.small("scalars", 4, 1);
  list.small("balance_grad", 2, e.scores);
  list.small("routing_weights_grad", 7, e.choices);
  list.small("scores_grad", 1, e.scores);
  list.small("routing_weights_grad", 1, e.choices);
  list.small("scores_grad", 10, e.scores);
  list.memory("memset", "scores_grad", {e.choices});
  list.bf16_product("gate_gemm_dgrad", "gate_dgrad", {tokens, hidden, experts});
  list.bf16_weight_product("gate_gemm_wgrad", "gate_wgrad", {experts, hidden, tokens});
  list.add("mlp_input_grad", tokens, hidden);
}

}  // namespace pipecast
