/// The kernels that one layer launches in a training step, phase by phase.
#pragma once

#include <cstdint>

#include "model/operations/operation.hpp"
#include "model/specs/model.hpp"
#include "model/specs/plan.hpp"

namespace pipecast {

/// What one GPU has to work on in one micro-batch.
struct LayerLoad {
  std::int64_t tokens = 0;  ///< of its own: micro_batch_size * seq_length
  std::int64_t seq_length = 0;
  std::int64_t routed_tokens = 0;    ///< rows arriving at its experts, all local experts together
  std::int64_t received_tokens = 0;  ///< distinct tokens arriving, its own included
  int ep = 1;                        ///< GPUs among which the experts are spread
  std::int64_t local_experts = 0;
};

/// The load when every expert gets the same number of rows: tokens * top-k rows, and as many
/// distinct tokens as experts drawn evenly from the groups that a token may use would give.
/// @throws Error if seq_length is not positive, plan.ep does not divide the experts, or a token's
/// groups hold fewer experts than it uses
LayerLoad balanced_load(const ModelSpec& model, const PlanSpec& plan, std::int64_t seq_length);

/// The same with a known mean number of distinct GPUs that hold a token's experts.
/// @throws Error besides if gpus_per_token is not between 1 and plan.ep
LayerLoad balanced_load(const ModelSpec& model, const PlanSpec& plan, std::int64_t seq_length,
                        double gpus_per_token);

/// Kernels and kept tensors of one layer on one GPU. With DeepSeek-V3's model and plan a MoE layer
/// launches, phase by phase and in the same order, the kernels of
/// traces/h800_dualpipe_chunk/kernels.csv.
///
/// Embedding and head have `mlp` phases only. The MTP module runs its embedding lookup and
/// projection in `attn`; its use of the head is a kHead of its own in the layout. Bytes count every
/// operand once from HBM. FLOPs of a causal attention are those of the lower triangle. `ep_*`
/// operations carry the payload that this GPU receives in `read` and `written`; the links, not HBM,
/// decide their time.
///
/// Not modelled: caching in L2 between kernels; padding of expert rows and of odd extents to tiles;
/// bytes of indices and row statistics beside the tensors.
/// @throws Error if an extent of the load is negative or rows come without experts
LayerOperations layer_operations(const ModelSpec& model, const PlanSpec& plan, LayerKind kind,
                                 const LayerLoad& load);

}  // namespace pipecast
