/// The optimizer's share of a step: reduce gradients, update this GPU's shard, gather parameters.
#pragma once

#include "model/arithmetic/parameters.hpp"
#include "sim/cluster/step_plan.hpp"

namespace pipecast {

/// Dense parameters are reduced over every replica on every holder of the stage, experts over the
/// replicas of the same expert; ZeRO-1 shards master weights and moments over the same sets.
/// Without ZeRO every GPU updates everything it holds, and gradients are gathered instead of
/// parameters.
/// @param held     parameters of all stages that one GPU of the group holds
/// @param holders  pipeline ranks that hold the same stages
/// Not modelled: overlap of the collectives with the last backward passes; the two sets share the
/// NIC one after the other.
OptimizerPlan plan_optimizer(const Scenario& scenario, const PlanSpec& plan,
                             const HeldParameters& held, int holders, const Placement& placement);

/// All-reduce of one number over all GPUs: a tree up and down, latency only.
Duration all_reduce_latency(const ClusterSpec& cluster);

}  // namespace pipecast
