/// The optimizer's share of a step: reduce gradients, update this GPU's shard, gather parameters.
#pragma once

#include "model/arithmetic/parameters.hpp"
#include "sim/cluster/step_plan.hpp"

namespace pipecast {

/// Dense parameters are reduced over every replica on every holder of the stage, experts over the
/// replicas of the same expert; ZeRO-1 shards master weights and moments over the same sets.
/// Without ZeRO every GPU updates everything it holds, and gradients are gathered instead of
/// parameters. ZeRO-2 reduces gradients inside chunks (shard_moves.hpp), and ZeRO-3 gathers weights
/// there: then nothing is left of that for the step's end (Rajbhandari et al. 2020, arXiv
/// 1910.02054, sections 5 and 7).
///
/// An optimizer on the host sends master weights and moments through the GPU beside AdamW, at
/// PCIe's line rate. A moving average of the parameters on the GPU is one more number that the
/// update reads and writes; one on the host takes no time of the GPU's, it is copied and updated
/// there while the next step runs (DeepSeek-V3 report, section 3.2.3).
/// @param held     parameters of all stages that one GPU of the group holds
/// @param holders  pipeline ranks that hold the same stages
/// Not modelled: overlap of the collectives with the last backward passes; the two sets share the
/// NIC one after the other; NIC traffic beside the optimizer's on PCIe; pageable host memory.
OptimizerPlan plan_optimizer(const Scenario& scenario, const PlanSpec& plan,
                             const HeldParameters& held, int holders, const Placement& placement);

/// All-reduce of one number over all GPUs: a tree up and down, latency only.
Duration all_reduce_latency(const ClusterSpec& cluster);

}  // namespace pipecast
