/// A transformer of the DeepSeek-V2/V3 family, in the words of its Hugging Face config.json.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace pipecast {

/// Multi-head latent attention, leading dense layers, mixture-of-experts layers, multi-token
/// prediction.
struct ModelSpec {
  std::string name;
  std::int64_t hidden_size = 0;
  std::int64_t num_hidden_layers = 0;
  std::int64_t first_k_dense_replace = 0;  ///< the first k layers have a dense FFN
  std::int64_t intermediate_size = 0;      ///< of the dense FFN
  std::int64_t vocab_size = 0;
  std::int64_t num_attention_heads = 0;
  std::optional<std::int64_t>
      q_lora_rank;  ///< none: queries are projected in one step (DeepSeek-V2-Lite)
  std::int64_t kv_lora_rank = 0;
  std::int64_t qk_nope_head_dim = 0;
  std::int64_t qk_rope_head_dim = 0;
  std::int64_t v_head_dim = 0;
  std::int64_t n_routed_experts = 0;
  std::int64_t n_shared_experts = 0;
  std::int64_t num_experts_per_tok = 0;
  std::int64_t moe_intermediate_size = 0;
  std::int64_t n_group = 1;                   ///< expert groups; 1: no group limit
  std::int64_t topk_group = 1;                ///< groups a token may use
  std::int64_t num_nextn_predict_layers = 0;  ///< depth of multi-token prediction
  bool tie_word_embeddings = false;

  [[nodiscard]] std::int64_t qk_head_dim() const { return qk_nope_head_dim + qk_rope_head_dim; }
  [[nodiscard]] std::int64_t moe_layers() const {
    return num_hidden_layers - first_k_dense_replace;
  }
};

}  // namespace pipecast
