/// Published models and DeepSeek-V3's training plan, as tests need them.
#pragma once

#include "model/arithmetic/gqa_model.hpp"
#include "model/specs/model.hpp"
#include "model/specs/plan.hpp"
#include "model/specs/scenario.hpp"

namespace pipecast::testing {

/// Source: config.json of deepseek-ai/DeepSeek-V3.
inline ModelSpec deepseek_v3() {
  ModelSpec m;
  m.name = "deepseek-v3";
  m.hidden_size = 7168;
  m.num_hidden_layers = 61;
  m.first_k_dense_replace = 3;
  m.intermediate_size = 18432;
  m.vocab_size = 129280;
  m.num_attention_heads = 128;
  m.q_lora_rank = 1536;
  m.kv_lora_rank = 512;
  m.qk_nope_head_dim = 128;
  m.qk_rope_head_dim = 64;
  m.v_head_dim = 128;
  m.n_routed_experts = 256;
  m.n_shared_experts = 1;
  m.num_experts_per_tok = 8;
  m.moe_intermediate_size = 2048;
  m.n_group = 8;
  m.topk_group = 4;
  m.num_nextn_predict_layers = 1;
  return m;
}

/// Source: config.json of deepseek-ai/DeepSeek-V2.
inline ModelSpec deepseek_v2() {
  ModelSpec m = deepseek_v3();
  m.name = "deepseek-v2";
  m.hidden_size = 5120;
  m.num_hidden_layers = 60;
  m.first_k_dense_replace = 1;
  m.intermediate_size = 12288;
  m.vocab_size = 102400;
  m.n_routed_experts = 160;
  m.n_shared_experts = 2;
  m.num_experts_per_tok = 6;
  m.moe_intermediate_size = 1536;
  m.topk_group = 3;
  m.num_nextn_predict_layers = 0;
  return m;
}

/// Queries in one step, no groups. Source: config.json of deepseek-ai/DeepSeek-V2-Lite.
inline ModelSpec deepseek_v2_lite() {
  ModelSpec m = deepseek_v2();
  m.name = "deepseek-v2-lite";
  m.hidden_size = 2048;
  m.num_hidden_layers = 27;
  m.intermediate_size = 10944;
  m.num_attention_heads = 16;
  m.q_lora_rank.reset();
  m.n_routed_experts = 64;
  m.moe_intermediate_size = 1408;
  m.n_group = 1;
  m.topk_group = 1;
  return m;
}

/// Source: as validate/published.yaml, config.json of Qwen/Qwen2.5-72B.
inline GqaModel qwen_72b() {
  return {.hidden_size = 8192,
          .layers = 80,
          .heads = 64,
          .kv_heads = 8,
          .head_dim = 128,
          .intermediate_size = 29568,
          .vocab_size = 152064};
}

/// Source: as validate/published.yaml, config.json of meta-llama/Llama-3.1-405B.
inline GqaModel llama_405b() {
  return {.hidden_size = 16384,
          .layers = 126,
          .heads = 128,
          .kv_heads = 8,
          .head_dim = 128,
          .intermediate_size = 53248,
          .vocab_size = 128256};
}

inline constexpr std::int64_t kSequence = 4096;

/// Four MoE layers a stage; embedding and dense layers first, one layer, MTP and two uses of
/// the head last.
inline PipelineLayout deepseek_v3_layout() {
  using enum LayerKind;
  PipelineLayout layout(16, {kMoe, kMoe, kMoe, kMoe});
  layout.front() = {kEmbedding, kDense, kDense, kDense, kMoe};
  layout.back() = {kMoe, kHead, kMtp, kHead};
  return layout;
}

/// Source: DeepSeek-V3 report, sections 3.2 and 3.3.
inline PlanSpec deepseek_v3_plan() {
  PlanSpec p;
  p.pp = 16;
  p.ep = 64;
  p.zero_stage = 1;
  p.schedule = "dualpipe";
  p.communication_sms = 20;
  p.pipeline_layout = deepseek_v3_layout();
  p.recompute = {.layernorm = true, .mla_up_proj = true, .moe_act = true};
  return p;
}

inline PlanSpec bf16_plan() {
  PlanSpec p = deepseek_v3_plan();
  p.precision.gemm = Precision::kBf16;
  p.precision.dispatch = Precision::kBf16;
  p.precision.attention_output = Precision::kBf16;
  return p;
}

/// As far as memory depends on it: 2,048 GPUs of 80 GB.
inline Scenario deepseek_v3_scenario() {
  Scenario s;
  s.name = "deepseek-v3";
  s.model = deepseek_v3();
  s.plan = deepseek_v3_plan();
  s.cluster.nodes = 256;
  s.cluster.gpus_per_node = 8;
  s.cluster.gpu.hbm_capacity = Bytes(84'943'110'144);
  s.recipe.seq_length = kSequence;
  return s;
}

}  // namespace pipecast::testing
