#include "model/arithmetic/parameters.hpp"

#include <utility>

#include "base/error.hpp"

namespace pipecast {

namespace {

using Tensors = std::vector<ParameterTensor>;

void add_vector(Tensors& out, std::string_view name, std::int64_t length) {
  out.push_back({name, length, 1, 1, TensorRole::kVector});
}

void add_linear(Tensors& out, std::string_view name, std::int64_t rows, std::int64_t columns) {
  out.push_back({name, rows, columns, 1, TensorRole::kLinear});
}

void add_attention(Tensors& out, const ModelSpec& m) {
  const std::int64_t heads = m.num_attention_heads;
  add_vector(out, "attention_norm", m.hidden_size);
  if (m.q_lora_rank) {
    add_linear(out, "q_a", *m.q_lora_rank, m.hidden_size);
    add_vector(out, "q_norm", *m.q_lora_rank);
  }
  add_linear(out, "q_b", heads * m.qk_head_dim(), m.q_lora_rank.value_or(m.hidden_size));
  add_linear(out, "kv_a", m.kv_lora_rank + m.qk_rope_head_dim, m.hidden_size);
  add_vector(out, "kv_norm", m.kv_lora_rank);
  add_linear(out, "kv_b", heads * (m.qk_nope_head_dim + m.v_head_dim), m.kv_lora_rank);
  add_linear(out, "o", m.hidden_size, heads * m.v_head_dim);
}

void add_dense_ffn(Tensors& out, const ModelSpec& m) {
  add_vector(out, "mlp_norm", m.hidden_size);
  add_linear(out, "gate_up", 2 * m.intermediate_size, m.hidden_size);
  add_linear(out, "down", m.hidden_size, m.intermediate_size);
}

void add_moe(Tensors& out, const ModelSpec& m) {
  const std::int64_t width = m.moe_intermediate_size;
  add_vector(out, "mlp_norm", m.hidden_size);
  out.push_back({"router", m.n_routed_experts, m.hidden_size, 1, TensorRole::kHighPrecision});
  add_vector(out, "router_bias", m.n_routed_experts);
  out.push_back(
      {"expert_gate_up", 2 * width, m.hidden_size, m.n_routed_experts, TensorRole::kExpert});
  out.push_back({"expert_down", m.hidden_size, width, m.n_routed_experts, TensorRole::kExpert});
  if (m.n_shared_experts > 0) {
    add_linear(out, "shared_gate_up", 2 * width * m.n_shared_experts, m.hidden_size);
    add_linear(out, "shared_down", m.hidden_size, width * m.n_shared_experts);
  }
}

struct Sums {
  std::int64_t matrices = 0;
  std::int64_t vectors = 0;
};

Sums sums_of(const ModelSpec& model, LayerKind kind) {
  Sums out;
  for (const ParameterTensor& t : parameters_of(model, kind)) {
    (t.role == TensorRole::kVector ? out.vectors : out.matrices) += t.parameters();
  }
  return out;
}

AttentionParameters attention_of(const ModelSpec& m) {
  const std::int64_t heads = m.num_attention_heads;
  return {
      .q_a = m.q_lora_rank.value_or(0) * m.hidden_size,
      .q_b = heads * m.qk_head_dim() * m.q_lora_rank.value_or(m.hidden_size),
      .kv_a = (m.kv_lora_rank + m.qk_rope_head_dim) * m.hidden_size,
      .kv_b = heads * (m.qk_nope_head_dim + m.v_head_dim) * m.kv_lora_rank,
      .o = m.hidden_size * heads * m.v_head_dim,
  };
}

}  // namespace

std::vector<ParameterTensor> parameters_of(const ModelSpec& m, LayerKind kind) {
  Tensors out;
  switch (kind) {
    case LayerKind::kEmbedding:
      out.push_back({"embedding", m.vocab_size, m.hidden_size, 1, TensorRole::kHighPrecision});
      break;
    case LayerKind::kDense:
      add_attention(out, m);
      add_dense_ffn(out, m);
      break;
    case LayerKind::kMtp:
      add_vector(out, "mtp_hidden_norm", m.hidden_size);
      add_vector(out, "mtp_embedding_norm", m.hidden_size);
      add_linear(out, "mtp_projection", m.hidden_size, 2 * m.hidden_size);
      add_attention(out, m);
      add_moe(out, m);
      add_vector(out, "mtp_final_norm", m.hidden_size);
      break;
    case LayerKind::kMoe:
      add_attention(out, m);
      add_moe(out, m);
      break;
    case LayerKind::kHead:
      add_vector(out, "final_norm", m.hidden_size);
      if (!m.tie_word_embeddings) {
        out.push_back({"head", m.vocab_size, m.hidden_size, 1, TensorRole::kHighPrecision});
      }
      break;
  }
  return out;
}

ParameterCount count_parameters(const ModelSpec& m) {
  require(m.num_experts_per_tok <= m.n_routed_experts,
          "num_experts_per_tok is {}, but there are only {} routed experts", m.num_experts_per_tok,
          m.n_routed_experts);
  const Sums dense = sums_of(m, LayerKind::kDense);
  const Sums moe = sums_of(m, LayerKind::kMoe);
  const Sums mtp = sums_of(m, LayerKind::kMtp);
  const std::int64_t layers_dense = m.first_k_dense_replace;

  ParameterCount out;
  out.attention = attention_of(m);
  out.expert = 3 * m.hidden_size * m.moe_intermediate_size;
  out.shared_experts = m.n_shared_experts * out.expert;
  out.router = m.n_routed_experts * m.hidden_size;
  out.dense_ffn = 3 * m.hidden_size * m.intermediate_size;
  out.embedding = m.vocab_size * m.hidden_size;
  out.head = out.embedding;
  out.moe_layer = moe.matrices;
  out.moe_layer_activated =
      moe.matrices - (m.n_routed_experts - m.num_experts_per_tok) * out.expert;
  out.mtp = m.num_nextn_predict_layers * mtp.matrices;
  out.mtp_vectors = m.num_nextn_predict_layers * mtp.vectors;

  out.total = layers_dense * dense.matrices + m.moe_layers() * moe.matrices + out.embedding +
              (m.tie_word_embeddings ? 0 : out.head);
  out.activated_without_embedding =
      layers_dense * dense.matrices + m.moe_layers() * out.moe_layer_activated + out.head;
  out.activated = out.activated_without_embedding + out.embedding;
  out.router_bias = m.moe_layers() * m.n_routed_experts;
  out.norms =
      layers_dense * dense.vectors + m.moe_layers() * moe.vectors - out.router_bias + m.hidden_size;
  return out;
}

HeldParameters& HeldParameters::operator+=(const HeldParameters& other) {
  dense += other.dense;
  high_precision += other.high_precision;
  expert += other.expert;
  return *this;
}

HeldParameters parameters_of_stage(const ModelSpec& model, const std::vector<LayerKind>& stage,
                                   int ep) {
  require(ep > 0 && model.n_routed_experts % ep == 0,
          "{} routed experts cannot be split evenly over ep={} GPUs", model.n_routed_experts, ep);
  HeldParameters out;
  bool has_head = false;
  for (const LayerKind kind : stage) {
    // The MTP module's head is the main model's, used a second time.
    if (kind == LayerKind::kHead && std::exchange(has_head, true)) continue;
    for (const ParameterTensor& t : parameters_of(model, kind)) {
      switch (t.role) {
        case TensorRole::kLinear:
          out.dense += t.parameters();
          break;
        case TensorRole::kExpert:
          out.expert += t.parameters() / ep;
          break;
        case TensorRole::kHighPrecision:
        case TensorRole::kVector:
          out.high_precision += t.parameters();
          break;
      }
    }
  }
  return out;
}

}  // namespace pipecast
