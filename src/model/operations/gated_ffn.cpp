#include "model/operations/gated_ffn.hpp"

namespace pipecast {

void swiglu_forward(LaunchList& list, std::string_view label, std::int64_t rows,
                    std::int64_t width) {
  const Precision out = list.gemm_precision();
  list.move(list.fp8() ? "swiglu_fwd_and_cast_fp8" : "swiglu_fwd", label, out,
            stored_bytes(Precision::kBf16, rows, 2 * width), stored_bytes(out, rows, width));
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
  swiglu_forward(list, labels_.down, tokens_, width_);
  list.transpose_scales(labels_.down, tokens_, width_);
  list.product(labels_.down, {tokens_, hidden_, width_});
}

void GatedFfn::cache(LaunchList& list) const { list.cast(labels_.up, tokens_, 2 * width_); }

void GatedFfn::backward_down(LaunchList& list) const {
  const Precision cached = draft_.cached();
  list.transpose_weight(labels_.down, hidden_, width_);
  list.transpose_scales(labels_.down_dgrad, tokens_, hidden_);
  list.product(labels_.down_dgrad, {tokens_, width_, hidden_});
  list.cast_transpose(labels_.down_dgrad, tokens_, hidden_);
  if (!draft_.plan.recompute.moe_act) {
    list.cast_transpose(labels_.down_wgrad, tokens_, width_, Precision::kFp8);
  } else if (list.fp8()) {
    list.move("swiglu_recompute_and_cast_transpose", labels_.down_wgrad, Precision::kFp8,
              stored_bytes(cached, tokens_, 2 * width_),
              stored_bytes(Precision::kFp8, width_, tokens_));
  } else {
    swiglu_forward(list, labels_.down_wgrad, tokens_, width_);
  }
  list.move(
      "swiglu_bwd_shared", labels_.down_dgrad, Precision::kBf16,
      stored_bytes(cached, tokens_, 2 * width_) + stored_bytes(Precision::kBf16, tokens_, width_),
      stored_bytes(Precision::kBf16, tokens_, 2 * width_));
}

void GatedFfn::recompute_input(LaunchList& list) const {
  if (!draft_.plan.recompute.layernorm) return;
  list.norm("mlp_norm", tokens_, hidden_);
  list.cast("mlp_norm_output", tokens_, hidden_);
}

void GatedFfn::backward_up(LaunchList& list) const {
  // Back from the FP8 that the forward product saw, so that both products see the same numbers.
  list.uncast("mlp_norm_output", tokens_, hidden_);
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
  draft_.keep(labels_.up, draft_.cached(), tokens_, 2 * width_);
  if (!draft_.plan.recompute.moe_act) draft_.keep(labels_.down, draft_.cached(), tokens_, width_);
}

}  // namespace pipecast
