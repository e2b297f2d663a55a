/// Every kind of launch that a training step makes on a GPU.
#pragma once

#include <vector>

#include "model/operations/operation.hpp"
#include "model/specs/scenario.hpp"

namespace pipecast {

/// The launches of one layer of every kind in the plan's layout at balanced routing, phase by
/// phase, and of the optimizer's step on the GPU that holds the layout's first stage.
/// @param shard_parameters  that this GPU updates
/// @throws Error as layer_operations() and optimizer_operations()
std::vector<Operation> step_operations(const Scenario& scenario, const PlanSpec& plan,
                                       std::int64_t shard_parameters);

}  // namespace pipecast
