#include "model/operations/layer_operations.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.hpp"
#include "model/operations/layer_parts.hpp"

namespace pipecast {

namespace {

void check(const PlanSpec& plan, LayerKind kind, const LayerLoad& load) {
  require(load.tokens >= 0 && load.seq_length >= 0 && load.routed_tokens >= 0 &&
              load.received_tokens >= 0,
          "the load of a layer must not be negative: tokens={} seq_length={} routed_tokens={} "
          "received_tokens={}",
          load.tokens, load.seq_length, load.routed_tokens, load.received_tokens);
  const bool routed = kind == LayerKind::kMoe || kind == LayerKind::kMtp;
  require(!routed || (load.ep > 0 && load.local_experts > 0),
          "a {} layer needs experts: ep={} local_experts={}", name_of(kind), load.ep,
          load.local_experts);
  const Precision p = plan.precision.gemm;
  require(p == Precision::kFp8 || p == Precision::kBf16,
          "matrix products run in fp8 or bf16, not in {}", name_of(p));
}

/// In the backward pass the head's launches come first, in the forward pass last.
void add_mtp(LayerDraft& draft) {
  add_mtp_entry_forward(draft);
  add_attention_forward(draft);
  add_router_forward(draft);
  LayerDraft head{draft.model, draft.plan, draft.load, {}};
  add_head(head);
  draft.layer.at(Phase::kMlpBackward) = head.layer.at(Phase::kMlpBackward);
  draft.layer.at(Phase::kMlpWeight) = head.layer.at(Phase::kMlpWeight);
  add_exchange(draft);
  add_moe_mlp(draft);
  auto& forward = draft.layer.at(Phase::kMlpForward);
  const auto& last = head.layer.at(Phase::kMlpForward);
  forward.insert(forward.end(), last.begin(), last.end());
  add_router_backward(draft);
  add_attention_backward(draft);
  add_mtp_entry_backward(draft);
  keep_attention(draft);
  draft.layer.kept.insert(draft.layer.kept.end(), head.layer.kept.begin(), head.layer.kept.end());
}

/// Tokens that a GPU receives if every token draws its experts evenly from its groups: of the
/// GPUs that hold those groups' experts, each is missed with the probability that all draws fall
/// on the others' experts.
std::int64_t expected_received(const ModelSpec& m, std::int64_t tokens, std::int64_t local) {
  const double candidates = static_cast<double>(m.n_routed_experts) *
                            static_cast<double>(m.topk_group) / static_cast<double>(m.n_group);
  double missed = 1;
  for (std::int64_t draw = 0; draw < m.num_experts_per_tok; ++draw) {
    const double left = candidates - static_cast<double>(draw);
    missed *= std::max(0.0, left - static_cast<double>(local)) / left;
  }
  const double gpus = candidates / static_cast<double>(local);
  return std::llround(static_cast<double>(tokens) * std::max(1.0, gpus * (1 - missed)));
}

}  // namespace

LayerLoad balanced_load(const ModelSpec& model, const PlanSpec& plan, std::int64_t seq_length) {
  require(seq_length > 0, "seq_length must be positive: {}", seq_length);
  require(plan.ep > 0 && model.n_routed_experts % plan.ep == 0,
          "{} routed experts cannot be split evenly over ep={} GPUs", model.n_routed_experts,
          plan.ep);
  LayerLoad load;
  load.seq_length = seq_length;
  load.tokens = plan.micro_batch_size * seq_length;
  load.ep = plan.ep;
  load.local_experts = model.n_routed_experts / plan.ep;
  load.routed_tokens = load.tokens * model.num_experts_per_tok;
  load.received_tokens =
      plan.ep == 1 ? load.tokens : expected_received(model, load.tokens, load.local_experts);
  return load;
}

LayerOperations layer_operations(const ModelSpec& model, const PlanSpec& plan, LayerKind kind,
                                 const LayerLoad& load) {
  check(plan, kind, load);
  LayerDraft draft{model, plan, load, {}};
  draft.layer.kind = kind;
  switch (kind) {
    case LayerKind::kEmbedding:
      add_embedding(draft);
      break;
    case LayerKind::kHead:
      add_head(draft);
      break;
    case LayerKind::kDense:
      add_attention_forward(draft);
      add_dense_mlp(draft);
      add_attention_backward(draft);
      keep_attention(draft);
      break;
    case LayerKind::kMoe:
      add_attention_forward(draft);
      add_router_forward(draft);
      add_exchange(draft);
      add_moe_mlp(draft);
      add_router_backward(draft);
      add_attention_backward(draft);
      keep_attention(draft);
      break;
    case LayerKind::kMtp:
      add_mtp(draft);
      break;
  }
  return std::move(draft.layer);
}

}  // namespace pipecast
