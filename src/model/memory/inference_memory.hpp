/// How many tokens of KV cache fit beside the weights of a model that serves requests.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/units.hpp"
#include "model/arithmetic/gqa_model.hpp"
#include "model/specs/model.hpp"
#include "model/specs/precision.hpp"

namespace pipecast {

/// How a serving deployment spreads a model over tp * dp * pp GPUs.
struct InferencePlan {
  int tp = 1;                      ///< GPUs that split attention heads, embedding and head
  std::optional<int> dense_tp{};   ///< those that split dense FFNs and shared experts; none: tp
  int pp = 1;                      ///< pipeline stages, each with consecutive layers
  int dp = 1;                      ///< attention replicas, each with requests of its own
  int ep = 1;                      ///< GPUs of a stage that share its experts
  std::int64_t extra_experts = 0;  ///< copies of experts beside the routed ones, in each layer
  bool shared_as_routed = false;   ///< the shared expert is one of these, not on every GPU
  Precision weights = Precision::kFp8;  ///< of linear layers and experts: FP8 or BF16
  Precision cache = Precision::kBf16;
  Bytes capacity{};  ///< of a GPU
  Bytes reserve{};   ///< of it for everything but weights and cache

  [[nodiscard]] Bytes usable() const { return capacity - reserve; }
};

/// Weights of one GPU.
struct InferenceWeights {
  Bytes attention{};
  Bytes dense_ffn{};
  Bytes shared_experts{};
  Bytes experts{};
  Bytes embedding{};  ///< and head
  Bytes others{};     ///< norms, gates and their bias

  [[nodiscard]] Bytes total() const {
    return attention + dense_ffn + shared_experts + experts + embedding + others;
  }
};

/// A GPU of one pipeline stage; all of a stage hold as much.
struct InferenceStage {
  std::int64_t layers = 0;
  InferenceWeights weights{};
  Bytes free{};             ///< usable less weights; negative where these do not fit
  Bytes cache_per_token{};  ///< of the stage's layers, what one GPU holds
  std::int64_t tokens = 0;  ///< that fit
};

struct InferenceMemory {
  std::int64_t gpus = 0;
  std::vector<InferenceStage> stages{};
  bool weights_fit = false;
  std::int64_t tokens = 0;  ///< of one attention replica: what its fullest stage can hold

  /// Requests of one attention replica.
  /// @param context  tokens of each, > 0
  [[nodiscard]] std::int64_t requests(std::int64_t context) const { return tokens / context; }
};

/// Tensor parallelism splits query, key-value and output projections by heads, and embedding and
/// head by words (rounded up); the down-projections of latent attention, gates and norms are on
/// every GPU. So is the whole latent cache, which all heads read: its tokens do not grow with tp.
/// Layers are dealt to stages as evenly as they can be, the first stages getting one more;
/// embedding and head are on the first and the last.
///
/// Not modelled: MTP modules, activations and attention workspace (they belong to the reserve), the
/// rounding of the cache to pages, prefixes that requests share, experts of unequal number on the
/// GPUs of a stage.
/// @throws Error if something cannot be split evenly, or the reserve is larger than the capacity
InferenceMemory inference_memory(const ModelSpec& model, const InferencePlan& plan);

/// The same for a dense model with grouped-query attention. Its cache is split by key-value heads;
/// where there are fewer than tp, each is on tp / kv_heads GPUs. Not modelled: biases.
/// @throws Error as above, and if the plan has experts to spread
InferenceMemory inference_memory(const GqaModel& model, const InferencePlan& plan);

}  // namespace pipecast
