/// What dispatch and combine need besides the transfer itself, which model/collectives/ costs.
#include "model/ops/kernel_cost.hpp"

namespace pipecast {

namespace {

const Constant& notify(const CalibrationSpec& calibration) {
  return calibration.communication.notify_us;
}
const Constant& hbm(const CalibrationSpec& calibration) { return calibration.link.hbm; }

/// Exchange of token counts between the GPUs of the group, without waiting for late ones.
KernelCost exchange_counts(const Operation& op, const GpuSpec&, const CalibrationSpec& calibration,
                           int) {
  return {.time = duration_from_seconds(notify(calibration).value * 1e-6),
          .flops = op.flops,
          .hbm_bytes = op.read + op.written,
          .limited_by = Limit::kLatency};
}

KernelCost layout(const Operation& op, const GpuSpec& gpu, const CalibrationSpec& calibration,
                  int) {
  return streaming(op, gpu, calibration);
}

const Register<KernelKind> kEntries[] = {
    {"ep_cached_notify", {exchange_counts, notify}},
    {"ep_layout", {layout, hbm}},
    {"ep_notify", {exchange_counts, notify}},
};

}  // namespace

}  // namespace pipecast
