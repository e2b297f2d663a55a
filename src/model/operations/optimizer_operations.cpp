#include "model/operations/optimizer_operations.hpp"

#include "base/error.hpp"
#include "model/operations/launch_list.hpp"

namespace pipecast {

std::vector<Operation> optimizer_operations(const PlanSpec& plan, const OptimizerLoad& load) {
  require(load.shard_parameters >= 0 && load.fp8_parameters >= 0,
          "the optimizer's load must not be negative: shard_parameters={} fp8_parameters={}",
          load.shard_parameters, load.fp8_parameters);
  const PrecisionSpec& p = plan.precision;
  const auto shard = [&](Precision format) {
    return stored_bytes(format, 1, load.shard_parameters);
  };
  std::vector<Operation> out;
  LaunchList list(out, plan);
  list.move("grad_norm", {}, p.gradients, shard(p.gradients), Bytes());
  const Bytes state = shard(p.master_weights) + shard(p.moments) + shard(p.moments);
  list.move("adamw", {}, p.master_weights, shard(p.gradients) + state,
            state + shard(p.parameter_gather));
  if (p.gemm == Precision::kFp8 && load.fp8_parameters > 0) {
    list.move("cast_fp8_128x128", {}, Precision::kFp8,
              stored_bytes(p.parameter_gather, 1, load.fp8_parameters), Bytes(load.fp8_parameters));
  }
  return out;
}

}  // namespace pipecast
