/// Parameters of a model, counted from its shapes: in total, per token, per layer, per tensor, per
/// GPU.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "model/specs/model.hpp"
#include "model/specs/plan.hpp"

namespace pipecast {

/// How a tensor is computed with and who holds it.
enum class TensorRole {
  kLinear,         ///< a linear layer's matrix, multiplied in the plan's GEMM precision
  kExpert,         ///< one matrix per routed expert, spread over the expert-parallel GPUs
  kHighPrecision,  ///< embedding, head, gate: never FP8 (DeepSeek-V3 report, section 3.3.1)
  kVector,         ///< norm weights and the router's bias
};

/// A tensor, or `copies` equal ones for routed experts.
struct ParameterTensor {
  std::string_view name;
  std::int64_t rows = 0;     ///< output features
  std::int64_t columns = 0;  ///< input features; 1 for vectors
  std::int64_t copies = 1;
  TensorRole role = TensorRole::kLinear;

  [[nodiscard]] std::int64_t parameters() const { return rows * columns * copies; }
};

/// Every tensor that a layer of this kind owns. The MTP module's embedding and head are the main
/// model's and not listed.
std::vector<ParameterTensor> parameters_of(const ModelSpec& model, LayerKind kind);

/// Matrices of the latent attention. `q_a` is 0 and `q_b` the whole query projection where queries
/// are projected in one step.
struct AttentionParameters {
  std::int64_t q_a = 0;
  std::int64_t q_b = 0;
  std::int64_t kv_a = 0;
  std::int64_t kv_b = 0;
  std::int64_t o = 0;

  [[nodiscard]] std::int64_t total() const { return q_a + q_b + kv_a + kv_b + o; }
};

/// Matrix parameters; vectors (norms, router bias) are counted apart because published counts do
/// not say whether they are included.
struct ParameterCount {
  std::int64_t total = 0;                        ///< main model: layers, embedding, head
  std::int64_t activated = 0;                    ///< per token, embedding and head included
  std::int64_t activated_without_embedding = 0;  ///< per token, with the head only
  std::int64_t embedding = 0;
  std::int64_t head = 0;  ///< as multiplied; shared with the embedding if tied
  std::int64_t mtp = 0;   ///< of all MTP modules, without the shared embedding and head
  AttentionParameters attention;
  std::int64_t expert = 0;  ///< one routed expert
  std::int64_t shared_experts = 0;
  std::int64_t router = 0;
  std::int64_t dense_ffn = 0;
  std::int64_t moe_layer = 0;
  std::int64_t moe_layer_activated = 0;
  std::int64_t norms = 0;        ///< main model, the final norm included
  std::int64_t router_bias = 0;  ///< main model
  std::int64_t mtp_vectors = 0;
};

/// @throws Error if more experts are used per token than there are
ParameterCount count_parameters(const ModelSpec& model);

/// Parameters (vectors included) that one GPU holds of something.
struct HeldParameters {
  std::int64_t dense = 0;           ///< replicated over all data-parallel ranks, kLinear only
  std::int64_t high_precision = 0;  ///< replicated too: kHighPrecision and kVector
  std::int64_t expert = 0;          ///< of the experts that are local under expert parallelism

  [[nodiscard]] std::int64_t replicated() const { return dense + high_precision; }
  [[nodiscard]] std::int64_t total() const { return replicated() + expert; }
  HeldParameters& operator+=(const HeldParameters& other);
};

/// Of one GPU among `ep` that hold the stage together.
/// @throws Error if the experts cannot be split evenly
HeldParameters parameters_of_stage(const ModelSpec& model, const std::vector<LayerKind>& stage,
                                   int ep);

}  // namespace pipecast
