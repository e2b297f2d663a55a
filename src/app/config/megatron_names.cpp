#include "app/config/megatron_names.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

namespace pipecast::config {

namespace {

using Pair = std::pair<std::string_view, std::string_view>;

/// Option names of Megatron-LM's training arguments, and the paths of our keys.
constexpr std::array kNames = {
    Pair{"tensor_model_parallel_size", "plan.tp"},
    Pair{"context_parallel_size", "plan.cp"},
    Pair{"pipeline_model_parallel_size", "plan.pp"},
    Pair{"virtual_pipeline_model_parallel_size", "plan.vpp"},
    Pair{"expert_model_parallel_size", "plan.ep"},
    Pair{"pipeline_model_parallel_layout", "plan.pipeline_layout"},
    Pair{"data_parallel_sharding_strategy", "plan.zero_stage"},
    Pair{"use_distributed_optimizer", "plan.zero_stage"},
    Pair{"fp8_recipe", "plan.precision.gemm"},
    Pair{"micro_batch_size", "plan.micro_batch_size"},
    Pair{"recompute_modules", "plan.recompute_modules"},
    Pair{"overlap_moe_expert_parallel_comm", "plan.overlap.communication"},
    Pair{"global_batch_size", "recipe.phases[].global_batch_size"},
    Pair{"rampup_batch_size", "recipe.phases[].global_batch_size"},
    Pair{"seq_length", "recipe.seq_length"},
    Pair{"optimizer", "recipe.optimizer"},
    Pair{"num_layers", "model.num_hidden_layers"},
    Pair{"num_attention_heads", "model.num_attention_heads"},
    Pair{"hidden_size", "model.hidden_size"},
    Pair{"ffn_hidden_size", "model.intermediate_size"},
    Pair{"padded_vocab_size", "model.vocab_size"},
    Pair{"num_experts", "model.n_routed_experts"},
    Pair{"moe_router_topk", "model.num_experts_per_tok"},
    Pair{"moe_router_num_groups", "model.n_group"},
    Pair{"moe_router_group_topk", "model.topk_group"},
    Pair{"moe_ffn_hidden_size", "model.moe_intermediate_size"},
    Pair{"moe_shared_expert_intermediate_size", "model.n_shared_experts"},
    Pair{"moe_layer_freq", "model.first_k_dense_replace"},
    Pair{"mtp_num_layers", "model.num_nextn_predict_layers"},
    Pair{"q_lora_rank", "model.q_lora_rank"},
    Pair{"kv_lora_rank", "model.kv_lora_rank"},
    Pair{"qk_head_dim", "model.qk_nope_head_dim"},
    Pair{"qk_pos_emb_head_dim", "model.qk_rope_head_dim"},
    Pair{"v_head_dim", "model.v_head_dim"},
};

}  // namespace

std::string_view key_for_megatron_name(std::string_view name) {
  std::string plain(name);
  if (plain.rfind("--", 0) == 0) plain.erase(0, 2);
  std::replace(plain.begin(), plain.end(), '-', '_');
  const auto* const it = std::find_if(kNames.begin(), kNames.end(),
                                      [&](const Pair& pair) { return pair.first == plain; });
  return it == kNames.end() ? std::string_view() : it->second;
}

}  // namespace pipecast::config
