/// What a GPU holds from the first to the last moment of a training step.
#pragma once

#include <cstdint>
#include <vector>

#include "model/arithmetic/parameters.hpp"
#include "model/memory/memory_tensor.hpp"
#include "model/schedules/schedule.hpp"
#include "model/specs/scenario.hpp"

namespace pipecast {

/// What tensors may take of a GPU: what the device shows, less the plan's reserve.
inline Bytes memory_capacity(const GpuSpec& gpu, const PlanSpec& plan) {
  return gpu.hbm_capacity - plan.memory.reserve;
}

/// A stage of a pipeline rank.
struct HeldStage {
  int stage = 0;
  int holders = 1;  ///< pipeline ranks that hold a copy of it
};

/// Every stage once, in the order of lanes: both directions of the middle rank of an odd pipeline
/// share one.
std::vector<HeldStage> held_stages(const Schedule& schedule, int rank);

/// GPUs that a stage's parameters are replicated, or sharded, over.
struct ReplicaGroups {
  std::int64_t replicated = 1;  ///< data-parallel ranks of all holders
  std::int64_t experts = 1;     ///< those of them that hold the same experts
};
/// @throws Error unless the data-parallel ranks are a multiple of plan.ep
ReplicaGroups replica_groups(const Scenario& scenario, const PlanSpec& plan, int holders);

struct PersistentMemory {
  std::vector<MemoryTensor> tensors;  ///< on the GPU
  std::vector<MemoryTensor> on_host;  ///< of this GPU in its node's memory
  std::int64_t parameters = 0;        ///< that this GPU works with, all stages together
};

/// Weights, gradients, optimizer state and pipeline buffers of one GPU of a rank.
///
/// Weights: linear layers and experts in the products' precision (FP8 with one FP32 scale per 128 x
/// 128), the rest in BF16, one copy per stage held. The embedding comes on top on a rank that uses
/// but does not hold it (MTP, tied embeddings). Gradients: one accumulator per parameter, flat.
/// Optimizer: FP32 master weights and two moments, flat, and a moving average if the plan keeps
/// one. ZeRO-1 shards the optimizer, ZeRO-2 the gradients too, ZeRO-3 the weights too: replicated
/// parameters over the data-parallel ranks of all holders of the stage, experts over those of them
/// that hold the same ones. Communication: a message in and one out per pass and direction.
/// Sources: Rajbhandari et al. 2020 (arXiv 1910.02054), section 5; DeepSeek-V3 report (arXiv
/// 2412.19437), sections 3.2.3, 3.3.3.
/// A schedule of forwards only has neither gradients nor optimizer.
/// @throws Error as replica_groups
PersistentMemory persistent_memory(const Scenario& scenario, const PlanSpec& plan,
                                   const Schedule& schedule, int rank);

}  // namespace pipecast
