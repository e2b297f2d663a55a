#include "model/ops/kernel_cost.hpp"

namespace pipecast {

std::string_view name_of(Limit limit) {
  switch (limit) {
    case Limit::kTensor:
      return "tensor";
    case Limit::kHbm:
      return "hbm";
    case Limit::kL2:
      return "l2";
    case Limit::kSmem:
      return "smem";
    case Limit::kPromotion:
      return "promotion";
    case Limit::kIssue:
      return "issue";
    case Limit::kLatency:
      return "latency";
    case Limit::kOccupancy:
      return "occupancy";
  }
  return "";
}

KernelCost kernel_cost(const Operation& operation, const GpuSpec& gpu,
                       const CalibrationSpec& calibration, int sms) {
  KernelCost cost =
      Registry<KernelKind>::instance().find(operation.op).cost(operation, gpu, calibration, sms);
  if (cost.cycles == 0) {
    // The model knows a time and no cycles: those that pass meanwhile at the vendor's clock.
    cost.clock = gpu.tensor_clock;
    cost.cycles = to_seconds(cost.time) * cost.clock.count();
    cost.parts = {KernelPart{name_of(cost.limited_by), cost.cycles}};
  }
  return cost;
}

}  // namespace pipecast
