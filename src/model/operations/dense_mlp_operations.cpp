#include "model/operations/gated_ffn.hpp"

namespace pipecast {

namespace {

constexpr GatedFfnLabels kDenseLabels = {
    .up = "dense_gate_up",
    .up_dgrad = "dense_gate_up_dgrad",
    .up_wgrad = "dense_gate_up_wgrad",
    .down = "dense_down",
    .down_dgrad = "dense_down_dgrad",
    .down_wgrad = "dense_down_wgrad",
};

}  // namespace

void add_dense_mlp(LayerDraft& draft) {
  const std::int64_t tokens = draft.load.tokens;
  const std::int64_t hidden = draft.model.hidden_size;
  const GatedFfn ffn(draft, kDenseLabels, draft.model.intermediate_size);

  LaunchList forward = draft.phase(Phase::kMlpForward);
  draft.cache_norm_output(forward, "mlp_norm_output", hidden);
  forward.cast("mlp_norm_output", tokens, hidden);
  ffn.up(forward);
  ffn.activation_and_down(forward);
  ffn.cache(forward);
  forward.add("residual", tokens, hidden);

  LaunchList backward = draft.phase(Phase::kMlpBackward);
  backward.cast("mlp_output_grad", tokens, hidden);
  ffn.backward_down(backward);
  ffn.recompute_input(backward, false);
  ffn.backward_up(backward);

  LaunchList weight = draft.phase(Phase::kMlpWeight);
  ffn.down_weight(weight);
  ffn.up_weight(weight);
  ffn.keep();
}

}  // namespace pipecast
