#include "model/operations/exchange_shapes.hpp"
#include "model/operations/layer_parts.hpp"

namespace pipecast {

namespace {

class ExchangePhases {
 public:
  explicit ExchangePhases(LayerDraft& draft) : draft_(draft) {}

  void dispatch(Phase phase, bool cached) {
    LaunchList list = draft_.phase(phase, Stream::kCommunication);
    if (cached) {
      list.memory("ep_cached_notify", {}, {counts()});
    } else {
      list.memory("ep_layout", {},
                  {draft_.load.tokens, draft_.model.num_experts_per_tok, counts()});
      list.memory("ep_notify", {}, {counts()});
    }
    transfer(list, Exchange::kDispatch, draft_.plan.precision.dispatch, cached);
  }

  void combine(Phase phase) {
    LaunchList list = draft_.phase(phase, Stream::kCommunication);
    list.memory("ep_cached_notify", {}, {counts()});
    transfer(list, Exchange::kCombine, draft_.plan.precision.combine, true);
  }

 private:
  [[nodiscard]] std::int64_t counts() const {
    return draft_.model.n_routed_experts + draft_.load.ep;
  }

  /// A layer does not know which of its group's GPUs share a node: copies to nodes are the
  /// cluster's.
  void transfer(LaunchList& list, Exchange kind, Precision p, bool cached) {
    const std::int64_t hidden = draft_.model.hidden_size;
    list.push(exchange_operation({.kind = kind,
                                  .tokens = static_cast<double>(draft_.load.tokens),
                                  .gpu_copies = static_cast<double>(draft_.load.received_tokens),
                                  .copy = stored_bytes(p, 1, hidden),
                                  .cached = cached},
                                 hidden, p));
  }

  LayerDraft& draft_;
};

}  // namespace

void add_exchange(LayerDraft& draft) {
  if (draft.load.ep == 1) return;
  ExchangePhases exchange(draft);
  exchange.dispatch(Phase::kDispatchForward, false);
  exchange.combine(Phase::kCombineForward);
  // The gradient of the combined output goes the way of a dispatch.
  LaunchList gradient = draft.phase(Phase::kCombineBackward, Stream::kCommunication);
  if (draft.plan.precision.dispatch == Precision::kFp8) {
    gradient.cast_to_dispatch("mlp_output_grad", draft.load.tokens, draft.model.hidden_size);
  }
  exchange.dispatch(Phase::kCombineBackward, true);
  exchange.combine(Phase::kDispatchBackward);
}

}  // namespace pipecast
