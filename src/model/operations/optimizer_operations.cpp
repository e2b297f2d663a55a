#include "model/operations/optimizer_operations.hpp"

#include "base/error.hpp"
#include "model/operations/launch_list.hpp"

namespace pipecast {

std::vector<Operation> optimizer_operations(const PlanSpec& plan, const OptimizerLoad& load) {
  require(load.shard_parameters >= 0 && load.fp8_parameters >= 0,
          "the optimizer's load must not be negative: shard_parameters={} fp8_parameters={}",
          load.shard_parameters, load.fp8_parameters);
  const PrecisionSpec& p = plan.precision;
  const MemoryFormats formats{.gradients = p.gradients,
                              .moments = p.moments,
                              .master_weights = p.master_weights,
                              .parameter_gather = p.parameter_gather};
  std::vector<Operation> out;
  LaunchList list(out, plan);
  list.memory("grad_norm", {}, {load.shard_parameters}, formats);
  list.memory("adamw", {}, {load.shard_parameters}, formats);
  if (plan.memory.ema == MemoryPlace::kDevice) {
    // AdamW has the new weight at hand: one FP32 number more is read and written.
    list.pointwise("ema", Precision::kFp32, {.rows = 1, .columns = load.shard_parameters});
  }
  if (p.gemm == Precision::kFp8 && load.fp8_parameters > 0) {
    list.memory("cast_fp8_128x128", {}, {load.fp8_parameters}, formats);
  }
  return out;
}

}  // namespace pipecast
