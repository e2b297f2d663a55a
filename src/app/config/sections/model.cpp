#include "app/config/sections/sections.hpp"

namespace pipecast::config {

namespace {

// Wider than any model, and small enough that a tensor of all experts of all layers has far fewer
// than 2^63 bytes: 2^18 * 2^18 * 2^12 * 2^10.
constexpr Range kWidth{.low = 1, .high = 1 << 18};
constexpr Range kCount{.low = 1, .high = 1 << 12};
constexpr Range kLayers{.low = 1, .high = 1 << 10};
constexpr Range kVocabulary{.low = 1, .high = 1 << 24};

/// Keys that a config.json of the family holds beside the architecture's extents. They must have
/// the one meaning that is simulated.
void describe_fixed_choices(Fields& f, const ModelSpec& model) {
  std::string model_type = "deepseek_v3";
  f.optional_choice("model_type", model_type, words({"deepseek_v3", "deepseek_v2", "kimi_k2"}),
                    "the family: multi-head latent attention and DeepSeek's mixture of experts");
  std::string activation = "silu";
  f.optional_choice("hidden_act", activation, words({"silu"}), "activation of the FFN: SwiGLU");
  std::string scores = "sigmoid";
  f.optional_choice("scoring_func", scores, words({"sigmoid", "softmax"}),
                    "how the router scores experts");
  std::string method = "noaux_tc";
  f.optional_choice("topk_method", method, words({"noaux_tc", "group_limited_greedy", "greedy"}),
                    "how the router picks experts");
  f.check(method != "greedy" || model.topk_group == model.n_group, "topk_method",
          "'greedy' knows no limit of groups, but topk_group is {} of n_group {}", model.topk_group,
          model.n_group);
  std::int64_t kv_heads = model.num_attention_heads;
  f.optional("num_key_value_heads", kv_heads, "must equal num_attention_heads", kCount);
  f.check(kv_heads == model.num_attention_heads, "num_key_value_heads",
          "{} differs from num_attention_heads {}; latent attention has keys and values for every "
          "head",
          kv_heads, model.num_attention_heads);
  std::int64_t qk_head_dim = model.qk_head_dim();
  f.optional("qk_head_dim", qk_head_dim, "must equal qk_nope_head_dim + qk_rope_head_dim");
  f.check(qk_head_dim == model.qk_head_dim(), "qk_head_dim",
          "{} differs from qk_nope_head_dim + qk_rope_head_dim = {}", qk_head_dim,
          model.qk_head_dim());
  std::int64_t moe_layer_freq = 1;
  f.optional("moe_layer_freq", moe_layer_freq, "must be 1: every layer after the dense ones");
  f.check(moe_layer_freq == 1, "moe_layer_freq",
          "{} is not simulated; expected 1, a mixture of experts in every layer after the first "
          "first_k_dense_replace",
          moe_layer_freq);
  bool attention_bias = false;
  f.optional("attention_bias", attention_bias, "must be false");
  f.check(!attention_bias, "attention_bias", "true is not simulated; expected false");
}

void check_model(Fields& f, const ModelSpec& m) {
  f.check(m.first_k_dense_replace < m.num_hidden_layers, "first_k_dense_replace",
          "{} dense layers leave no mixture of experts in {} layers", m.first_k_dense_replace,
          m.num_hidden_layers);
  f.check(m.qk_rope_head_dim % 2 == 0, "qk_rope_head_dim",
          "{} is odd; rotary embeddings turn pairs of elements", m.qk_rope_head_dim);
  f.check(m.n_routed_experts % std::max<std::int64_t>(m.n_group, 1) == 0, "n_group",
          "{} groups do not divide {} routed experts", m.n_group, m.n_routed_experts);
  f.check(m.topk_group <= m.n_group, "topk_group", "{} is more than n_group {}", m.topk_group,
          m.n_group);
  const std::int64_t reachable =
      m.n_routed_experts / std::max<std::int64_t>(m.n_group, 1) * m.topk_group;
  f.check(m.num_experts_per_tok <= reachable, "num_experts_per_tok",
          "{} is more than the {} experts of topk_group {} groups", m.num_experts_per_tok,
          reachable, m.topk_group);
}

}  // namespace

void describe(Fields& f, ModelSpec& m) {
  f.file("hf_config", "a config.json of the DeepSeek-V2/V3 family as Hugging Face has it");
  f.maybe("name", m.name, "what results call the model");
  f.required("hidden_size", m.hidden_size, "width of the residual stream", kWidth);
  f.required("num_hidden_layers", m.num_hidden_layers, "transformer layers without MTP", kLayers);
  f.required("first_k_dense_replace", m.first_k_dense_replace, "leading layers with a dense FFN",
             {.low = 0, .high = kLayers.high});
  f.required("intermediate_size", m.intermediate_size, "inner width of the dense FFN", kWidth);
  f.required("vocab_size", m.vocab_size, "rows of the embedding and of the head", kVocabulary);
  f.required("num_attention_heads", m.num_attention_heads, "attention heads", kCount);
  f.required("q_lora_rank", m.q_lora_rank,
             "rank of the queries' down-projection, or null for one-step queries", kWidth);
  f.required("kv_lora_rank", m.kv_lora_rank, "rank of the keys' and values' down-projection",
             kWidth);
  f.required("qk_nope_head_dim", m.qk_nope_head_dim, "query and key width without position",
             kCount);
  f.required("qk_rope_head_dim", m.qk_rope_head_dim, "query and key width with rotary position",
             kCount);
  f.required("v_head_dim", m.v_head_dim, "value width of a head", kCount);
  f.required("n_routed_experts", m.n_routed_experts, "routed experts of a layer", kCount);
  f.required("n_shared_experts", m.n_shared_experts, "experts of a layer that every token uses",
             {.low = 0, .high = kCount.high});
  f.required("num_experts_per_tok", m.num_experts_per_tok, "routed experts of a token", kCount);
  f.required("moe_intermediate_size", m.moe_intermediate_size, "inner width of one expert", kWidth);
  f.required("n_group", m.n_group, "groups of routed experts; 1: no groups", kCount);
  f.required("topk_group", m.topk_group, "groups that a token may use", kCount);
  f.optional("num_nextn_predict_layers", m.num_nextn_predict_layers,
             "modules of multi-token prediction", {.low = 0, .high = 16});
  f.optional("tie_word_embeddings", m.tie_word_embeddings,
             "whether embedding and head are one matrix");
  describe_fixed_choices(f, m);
  f.ignored({"architectures",
             "auto_map",
             "_name_or_path",
             "transformers_version",
             "torch_dtype",
             "dtype",
             "quantization_config",
             "use_cache",
             "initializer_range",
             "rms_norm_eps",
             "max_position_embeddings",
             "rope_theta",
             "rope_scaling",
             "bos_token_id",
             "eos_token_id",
             "pad_token_id",
             "head_dim",
             "attention_dropout",
             "aux_loss_alpha",
             "seq_aux",
             "norm_topk_prob",
             "routed_scaling_factor",
             "ep_size",
             "pretraining_tp"},
            "accepted as a config.json has it; changes neither time nor memory of a step");
  check_model(f, m);
}

}  // namespace pipecast::config
