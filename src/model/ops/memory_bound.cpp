/// Kernels that move more than they compute: their bytes over what streaming kernels reach of HBM.
/// Not modelled: reuse in L2 between neighbouring kernels, uncoalesced access, few thread blocks.
#include "model/ops/kernel_cost.hpp"

namespace pipecast {

namespace {

KernelCost stream(const Operation& op, const GpuSpec& gpu, const CalibrationSpec& calibration,
                  int) {
  return streaming(op, gpu, calibration);
}

const Constant& hbm(const CalibrationSpec& calibration) { return calibration.link.hbm; }

const Register<KernelKind> kEntries[] = {
    {"adamw", {stream, hbm}},
    {"attention_bwd_convert_dq", {stream, hbm}},
    {"attention_bwd_preprocess", {stream, hbm}},
    {"cast_e5m6", {stream, hbm}},
    {"cast_fp8_128x128", {stream, hbm}},
    {"cast_fp8_1x128", {stream, hbm}},
    {"cast_transpose_fp8_128x1", {stream, hbm}},
    {"copy_strided", {stream, hbm}},
    {"cross_entropy_bwd", {stream, hbm}},
    {"cross_entropy_fwd", {stream, hbm}},
    {"elementwise", {stream, hbm}},
    {"embedding_grad", {stream, hbm}},
    {"embedding_lookup", {stream, hbm}},
    {"expert_count", {stream, hbm}},
    {"fill_tensormaps", {stream, hbm}},
    {"grad_norm", {stream, hbm}},
    {"group_topk_sum", {stream, hbm}},
    {"memcpy", {stream, hbm}},
    {"memset", {stream, hbm}},
    {"permute", {stream, hbm}},
    {"permute_map", {stream, hbm}},
    {"permute_with_scales", {stream, hbm}},
    {"rmsnorm_bwd", {stream, hbm}},
    {"rmsnorm_bwd_finalize", {stream, hbm}},
    {"rmsnorm_fwd", {stream, hbm}},
    {"rope", {stream, hbm}},
    {"swiglu_bwd", {stream, hbm}},
    {"swiglu_bwd_shared", {stream, hbm}},
    {"swiglu_fwd", {stream, hbm}},
    {"swiglu_fwd_and_cast_fp8", {stream, hbm}},
    {"swiglu_fwd_bwd_routed", {stream, hbm}},
    {"swiglu_recompute_and_cast_transpose", {stream, hbm}},
    {"swiglu_weight_bwd", {stream, hbm}},
    {"topk", {stream, hbm}},
    {"transpose_fp8", {stream, hbm}},
    {"transpose_scales", {stream, hbm}},
    {"uncast_e5m6", {stream, hbm}},
    {"uncast_fp8", {stream, hbm}},
    {"unpermute_reduce", {stream, hbm}},
};

}  // namespace

}  // namespace pipecast
