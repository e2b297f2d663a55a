#include "model/ops/kernel_cost.hpp"

#include <algorithm>

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

KernelCost streaming(const Operation& operation, const GpuSpec& gpu,
                     const CalibrationSpec& calibration) {
  const Bytes bytes = operation.read + operation.written;
  const Duration memory = bytes / Bandwidth(gpu.hbm_bandwidth.count() * calibration.link.hbm.value);
  const Duration floor = duration_from_seconds(calibration.latency.kernel_us.value * 1e-6);
  return {.time = std::max(memory, floor),
          .flops = operation.flops,
          .hbm_bytes = bytes,
          .limited_by = memory >= floor ? Limit::kHbm : Limit::kLatency};
}

KernelCost roofline(const Operation& operation, FlopRate tensor_rate, const GpuSpec& gpu,
                    const CalibrationSpec& calibration) {
  KernelCost cost = streaming(operation, gpu, calibration);
  const Duration compute = operation.flops / tensor_rate;
  if (compute > cost.time) {
    cost.time = compute;
    cost.limited_by = Limit::kTensor;
  }
  return cost;
}

}  // namespace pipecast
