#include <optional>

#include "model/operations/gated_ffn.hpp"

namespace pipecast {

namespace {

constexpr GatedFfnLabels kSharedLabels = {
    .up = "shared_gate_up",
    .up_dgrad = "shared_gate_up_dgrad",
    .up_wgrad = "shared_gate_up_wgrad",
    .down = "shared_down",
    .down_dgrad = "shared_down_dgrad",
    .down_wgrad = "shared_down_wgrad",
};

constexpr std::int64_t kScaleTile = 128;

/// Routed and shared experts of one layer. R rows arrive at the local experts, copies of D
/// distinct received tokens.
class MoeMlp {
 public:
  explicit MoeMlp(LayerDraft& draft)
      : draft_(draft),
        load_(draft.load),
        hidden_(draft.model.hidden_size),
        width_(draft.model.moe_intermediate_size),
        choices_(draft.load.received_tokens * draft.model.num_experts_per_tok) {
    if (draft.model.n_shared_experts > 0) {
      shared_.emplace(draft, kSharedLabels, width_ * draft.model.n_shared_experts);
    }
  }

  void run() {
    forward();
    backward();
    weights();
    keep();
  }

 private:
  void forward() {
    LaunchList list = draft_.phase(Phase::kMlpForward);
    if (shared_) shared_->up(list);
    sort_rows(list);
    permute(list, "tokens");
    cache_rows(list);
    list.transpose_weight("routed_gate_up", load_.local_experts * 2 * width_, hidden_);
    row_scales(list, "tokens", hidden_);
    list.grouped_product("routed_gate_up", {load_.routed_tokens, 2 * width_, hidden_},
                         load_.local_experts);
    list.small("received_weights", 1, choices_);
    swiglu_forward(draft_, list, "routed_down", load_.routed_tokens, width_);
    list.transpose_weight("routed_down", load_.local_experts * hidden_, width_);
    row_scales(list, "activations", width_);
    // The trace shows it before either grouped product, in three layers of four.
    if (list.fp8()) list.memory("fill_tensormaps", {}, {load_.local_experts});
    list.grouped_product("routed_down", {load_.routed_tokens, hidden_, width_},
                         load_.local_experts);
    unpermute(list, "outputs");
    if (shared_) shared_->activation_and_down(list);
    list.cache("routed_gate_up", load_.routed_tokens, 2 * width_);
    if (shared_) shared_->cache(list);
    // With expert parallelism the combine kernel adds shared expert and residual.
    if (load_.ep == 1) list.add("residual", load_.tokens, hidden_);
  }

  void backward() {
    LaunchList list = draft_.phase(Phase::kMlpBackward);
    output_gradient(list);
    if (shared_) shared_->backward_down(list);
    routed_down(list);
    recompute_input(list);
    routed_up(list);
    if (shared_) shared_->backward_up(list);
  }

  void recompute_input(LaunchList& list) {
    if (shared_) {
      shared_->recompute_input(list, arrives_as_fp8());
    } else if (draft_.plan.recompute.layernorm) {
      list.norm("mlp_norm", load_.tokens, hidden_);  // the router's weight gradient needs it
    }
  }

  /// The output's gradient comes in FP8 if it was dispatched, in BF16 if it never left the GPU.
  void output_gradient(LaunchList& list) {
    if (arrives_as_fp8()) {
      list.uncast_always("mlp_output_grad", load_.tokens, hidden_);
    } else {
      list.cast("mlp_output_grad", load_.tokens, hidden_);
    }
  }

  void routed_down(LaunchList& list) {
    const std::int64_t rows = load_.routed_tokens;
    list.uncache("routed_gate_up", rows, 2 * width_);
    permute(list, "gradients");
    row_scales(list, "gradients", hidden_);
    list.grouped_product("routed_down_dgrad", {rows, width_, hidden_}, load_.local_experts);

    if (draft_.plan.recompute.moe_act) {
      list.memory("swiglu_fwd_bwd_routed", {}, {rows, width_});
    } else {
      list.uncache("routed_down", rows, width_);
      list.memory("swiglu_bwd", {}, {rows, width_});
    }
    list.memory("swiglu_weight_bwd", {}, {rows, width_, choices_});
    list.cast_transpose("routed_down_wgrad", rows, width_);
    list.small("received_weights", 1, choices_);
  }

  void routed_up(LaunchList& list) {
    const std::int64_t rows = load_.routed_tokens;
    list.cast("routed_gate_up_dgrad", rows, 2 * width_);
    row_scales(list, "routed_gate_up_dgrad", 2 * width_);
    list.grouped_product("routed_gate_up_dgrad", {rows, hidden_, 2 * width_}, load_.local_experts);
    unpermute(list, "gradients");
    list.cast_transpose("routed_gate_up_dgrad", rows, 2 * width_);
  }

  void weights() {
    LaunchList list = draft_.phase(Phase::kMlpWeight);
    const std::int64_t rows = load_.routed_tokens;
    // Rows that are FP8 already only change the direction of their tiles.
    if (shared_) shared_->down_weight(list);
    list.cast_transpose("gradients", rows, hidden_, Precision::kFp8);
    expert_weights(list, "routed_down_wgrad", hidden_, width_);
    if (!list.fp8()) list.uncache("tokens", rows, hidden_);
    list.cast_transpose("tokens", rows, hidden_, draft_.cached());
    expert_weights(list, "routed_gate_up_wgrad", 2 * width_, hidden_);
    if (shared_) shared_->up_weight(list);
  }

  /// One product per local expert, on two streams in turn. Rows that do not divide evenly go to
  /// the first experts.
  void expert_weights(LaunchList& list, std::string_view label, std::int64_t m, std::int64_t n) {
    for (std::int64_t expert = 0; expert < load_.local_experts; ++expert) {
      const std::int64_t extra = expert < load_.routed_tokens % load_.local_experts ? 1 : 0;
      const std::int64_t rows = load_.routed_tokens / load_.local_experts + extra;
      list.weight_product(label, {m, n, rows}, expert % 2 == 0 ? Stream::kCompute : Stream::kSide);
    }
  }

  void keep() {
    // Kept in expert order: the backward pass of the trace permutes gradients only.
    keep("routed_input", {hidden_, "hidden_size"}, "input of the experts");
    keep("routed_gate_up", {2 * width_, "2 x moe_intermediate_size"}, "input of SwiGLU");
    if (!draft_.plan.recompute.moe_act) {
      keep("routed_down", {width_, "moe_intermediate_size"},
           "output of SwiGLU, input of the down projection");
    }
    if (shared_) shared_->keep();
    draft_.keep("permutation", Precision::kFp32,
                {2 * draft_.model.num_experts_per_tok, "2 x num_experts_per_tok"},
                "place and weight of every row", Phase::kMlpForward, RowKind::kReceived);
  }

  void keep(std::string_view name, const Columns& columns, std::string_view reason) {
    draft_.keep(name, draft_.cached(), columns, reason, Phase::kMlpForward, RowKind::kRouted);
  }

  void sort_rows(LaunchList& list) {
    list.memory("expert_count", {}, {choices_, load_.local_experts});
    list.memory("permute_map", {}, {choices_, load_.routed_tokens});
  }

  void permute(LaunchList& list, std::string_view label) {
    const Precision moved = moved_precision();
    list.memory(moved == Precision::kFp8 ? "permute_with_scales" : "permute", label,
                {load_.routed_tokens, hidden_, load_.received_tokens});
    if (moved == draft_.plan.precision.gemm) return;
    if (moved == Precision::kFp8) {
      list.uncast_always(label, load_.routed_tokens, hidden_);
    } else {
      list.cast(label, load_.routed_tokens, hidden_);
    }
  }

  /// The permuted rows in the format in which they are kept, if they neither came nor are
  /// multiplied in it.
  void cache_rows(LaunchList& list) {
    if (list.cached() == moved_precision() || list.cached() == list.gemm_precision()) return;
    list.cache("tokens", load_.routed_tokens, hidden_);
    if (list.cached() == Precision::kBf16) {
      list.uncast_always("tokens", load_.routed_tokens, hidden_);
    }
  }

  void unpermute(LaunchList& list, std::string_view label) {
    list.memory("unpermute_reduce", label, {load_.routed_tokens, hidden_, load_.received_tokens});
  }

  /// Scales of the rows in the order in which the grouped product reads them.
  void row_scales(LaunchList& list, std::string_view label, std::int64_t columns) {
    if (list.fp8()) list.small(label, 1, load_.routed_tokens * ceil_div(columns, kScaleTile));
  }

  /// Format in which rows are permuted: as they were sent, or as the products want them.
  [[nodiscard]] Precision moved_precision() const {
    return load_.ep > 1 ? draft_.plan.precision.dispatch : draft_.plan.precision.gemm;
  }
  [[nodiscard]] bool arrives_as_fp8() const {
    return load_.ep > 1 && moved_precision() == Precision::kFp8;
  }

  LayerDraft& draft_;
  const LayerLoad& load_;
  const std::int64_t hidden_;
  const std::int64_t width_;
  const std::int64_t choices_;  // received tokens times chosen experts
  std::optional<GatedFfn> shared_;
};

}  // namespace

void add_moe_mlp(LayerDraft& draft) { MoeMlp(draft).run(); }

}  // namespace pipecast
