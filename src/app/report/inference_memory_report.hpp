/// What serving a model keeps: KV cache beside other models', and what fits beside the weights.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model/arithmetic/gqa_model.hpp"
#include "model/memory/inference_memory.hpp"

namespace pipecast {

/// The cache of one model and attention.
struct KvCacheRow {
  std::string model;
  std::string attention;  ///< MLA, GQA, MHA
  Bytes bf16_per_token;
  Bytes fp8_per_token;
};

/// First the model with its latent attention, then what its heads would keep as multi-head
/// attention, then the dense models, each under its own name.
std::vector<KvCacheRow> kv_cache_rows(const ModelSpec& model,
                                      const std::map<std::string, GqaModel>& dense_models);

struct InferenceReport {
  std::string model;
  InferencePlan plan;
  std::vector<std::int64_t> contexts;  ///< tokens of a request, > 0
  std::vector<KvCacheRow> caches;
  InferenceMemory memory;  ///< of the model under the plan
};

/// @param dense_models  to compare with; may be empty
/// @throws Error if the plan does not divide the model, or a context is not positive
InferenceReport inference_report(const ModelSpec& model, const InferencePlan& plan,
                                 const std::vector<std::int64_t>& contexts,
                                 const std::map<std::string, GqaModel>& dense_models);

/// KB are 1000 bytes, GB 1e9.
std::string inference_text(const InferenceReport& report);

/// Keys: model, kv_cache [ { model, attention, bf16_bytes_per_token, fp8_bytes_per_token } ],
///   requests [ { context, bf16_bytes, fp8_bytes, per_replica, total } ], of the model, deployment
///   { tp, dense_tp, pp, dp, ep, extra_experts, shared_as_routed, weights, cache, gpus,
///   capacity_bytes, reserve_bytes }, stages [ { layers, weights_bytes { attention, dense_ffn,
///   shared_experts, experts, embedding, others, total }, free_bytes, cache_bytes_per_token,
///   tokens } ], weights_fit, tokens_per_replica, tokens.
nlohmann::ordered_json inference_json(const InferenceReport& report);

}  // namespace pipecast
