#include "model/operations/gated_ffn.hpp"

namespace pipecast {

void swiglu_forward(const LayerDraft& draft, LaunchList& list, std::string_view label,
                    std::int64_t rows, std::int64_t width) {
  const bool kept = !draft.plan.recompute.moe_act;
  if (list.fp8() && (!kept || list.cached() == Precision::kFp8)) {
    list.memory("swiglu_fwd_and_cast_fp8", label, {rows, width});
    return;
  }
  list.memory("swiglu_fwd", label, {rows, width});
  list.cast(label, rows, width);
  if (kept && !list.fp8()) list.cache(label, rows, width);
}

GatedFfn::GatedFfn(LayerDraft& draft, const GatedFfnLabels& labels, std::int64_t width)
    : draft_(draft),
      labels_(labels),
      tokens_(draft.load.tokens),
      hidden_(draft.model.hidden_size),
      width_(width) {}

void GatedFfn::up(LaunchList& list) const {
  list.transpose_scales(labels_.up, tokens_, hidden_);
  list.product(labels_.up, {tokens_, 2 * width_, hidden_});
}

void GatedFfn::activation_and_down(LaunchList& list) const {
  swiglu_forward(draft_, list, labels_.down, tokens_, width_);
  list.transpose_scales(labels_.down, tokens_, width_);
  list.product(labels_.down, {tokens_, hidden_, width_});
}

void GatedFfn::cache(LaunchList& list) const { list.cache(labels_.up, tokens_, 2 * width_); }

void GatedFfn::backward_down(LaunchList& list) const {
  list.transpose_weight(labels_.down, hidden_, width_);
  list.transpose_scales(labels_.down_dgrad, tokens_, hidden_);
  list.product(labels_.down_dgrad, {tokens_, width_, hidden_});
  list.cast_transpose(labels_.down_dgrad, tokens_, hidden_);
  if (!draft_.plan.recompute.moe_act) {
    if (!list.fp8()) list.uncache(labels_.down_wgrad, tokens_, width_);
    list.cast_transpose(labels_.down_wgrad, tokens_, width_, list.cached());
  } else if (list.fp8()) {
    list.memory("swiglu_recompute_and_cast_transpose", labels_.down_wgrad, {tokens_, width_},
                {.source = list.cached()});
  } else {
    list.uncache(labels_.up, tokens_, 2 * width_);
    swiglu_forward(draft_, list, labels_.down_wgrad, tokens_, width_);
  }
  list.memory("swiglu_bwd_shared", labels_.down_dgrad, {tokens_, width_},
              {.source = list.cached()});
}

void GatedFfn::recompute_input(LaunchList& list, bool dispatched) const {
  if (!draft_.plan.recompute.layernorm) return;
  list.norm("mlp_norm", tokens_, hidden_);
  if (list.cached() != Precision::kFp8) return;
  if (dispatched && list.fp8()) {
    list.cast_to_dispatch("mlp_norm_output", tokens_, hidden_);
  } else {
    list.cast("mlp_norm_output", tokens_, hidden_);
  }
}

void GatedFfn::backward_up(LaunchList& list) const {
  // Back from the FP8 that the forward product saw, so that both products see the same numbers. A
  // BF16 product sees the same again as soon as the norm is recomputed.
  if (list.fp8() || !draft_.plan.recompute.layernorm) {
    list.uncache("mlp_norm_output", tokens_, hidden_);
  }
  list.transpose_weight(labels_.up, 2 * width_, hidden_);
  list.cast(labels_.up_dgrad, tokens_, 2 * width_);
  list.transpose_scales(labels_.up_dgrad, tokens_, 2 * width_);
  list.product(labels_.up_dgrad, {tokens_, hidden_, 2 * width_});
  list.cast_transpose(labels_.up_dgrad, tokens_, 2 * width_);
  list.cast_transpose("mlp_norm_output", tokens_, hidden_);
}

void GatedFfn::down_weight(LaunchList& list) const {
  list.weight_product(labels_.down_wgrad, {hidden_, width_, tokens_});
}

void GatedFfn::up_weight(LaunchList& list) const {
  list.weight_product(labels_.up_wgrad, {2 * width_, hidden_, tokens_});
}

void GatedFfn::keep() const {
  draft_.keep(labels_.up, draft_.cached(), {2 * width_, "2 x intermediate size"}, "input of SwiGLU",
              Phase::kMlpForward);
  if (!draft_.plan.recompute.moe_act) {
    draft_.keep(labels_.down, draft_.cached(), {width_, "intermediate size"},
                "output of SwiGLU, input of the down projection", Phase::kMlpForward);
  }
}

}  // namespace pipecast
