#include "model/operations/layer_parts.hpp"

namespace pipecast {

namespace {

constexpr std::int64_t kCountBytes = 4;

class Exchange {
 public:
  explicit Exchange(LayerDraft& draft) : draft_(draft) {}

  void dispatch(Phase phase, bool cached) {
    LaunchList list = draft_.phase(phase, Stream::kCommunication);
    const Precision p = draft_.plan.precision.dispatch;
    if (cached) {
      notify(list, "ep_cached_notify");
    } else {
      const Bytes choices(draft_.load.tokens * draft_.model.num_experts_per_tok * kCountBytes);
      list.move("ep_layout", {}, Precision::kFp32, choices, counts());
      notify(list, "ep_notify");
    }
    const Bytes payload = stored_bytes(p, draft_.load.received_tokens, draft_.model.hidden_size);
    list.move("ep_dispatch", {}, p, payload, payload);
  }

  void combine(Phase phase) {
    LaunchList list = draft_.phase(phase, Stream::kCommunication);
    const Precision p = draft_.plan.precision.combine;
    notify(list, "ep_cached_notify");
    const Bytes payload = stored_bytes(p, draft_.load.received_tokens, draft_.model.hidden_size);
    list.move("ep_combine", {}, p, payload, payload);
  }

 private:
  [[nodiscard]] Bytes counts() const {
    return Bytes((draft_.model.n_routed_experts + draft_.load.ep) * kCountBytes);
  }
  void notify(LaunchList& list, std::string_view op) const {
    list.move(op, {}, Precision::kFp32, counts(), counts());
  }

  LayerDraft& draft_;
};

}  // namespace

void add_exchange(LayerDraft& draft) {
  if (draft.load.ep == 1) return;
  Exchange exchange(draft);
  exchange.dispatch(Phase::kDispatchForward, false);
  exchange.combine(Phase::kCombineForward);
  // The gradient of the combined output goes the way of a dispatch.
  LaunchList gradient = draft.phase(Phase::kCombineBackward, Stream::kCommunication);
  if (draft.plan.precision.dispatch == Precision::kFp8) {
    gradient.cast_always("mlp_output_grad", draft.load.tokens, draft.model.hidden_size);
  }
  exchange.dispatch(Phase::kCombineBackward, true);
  exchange.combine(Phase::kDispatchBackward);
}

}  // namespace pipecast
