#include "model/operations/operation_kinds.hpp"

#include <algorithm>
#include <string>

#include "base/error.hpp"
#include "base/text.hpp"

namespace pipecast {

const std::vector<OperationKind>& operation_kinds() {
  static const std::vector<OperationKind> kKinds = {
      {"adamw", "AdamW step on this GPU's shard of the parameters"},
      {"attention_bwd", "gradients of queries, keys and values, causal (five matrix products)"},
      {"attention_bwd_convert_dq", "FP32 accumulator of the query gradient to BF16"},
      {"attention_bwd_preprocess", "row sums of output times gradient; clears the accumulator"},
      {"attention_decode", "one query per sequence over a cache of latents (absorbed MLA)"},
      {"attention_fwd", "scores, softmax and weighted values, causal, fused"},
      {"cast_e5m6", "attention output to the 12-bit format kept for backward"},
      {"cast_fp8_128x128", "weights to FP8 with one scale per 128 x 128 block"},
      {"cast_fp8_1x128", "activations to FP8 with one scale per 128 of a row"},
      {"cast_transpose_fp8_128x1", "activations to FP8, transposed, for the weight gradient"},
      {"copy_strided", "part of a tensor into or out of a wider one"},
      {"cross_entropy_bwd", "gradient of the logits"},
      {"cross_entropy_fwd", "softmax and loss over the vocabulary"},
      {"elementwise", "additions, masks, sigmoid and other small pointwise work"},
      {"embedding_grad", "adds gradients to the embedding's rows"},
      {"embedding_lookup", "rows of the embedding by token"},
      {"ep_cached_notify", "exchange of counts that are known from the first dispatch"},
      {"ep_combine", "all-to-all of expert outputs back to their tokens, summed"},
      {"ep_dispatch", "all-to-all of tokens to the GPUs of their experts"},
      {"ep_layout", "counts of tokens by destination"},
      {"ep_notify", "exchange of counts before a dispatch; waits for all peers"},
      {"expert_count", "rows per local expert"},
      {"fill_tensormaps", "descriptors of the grouped product's operands"},
      {"gate_gemm_dgrad", "input gradient of the router's matrix"},
      {"gate_gemm_fwd", "router scores of all experts"},
      {"gate_gemm_wgrad", "weight gradient of the router's matrix"},
      {"gemm_bf16", "matrix product in BF16"},
      {"gemm_bf16_wgrad", "weight gradient in BF16, added to the accumulator"},
      {"gemm_fp8", "matrix product in FP8 with 1x128 and 128x128 scales, BF16 out"},
      {"gemm_fp8_wgrad", "weight gradient in FP8, added to the accumulator"},
      {"grad_norm", "sum of squares of this GPU's shard of the gradients"},
      {"group_topk_sum", "score of every expert group"},
      {"grouped_gemm_bf16", "one BF16 product per local expert"},
      {"grouped_gemm_fp8", "one FP8 product per local expert"},
      {"memcpy", "copy within the device"},
      {"memset", "fill with a constant"},
      {"permute", "received tokens to rows sorted by expert, BF16"},
      {"permute_map", "places of the received tokens among the experts' rows"},
      {"permute_with_scales", "received tokens to rows sorted by expert, FP8 and scales"},
      {"rmsnorm_bwd", "input gradient and partial weight gradient of RMSNorm"},
      {"rmsnorm_bwd_finalize", "sum of the partial weight gradients of RMSNorm"},
      {"rmsnorm_fwd", "RMSNorm"},
      {"rope", "rotary position embedding, in place"},
      {"swiglu_bwd", "gradient of SwiGLU from kept inputs and outputs"},
      {"swiglu_bwd_shared", "gradient of SwiGLU of the shared expert or dense FFN"},
      {"swiglu_fwd", "SwiGLU in BF16"},
      {"swiglu_fwd_and_cast_fp8", "SwiGLU with FP8 output"},
      {"swiglu_fwd_bwd_routed", "SwiGLU of the routed rows again, with its gradient"},
      {"swiglu_recompute_and_cast_transpose", "SwiGLU again, to transposed FP8"},
      {"swiglu_weight_bwd", "gradient of the routing weights"},
      {"topk", "largest scores of every token"},
      {"transpose_fp8", "FP8 weights transposed for the product that follows"},
      {"transpose_scales", "scales of activations in the order the product reads them"},
      {"uncast_e5m6", "kept attention output back to BF16"},
      {"uncast_fp8", "FP8 activations back to BF16"},
      {"unpermute_reduce", "experts' rows back to received tokens, weighted and summed"},
  };
  return kKinds;
}

std::string_view operation_kind(std::string_view name) {
  const auto& kinds = operation_kinds();
  const auto it = std::lower_bound(
      kinds.begin(), kinds.end(), name,
      [](const OperationKind& kind, std::string_view wanted) { return kind.name < wanted; });
  if (it != kinds.end() && it->name == name) return it->name;
  std::vector<std::string> names;
  for (const OperationKind& kind : kinds) names.emplace_back(kind.name);
  const std::string close = nearest(name, names);
  throw Error(close.empty()
                  ? fmt::format("unknown operation '{}'", name)
                  : fmt::format("unknown operation '{}'; did you mean '{}'?", name, close));
}

}  // namespace pipecast
