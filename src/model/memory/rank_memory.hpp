/// What one GPU of a pipeline rank has to hold.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "model/arithmetic/parameters.hpp"
#include "model/schedules/schedule.hpp"
#include "model/specs/scenario.hpp"

namespace pipecast {

/// Bytes at the moment when most activations are kept; the categories of the contract.
struct RankMemory {
  std::int64_t parameters = 0;  ///< held by one GPU, all stages of the rank together
  Bytes weights;                ///< as the products read them
  Bytes gradients;              ///< accumulators
  Bytes optimizer;              ///< master weights and moments of this GPU's shard
  Bytes activations;            ///< kept for backward passes that are still to come
  Bytes communication;          ///< received and outgoing tokens, pipeline messages
  Bytes workspace;              ///< operands and results of kernels, beyond what is kept

  [[nodiscard]] Bytes total() const {
    return weights + gradients + optimizer + activations + communication + workspace;
  }
};

/// A stage on a pipeline rank, at one moment.
struct HeldStage {
  int stage = 0;
  int holders = 1;           ///< pipeline ranks that hold a copy of the stage
  int live_chunks = 0;       ///< micro-batches between start of forward and end of input gradient
  int deferred_weights = 0;  ///< micro-batches that still owe their weight gradient
};

/// Memory of any rank under one plan. What layers keep is worked out once.
///
/// Weights: linear layers and experts in the products' precision (FP8 with one scale per 128 x
/// 128), the rest in BF16, one copy per stage held. The embedding is added on a rank that uses
/// but does not hold it (MTP, tied embeddings). Gradients: one accumulator per parameter
/// held. Optimizer: with ZeRO-1 divided over data-parallel ranks and holders, experts over the
/// replicas of the same expert. Activations: the tensors that layers keep, times live chunks, and
/// the operands of weight gradients that are put off. Communication: two exchanges at a time (a
/// forward's and a backward's), each with received tokens and outgoing results; a message in and
/// one out per pass and direction. Workspace: the operands and results of the largest forward and
/// of the largest backward kernel, without weights and accumulators.
///
/// Not modelled: fragmentation, the CUDA context, NCCL's and DeepEP's own ring buffers, the BF16
/// buffer of the parameter gather (it reuses activation memory between steps), uneven routing.
/// Source of what is kept in which format: DeepSeek-V3 report, sections 3.2.3 and 3.3.3.
class MemoryAccount {
 public:
  /// @param plan  of the simulated phase
  /// @throws Error if zero_stage is above 1, or data-parallel ranks are not a multiple of ep
  MemoryAccount(const Scenario& scenario, const PlanSpec& plan);

  [[nodiscard]] RankMemory of_rank(const std::vector<HeldStage>& stages) const;

  /// Kept and put-off bytes of one stage.
  [[nodiscard]] Bytes activations(const HeldStage& held) const;

 private:
  struct Layer {
    Bytes kept;
    Bytes weight_operands;
    Bytes forward_transient;
    Bytes backward_transient;
  };
  [[nodiscard]] const std::vector<LayerKind>& layers(int stage) const {
    return plan_.pipeline_layout.at(static_cast<std::size_t>(stage));
  }
  [[nodiscard]] HeldParameters embedding_copy(const std::vector<HeldStage>& stages) const;
  void add_parameters(RankMemory& out, const HeldParameters& held, int holders) const;
  [[nodiscard]] Bytes communication(const std::vector<HeldStage>& stages) const;
  [[nodiscard]] Bytes workspace(const std::vector<HeldStage>& stages) const;

  const ModelSpec& model_;
  const PlanSpec& plan_;
  int data_parallel_;
  std::int64_t tokens_;
  std::int64_t received_tokens_;
  std::map<LayerKind, Layer> layers_;
};

/// Every rank at the moment of its schedule when its activations are largest. A schedule of
/// forwards only has no gradients and no optimizer, and keeps the activations of the chunk that
/// runs.
std::vector<RankMemory> memory_of_ranks(const Scenario& scenario, const PlanSpec& plan,
                                        const Schedule& schedule);

}  // namespace pipecast
