/// Attention of a training step, forward and backward: BF16 tensor cores on the causal half of the
/// matrix. Not modelled: the softmax between the two products, partly filled diagonal tiles.
#include "model/ops/kernel_cost.hpp"

namespace pipecast {

namespace {

template <Constant TensorEfficiency::*kEfficiency>
const Constant& constant(const CalibrationSpec& calibration) {
  return calibration.tensor.*kEfficiency;
}

template <Constant TensorEfficiency::*kEfficiency>
KernelCost attention(const Operation& op, const GpuSpec& gpu, const CalibrationSpec& calibration,
                     int sms) {
  const FlopRate peak = gpu.tensor_peak(Precision::kBf16, sms);
  return roofline(op, peak * constant<kEfficiency>(calibration).value, gpu, calibration);
}

const Register<KernelKind> kEntries[] = {
    {"attention_fwd",
     {attention<&TensorEfficiency::attention_forward>,
      constant<&TensorEfficiency::attention_forward>}},
    {"attention_bwd",
     {attention<&TensorEfficiency::attention_backward>,
      constant<&TensorEfficiency::attention_backward>}},
};

}  // namespace

}  // namespace pipecast
