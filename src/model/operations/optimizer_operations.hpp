/// The kernels of the optimizer step on one GPU.
#pragma once

#include <cstdint>
#include <vector>

#include "model/operations/operation.hpp"
#include "model/specs/plan.hpp"

namespace pipecast {

/// Parameters that one GPU works on in the optimizer step.
struct OptimizerLoad {
  std::int64_t shard_parameters = 0;  ///< whose master weights and moments it updates
  std::int64_t fp8_parameters = 0;    ///< held, and multiplied in FP8 where the plan says so
};

/// Gradient norm and AdamW on the shard, and the moving average where the GPU keeps it; after the
/// parameters were gathered, the FP8 copies of the held weights. Bytes follow from the plan's
/// precisions. Reduce-scatter and all-gather are the cluster's.
/// @throws Error if a count is negative
std::vector<Operation> optimizer_operations(const PlanSpec& plan, const OptimizerLoad& load);

}  // namespace pipecast
