#include "model/operations/layer_operations.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "base/error.hpp"
#include "model/operations/exchange_shapes.hpp"
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

/// GPUs that a token needs if it draws its experts evenly from its groups.
double expected_gpus(const ModelSpec& m, int ep) {
  const double local = static_cast<double>(m.n_routed_experts) / ep;
  const double candidates = static_cast<double>(m.n_routed_experts) *
                            static_cast<double>(m.topk_group) / static_cast<double>(m.n_group);
  require(static_cast<double>(m.num_experts_per_tok) <= candidates,
          "a token uses {} experts, but its {} of {} groups have only {}", m.num_experts_per_tok,
          m.topk_group, m.n_group, candidates);
  return std::max(1.0, expected_owners(candidates, local, m.num_experts_per_tok));
}

}  // namespace

LayerLoad balanced_load(const ModelSpec& model, const PlanSpec& plan, std::int64_t seq_length,
                        double gpus_per_token) {
  require(seq_length > 0, "seq_length must be positive: {}", seq_length);
  require(plan.ep > 0 && model.n_routed_experts % plan.ep == 0,
          "{} routed experts cannot be split evenly over ep={} GPUs", model.n_routed_experts,
          plan.ep);
  require(gpus_per_token >= 1 && gpus_per_token <= plan.ep,
          "a token's experts lie on 1 to ep={} GPUs, not on {}", plan.ep, gpus_per_token);
  LayerLoad load;
  load.seq_length = seq_length;
  load.tokens = plan.micro_batch_size * seq_length;
  load.ep = plan.ep;
  load.local_experts = model.n_routed_experts / plan.ep;
  load.routed_tokens = load.tokens * model.num_experts_per_tok;
  load.received_tokens = std::llround(static_cast<double>(load.tokens) * gpus_per_token);
  return load;
}

LayerLoad balanced_load(const ModelSpec& model, const PlanSpec& plan, std::int64_t seq_length) {
  const double gpus = plan.ep > 1 ? std::min<double>(plan.ep, expected_gpus(model, plan.ep)) : 1;
  return balanced_load(model, plan, seq_length, gpus);
}

LayerOperations layer_operations(const ModelSpec& model, const PlanSpec& plan, LayerKind kind,
                                 const LayerLoad& load) {
  check(plan, kind, load);
  // A layer whose forward runs again has nothing left to recompute.
  std::optional<PlanSpec> whole;
  if (plan.recompute.full) {
    whole = plan;
    whole->recompute = {.full = true};
  }
  LayerDraft draft{model, whole ? *whole : plan, load, {}};
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
    case LayerKind::kMtp: {
      const bool mtp = kind == LayerKind::kMtp;
      if (mtp) add_mtp_entry_forward(draft);
      add_attention_forward(draft);
      add_router_forward(draft);
      add_exchange(draft);
      add_moe_mlp(draft);
      add_router_backward(draft);
      add_attention_backward(draft);
      if (mtp) add_mtp_entry_backward(draft);
      keep_attention(draft);
      break;
    }
  }
  return std::move(draft.layer);
}

}  // namespace pipecast
