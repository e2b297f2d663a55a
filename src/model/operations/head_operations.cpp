#include "model/operations/layer_parts.hpp"

namespace pipecast {

// Logits are BF16 and stay until the backward pass turns them into their gradient, in place:
// neither is published for DeepSeek-V3.
void add_head(LayerDraft& draft) {
  const std::int64_t tokens = draft.load.tokens;
  const std::int64_t hidden = draft.model.hidden_size;
  const std::int64_t vocab = draft.model.vocab_size;

  LaunchList forward = draft.phase(Phase::kMlpForward);
  forward.norm("final_norm", tokens, hidden);
  forward.bf16_product("gemm_bf16", "head", {tokens, vocab, hidden});
  forward.memory("cross_entropy_fwd", {}, {tokens, vocab});

  LaunchList backward = draft.phase(Phase::kMlpBackward);
  backward.memory("cross_entropy_bwd", {}, {tokens, vocab});
  backward.bf16_product("gemm_bf16", "head_dgrad", {tokens, hidden, vocab});
  if (draft.plan.recompute.layernorm) backward.norm("final_norm", tokens, hidden);
  backward.norm_backward("final_norm", tokens, hidden);

  LaunchList weight = draft.phase(Phase::kMlpWeight);
  weight.bf16_weight_product("gemm_bf16_wgrad", "head_wgrad", {vocab, hidden, tokens});

  const Columns norm{hidden, "hidden_size"};
  draft.keep_input("final_norm_input", norm, "RMSNorm", Phase::kMlpForward);
  if (!draft.plan.recompute.layernorm) {
    draft.keep("final_norm_output", Precision::kBf16, norm, "input of the head",
               Phase::kMlpForward);
  }
  draft.keep("logits", Precision::kBf16, {vocab, "vocab_size"}, "gradient of the cross-entropy",
             Phase::kMlpForward);
}

}  // namespace pipecast
