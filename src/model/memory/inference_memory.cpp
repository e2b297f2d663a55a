#include "model/memory/inference_memory.hpp"

#include <algorithm>
#include <iterator>
#include <limits>

#include "base/assert.hpp"
#include "base/error.hpp"
#include "model/arithmetic/kv_cache.hpp"
#include "model/arithmetic/parameters.hpp"
#include "model/memory/stored_weights.hpp"

namespace pipecast {

namespace {

using Tensors = std::vector<ParameterTensor>;

/// A model as far as its place on GPUs matters.
struct ServedModel {
  std::vector<Tensors> layers;
  Tensors embedding;
  Tensors head;
  Tensors copy_for_head;       // a tied embedding, where the last stage is not the first
  Bytes cache_of_layer;        // per token, on one GPU
  std::int64_t kv_splits = 1;  // GPUs that divide the key and value projections of a GqaModel
};

enum class SplitBy { kNothing, kHeads, kKeyValueHeads, kWords, kDenseWidth };

/// How a matrix is divided over GPUs, and what it counts as.
struct Placement {
  std::string_view tensor;
  Bytes InferenceWeights::*part;
  SplitBy split;
  bool by_rows;  // output features; else input features
};

constexpr Placement kPlacements[] = {
    {"q_a", &InferenceWeights::attention, SplitBy::kNothing, true},
    {"q_b", &InferenceWeights::attention, SplitBy::kHeads, true},
    {"kv_a", &InferenceWeights::attention, SplitBy::kNothing, true},
    {"kv_b", &InferenceWeights::attention, SplitBy::kHeads, true},
    {"q", &InferenceWeights::attention, SplitBy::kHeads, true},
    {"k", &InferenceWeights::attention, SplitBy::kKeyValueHeads, true},
    {"v", &InferenceWeights::attention, SplitBy::kKeyValueHeads, true},
    {"o", &InferenceWeights::attention, SplitBy::kHeads, false},
    {"gate_up", &InferenceWeights::dense_ffn, SplitBy::kDenseWidth, true},
    {"down", &InferenceWeights::dense_ffn, SplitBy::kDenseWidth, false},
    {"shared_gate_up", &InferenceWeights::shared_experts, SplitBy::kDenseWidth, true},
    {"shared_down", &InferenceWeights::shared_experts, SplitBy::kDenseWidth, false},
    {"expert_gate_up", &InferenceWeights::experts, SplitBy::kNothing, true},
    {"expert_down", &InferenceWeights::experts, SplitBy::kNothing, true},
    {"router", &InferenceWeights::others, SplitBy::kNothing, true},
    {"embedding", &InferenceWeights::embedding, SplitBy::kWords, true},
    {"head", &InferenceWeights::embedding, SplitBy::kWords, true},
};

const Placement& placement_of(std::string_view tensor) {
  const auto* const it =
      std::find_if(std::begin(kPlacements), std::end(kPlacements),
                   [&](const Placement& placement) { return placement.tensor == tensor; });
  PIPECAST_ASSERT(it != std::end(kPlacements));
  return *it;
}

std::int64_t dense_tp(const InferencePlan& plan) { return plan.dense_tp.value_or(plan.tp); }

class Placer {
 public:
  Placer(const InferencePlan& plan, std::int64_t kv_splits) : plan_(plan), kv_splits_(kv_splits) {}

  void add(InferenceWeights& out, const Tensors& tensors) const {
    for (const ParameterTensor& tensor : tensors) add(out, tensor);
  }

 private:
  void add(InferenceWeights& out, ParameterTensor tensor) const {
    if (tensor.role == TensorRole::kVector) {
      out.others += stored_weight_bytes(tensor, plan_.weights);
      return;
    }
    const Placement& placement = placement_of(tensor.name);
    const bool shared = placement.part == &InferenceWeights::shared_experts;
    if (shared && plan_.shared_as_routed) return;  // one of the extra experts
    if (tensor.role == TensorRole::kExpert) {
      tensor.copies = (tensor.copies + plan_.extra_experts) / plan_.ep;
    }
    std::int64_t& extent = placement.by_rows ? tensor.rows : tensor.columns;
    const std::int64_t splits = splits_of(placement.split);
    require(placement.split == SplitBy::kWords || extent % splits == 0,
            "{} {} of {} cannot be split evenly over {} GPUs", extent,
            placement.by_rows ? "rows" : "columns", tensor.name, splits);
    extent = ceil_div(extent, splits);
    out.*placement.part += stored_weight_bytes(tensor, plan_.weights);
  }

  [[nodiscard]] std::int64_t splits_of(SplitBy split) const {
    switch (split) {
      case SplitBy::kNothing:
        return 1;
      case SplitBy::kHeads:
      case SplitBy::kWords:
        return plan_.tp;
      case SplitBy::kKeyValueHeads:
        return kv_splits_;
      case SplitBy::kDenseWidth:
        return dense_tp(plan_);
    }
    return 1;
  }

  const InferencePlan& plan_;
  std::int64_t kv_splits_;
};

void check(const InferencePlan& p, std::int64_t heads, std::int64_t layers) {
  require(p.tp > 0 && p.pp > 0 && p.dp > 0 && p.ep > 0,
          "a deployment needs positive tp={} pp={} dp={} ep={}", p.tp, p.pp, p.dp, p.ep);
  require(p.extra_experts >= 0, "extra_experts must not be negative: {}", p.extra_experts);
  require(dense_tp(p) > 0 && p.tp % dense_tp(p) == 0, "dense_tp={} does not divide tp={}",
          dense_tp(p), p.tp);
  require(heads % p.tp == 0, "{} attention heads cannot be split evenly over tp={} GPUs", heads,
          p.tp);
  require(p.pp <= layers, "{} layers are too few for pp={} stages", layers, p.pp);
  require(p.reserve >= Bytes() && p.reserve <= p.capacity,
          "a reserve of {} bytes does not fit into {} bytes", p.reserve.count(),
          p.capacity.count());
}

void check_experts(const ModelSpec& m, const InferencePlan& p) {
  const std::int64_t of_stage = std::int64_t{p.tp} * p.dp;
  require(of_stage % p.ep == 0, "tp * dp = {} GPUs of a stage are not a multiple of ep={}",
          of_stage, p.ep);
  require((m.n_routed_experts + p.extra_experts) % p.ep == 0,
          "{} routed and {} extra experts cannot be split evenly over ep={} GPUs",
          m.n_routed_experts, p.extra_experts, p.ep);
  require(!p.shared_as_routed || m.n_shared_experts == 1,
          "{} shared experts cannot stand for a routed one; there must be one", m.n_shared_experts);
  require(!p.shared_as_routed || p.extra_experts > 0,
          "a shared expert that is placed like a routed one needs extra_experts");
}

ServedModel served(const ModelSpec& m, const InferencePlan& plan) {
  ServedModel out;
  for (std::int64_t i = 0; i < m.num_hidden_layers; ++i) {
    const bool dense = i < m.first_k_dense_replace;
    out.layers.push_back(parameters_of(m, dense ? LayerKind::kDense : LayerKind::kMoe));
  }
  out.embedding = parameters_of(m, LayerKind::kEmbedding);
  out.head = parameters_of(m, LayerKind::kHead);
  if (m.tie_word_embeddings) out.copy_for_head = out.embedding;
  ModelSpec layer = m;
  layer.num_hidden_layers = 1;
  out.cache_of_layer = kv_cache_per_token(layer, plan.cache);
  return out;
}

ServedModel served(const GqaModel& m, const InferencePlan& plan) {
  const std::int64_t queries = m.heads * m.head_dim;
  const std::int64_t keys = m.kv_heads * m.head_dim;
  const auto vector = [&](std::string_view name) {
    return ParameterTensor{name, m.hidden_size, 1, 1, TensorRole::kVector};
  };
  const auto linear = [](std::string_view name, std::int64_t rows, std::int64_t columns) {
    return ParameterTensor{name, rows, columns, 1, TensorRole::kLinear};
  };
  const auto words = [&](std::string_view name) {
    return ParameterTensor{name, m.vocab_size, m.hidden_size, 1, TensorRole::kHighPrecision};
  };
  const Tensors layer = {vector("attention_norm"),
                         linear("q", queries, m.hidden_size),
                         linear("k", keys, m.hidden_size),
                         linear("v", keys, m.hidden_size),
                         linear("o", m.hidden_size, queries),
                         vector("mlp_norm"),
                         linear("gate_up", 2 * m.intermediate_size, m.hidden_size),
                         linear("down", m.hidden_size, m.intermediate_size)};
  ServedModel out;
  out.layers.assign(static_cast<std::size_t>(m.layers), layer);
  out.embedding = {words("embedding")};
  out.head = {vector("final_norm"), words("head")};
  out.kv_splits = std::min<std::int64_t>(plan.tp, m.kv_heads);
  GqaModel held = m;
  held.layers = 1;
  held.kv_heads = m.kv_heads / out.kv_splits;
  out.cache_of_layer = kv_cache_per_token(held, plan.cache);
  return out;
}

InferenceMemory placed(const ServedModel& model, const InferencePlan& plan) {
  const Placer placer(plan, model.kv_splits);
  InferenceMemory out;
  out.gpus = std::int64_t{plan.tp} * plan.dp * plan.pp;
  out.weights_fit = true;
  out.tokens = std::numeric_limits<std::int64_t>::max();
  const auto count = static_cast<std::int64_t>(model.layers.size());
  std::size_t next = 0;
  for (int index = 0; index < plan.pp; ++index) {
    InferenceStage& stage = out.stages.emplace_back();
    stage.layers = count / plan.pp + (index < count % plan.pp ? 1 : 0);
    for (std::int64_t i = 0; i < stage.layers; ++i) {
      placer.add(stage.weights, model.layers.at(next++));
    }
    if (index == 0) placer.add(stage.weights, model.embedding);
    if (index + 1 == plan.pp) placer.add(stage.weights, model.head);
    if (index > 0 && index + 1 == plan.pp) placer.add(stage.weights, model.copy_for_head);
    stage.free = plan.usable() - stage.weights.total();
    stage.cache_per_token = stage.layers * model.cache_of_layer;
    stage.tokens = std::max(stage.free, Bytes()).count() / stage.cache_per_token.count();
    out.weights_fit = out.weights_fit && stage.free >= Bytes();
    out.tokens = std::min(out.tokens, stage.tokens);
  }
  return out;
}

}  // namespace

InferenceMemory inference_memory(const ModelSpec& model, const InferencePlan& plan) {
  check(plan, model.num_attention_heads, model.num_hidden_layers);
  check_experts(model, plan);
  return placed(served(model, plan), plan);
}

InferenceMemory inference_memory(const GqaModel& model, const InferencePlan& plan) {
  check(plan, model.heads, model.layers);
  require(plan.ep == 1 && plan.extra_experts == 0 && !plan.shared_as_routed,
          "a dense model has no experts to spread: ep={} extra_experts={}", plan.ep,
          plan.extra_experts);
  require(model.kv_heads % plan.tp == 0 || plan.tp % model.kv_heads == 0,
          "{} key-value heads and tp={} GPUs: one must be a multiple of the other", model.kv_heads,
          plan.tp);
  return placed(served(model, plan), plan);
}

}  // namespace pipecast
